"""The pool of /tmp: ready ahead of need, used again, bounded; and what a full disk does to it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import HostUnfit, SandboxFault
from engine.sandbox import scratch_template
from engine.sandbox.counts import Counts, Resource
from engine.sandbox.scratch import ScratchPool
from engine.sandbox.scratch_backends import Images, Tmpfs
from tests.native.filesystems import fill
from tests.native.tmp import create, folder_of, loops_on, write_as_nobody

pytestmark = pytest.mark.privileged

Jobs = list[Callable[[], None]]


@pytest.fixture
def jobs() -> Jobs:
    return []


@pytest.fixture
def pool(tmp_path: Path, jobs: Jobs) -> Iterator[ScratchPool]:
    made = ScratchPool(Images(tmp_path), target=2, submit=jobs.append)
    yield made
    made.close()
    gone(tmp_path)


def gone(folder: Path) -> None:
    """The kernel takes a loop device away in its own time."""
    until = time.monotonic() + 5
    while loops_on(folder) and time.monotonic() < until:
        time.sleep(0.01)
    assert loops_on(folder) == []


def test_it_hands_out_what_it_made_ahead_and_refills(pool: ScratchPool, jobs: Jobs, tmp_path: Path) -> None:
    pool.fill(512, 5)
    assert (pool.ready, len(loops_on(tmp_path))) == (2, 2)
    first = pool.take(512)
    assert (pool.ready, len(loops_on(tmp_path))) == (1, 2), "one was made although one was ready"
    assert jobs == [], "the next may come back before it is needed"
    second = pool.take(512)
    assert len(jobs) == 1
    jobs[0]()
    assert (pool.ready, len(loops_on(tmp_path))) == (1, 3)
    first.discard()
    second.discard()


def test_what_is_given_back_is_handed_out_again_empty(pool: ScratchPool, tmp_path: Path) -> None:
    first = pool.take(512)
    device = first.device
    with folder_of(first) as folder:
        os.close(create(folder, "secret"))
    first.close()
    first.close()
    assert pool.ready == 1
    second = pool.take(512)
    assert second.device == device
    with folder_of(second) as folder:
        assert os.listdir(folder) == []
    second.discard()
    assert loops_on(tmp_path) == []


def test_what_the_kernel_still_holds_is_handed_out_again_once_it_is_let_go(pool: ScratchPool, tmp_path: Path) -> None:
    first = pool.take(512)
    device = first.device
    with folder_of(first):
        first.close()
        assert pool.ready == 0
    assert len(loops_on(tmp_path)) == 1  # not while it is held: to find out may take longer than it may rest
    until = time.monotonic() + 10
    while (second := pool.take(512)).device != device:
        assert time.monotonic() < until
        second.discard()
    second.discard()


def test_what_is_held_for_ever_is_taken_away(tmp_path: Path, jobs: Jobs) -> None:
    counts = Counts()
    pool = ScratchPool(Images(tmp_path), target=2, submit=jobs.append, counts=counts)
    first = pool.take(512)
    with folder_of(first):
        first.close()
        assert (pool.ready, counts.alive(Resource.TMP_MOUNTS)) == (0, 1)
        until = time.monotonic() + 10
        while counts.alive(Resource.TMP_MOUNTS):
            assert time.monotonic() < until
            pool.take(512).discard()
    pool.close()
    gone(tmp_path)


def test_what_is_held_goes_with_the_pool(pool: ScratchPool, tmp_path: Path) -> None:
    first = pool.take(512)
    with folder_of(first):
        first.close()
        pool.close()


def test_what_is_given_back_beyond_what_is_kept_is_taken_away(pool: ScratchPool, tmp_path: Path) -> None:
    taken = [pool.take(512) for _ in range(4)]
    for tmp in taken:
        tmp.close()
    assert pool.ready == 2
    assert len(loops_on(tmp_path)) == 2


def test_sizes_that_are_asked_for_no_more_make_room_for_others(pool: ScratchPool, tmp_path: Path) -> None:
    for size_mb in (512, 513, 514, 515, 516, 517):
        pool.fill(size_mb, 2)
    assert pool.ready == 8
    assert len(loops_on(tmp_path)) == 8
    pool.take(517).discard()
    assert pool.ready == 7


def test_a_size_that_is_expected_is_taken_without_a_format(
    pool: ScratchPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.expect(513)
    assert pool.ready == 1
    monkeypatch.setattr(scratch_template, "_format", None)
    pool.take(513).discard()
    pool.take(513).discard()
    with pytest.raises(TypeError):
        pool.take(514)


def test_expecting_a_size_sends_none_of_another_away(pool: ScratchPool, tmp_path: Path) -> None:
    for size_mb in (512, 513, 514, 515):
        pool.fill(size_mb, 2)
    pool.expect(516)
    assert pool.ready == 8
    assert (tmp_path / "516.ext4").exists()
    pool.take(512).discard()
    pool.expect(516)
    pool.expect(516)
    assert pool.ready == 8


def test_expecting_what_cannot_be_made_leaves_the_complaint_to_who_takes_it(
    pool: ScratchPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.sandbox.scratch_template.shutil.which", lambda name, path: None)
    pool.expect(513)
    with pytest.raises(HostUnfit, match=r"mkfs\.ext4 is missing"):
        pool.take(513)


def test_who_needs_a_size_that_is_being_formatted_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formatted: list[int] = []
    begun = threading.Event()
    whole = scratch_template._format

    def count(path: Path, size_mb: int) -> None:
        formatted.append(size_mb)
        begun.set()
        whole(path, size_mb)

    monkeypatch.setattr(scratch_template, "_format", count)
    images = Images(tmp_path)
    ahead = threading.Thread(target=images.prepare, args=(513,))
    ahead.start()
    begun.wait()
    images.make(513).close()
    ahead.join()
    assert formatted == [513]


def test_a_pool_of_none_makes_each_anew_and_keeps_none(tmp_path: Path, jobs: Jobs) -> None:
    pool = ScratchPool(Images(tmp_path), target=0, submit=jobs.append)
    pool.take(512).close()
    assert (pool.ready, jobs) == (0, [])
    gone(tmp_path)


def test_what_comes_back_after_the_end_is_taken_away(tmp_path: Path, jobs: Jobs) -> None:
    pool = ScratchPool(Images(tmp_path), target=2, submit=jobs.append)
    pool.fill(512, 1)
    late = pool.take(512)
    pool.close()
    late.close()
    jobs[0]()
    assert pool.ready == 0
    gone(tmp_path)


def test_a_tmpfs_is_made_when_it_is_needed(jobs: Jobs) -> None:
    pool = ScratchPool(Tmpfs(), target=2, submit=jobs.append)
    pool.take(512).close()
    assert (pool.ready, jobs) == (0, [])


def test_many_threads_share_it(pool: ScratchPool) -> None:
    problems: list[str] = []

    def churn() -> None:
        for _ in range(20):
            tmp = pool.take(512)
            with folder_of(tmp) as folder:
                if os.listdir(folder):
                    problems.append("not empty")
                os.close(create(folder, "mine"))
                if os.listdir(folder) != ["mine"]:
                    problems.append("not alone")
            tmp.close()

    threads = [threading.Thread(target=churn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


# A full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB, on which images lie."""
    path = tmp_path / "disk"
    path.mkdir()
    image = tmp_path / "disk.ext4"
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin"})
    subprocess.run(["mount", "-o", "loop", image, path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def write_through(folder: int) -> int:
    """Write 128 MB, each to the disk before the next: the errno of the first refusal."""
    big = create(folder, "big")
    try:
        for _ in range(128):
            os.write(big, os.urandom(1 << 20))
            os.fsync(big)
    except OSError as error:
        return error.errno or -1
    finally:
        os.close(big)
    return 0


def test_on_a_full_disk_none_is_made_or_handed_out_and_again_when_there_is_room(disk: Path, jobs: Jobs) -> None:
    pool = ScratchPool(Images(disk / "scratch"), target=1, submit=jobs.append)
    pool.fill(512, 1)
    ballast = fill(disk)
    for _ in range(2):
        with pytest.raises(SandboxFault, match="No space") as caught:
            pool.take(512)
        assert caught.value.errno == errno.ENOSPC
        assert "free 512 MB" in caught.value.fix
        assert str(disk) in caught.value.fix
    assert pool.ready == 1
    ballast.unlink()
    pool.take(512).close()
    pool.close()


def test_a_write_that_the_disk_has_no_room_for_fails_and_no_other_does(disk: Path) -> None:
    images = Images(disk / "scratch")
    writer, other = images.make(512), images.make(512)
    with folder_of(other) as folder:
        file = create(folder, "small")
        os.write(file, b"before")
        os.fsync(file)
    with folder_of(writer) as folder:
        assert write_through(folder) in (errno.EIO, errno.ENOSPC)
    # What is there already, and what has its place on the disk, goes on.
    with folder_of(other) as folder:
        os.pwrite(file, b"after!", 0)
        os.fsync(file)
        os.close(file)
        reader = os.open("small", os.O_RDONLY, dir_fd=folder)
        assert os.read(reader, 6) == b"after!"
        os.close(reader)
    writer.close()
    # Its end gives the disk its room back.
    with folder_of(other) as folder:
        assert write_as_nobody(folder, "more", 20 << 20, really=True) == (20 << 20, 0)
    other.close()


def test_one_whose_quota_is_set_aside_is_made_whole_or_not_at_all(disk: Path) -> None:
    images = Images(disk / "scratch", reserve=True)
    with pytest.raises(SandboxFault, match=r"cannot set \d+ MB aside") as caught:
        images.make(512)
    assert caught.value.errno == errno.ENOSPC
    assert "free 512 MB" in caught.value.fix
    kept = images.make(16)
    fill(disk)
    with folder_of(kept) as folder:
        assert write_as_nobody(folder, "all", 16 << 20, really=True) == (16 << 20, 0)
        file = os.open("all", os.O_RDONLY, dir_fd=folder)
        os.fsync(file)
        os.close(file)
    kept.close()


# kill -9


def test_nothing_is_left_of_a_pool_whose_process_was_killed(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from engine.sandbox.scratch import ScratchPool
from engine.sandbox.scratch_backends import Images
pool = ScratchPool(Images(Path({str(tmp_path)!r})), target=3, submit=lambda job: None)
pool.fill(512, 3)
used, held = pool.take(512), pool.take(512)
used.close()
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(loops_on(tmp_path)) == 3
        process.kill()
    gone(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"512.ext4"}
