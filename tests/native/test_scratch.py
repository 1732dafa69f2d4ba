"""/tmp on images: the quota holds, each is empty, and closing the descriptor takes everything away."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import SandboxFault
from engine.sandbox import box
from engine.sandbox.scratch import ScratchPool, make_template

pytestmark = pytest.mark.privileged

Open = Callable[[], int]


def backed_by(folder: Path) -> list[str]:
    """Loop devices over nameless files in `folder`."""
    found = []
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            name = device.read_text()
        except OSError:
            continue
        if name.startswith(str(folder)):
            found.append(name)
    return found


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Open]:
    template = make_template(tmp_path, 512)
    opened: list[int] = []

    def open_one() -> int:
        opened.append(box.scratch_mount(os.fsencode(template), os.fsencode(tmp_path)))
        return opened[-1]

    yield open_one
    for fd in opened:
        os.close(fd)
    until = time.monotonic() + 5
    while backed_by(tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    assert backed_by(tmp_path) == [], "a loop device outlived its mount"


def create(mount_fd: int, name: str) -> int:
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount_fd)
    try:
        return os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder)
    finally:
        os.close(folder)


def fill(fd: int, up_to: int) -> tuple[int, int]:
    """Write until the file system refuses; how much it took and the errno (0: it took all)."""
    block, written = bytes(8 << 20), 0
    try:
        while written < up_to:
            written += os.write(fd, block)
    except OSError as error:
        return written, error.errno or 0
    return written, 0


def test_a_fresh_tmp_is_empty_and_open_to_all(mount: Open) -> None:
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount())
    assert os.listdir(folder) == []
    assert os.fstat(folder).st_mode & 0o7777 == 0o1777
    os.close(folder)


def test_writing_past_the_quota_is_refused_by_the_file_system(mount: Open) -> None:
    fd = create(mount(), "bomb")
    written, refused = fill(fd, 600 << 20)
    os.close(fd)
    assert refused == errno.ENOSPC
    assert 470 << 20 < written <= 512 << 20


def test_what_one_wrote_the_next_does_not_see(mount: Open) -> None:
    first = mount()
    os.close(create(first, "secret"))
    second = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount())
    assert os.listdir(second) == []
    os.close(second)


def test_use_is_counted(mount: Open) -> None:
    fd = mount()
    before = box.mount_used(fd)
    file = create(fd, "some")
    os.write(file, bytes(3 << 20))
    assert (3 << 20) <= box.mount_used(fd) - before < (4 << 20)
    os.close(file)


def test_a_missing_template_says_so(tmp_path: Path) -> None:
    with pytest.raises(SandboxFault, match="cannot open the template") as caught:
        box.scratch_mount(b"/nowhere/at/all", os.fsencode(tmp_path))
    assert caught.value.errno == errno.ENOENT


def test_the_pool_hands_out_what_it_made_ahead_and_refills(tmp_path: Path) -> None:
    jobs: list[Callable[[], None]] = []
    pool = ScratchPool(tmp_path, target=2, submit=jobs.append)
    pool.fill(512, 2)
    assert len(backed_by(tmp_path)) == 2
    fd = pool.take(512)
    assert len(backed_by(tmp_path)) == 2, "one was made although one was ready"
    assert len(jobs) == 1
    jobs[0]()
    assert len(backed_by(tmp_path)) == 3
    os.close(fd)
    pool.close()
    until = time.monotonic() + 5
    while backed_by(tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    assert backed_by(tmp_path) == []
