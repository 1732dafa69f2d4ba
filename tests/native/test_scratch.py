"""/tmp, as every back end makes it: the quota holds, each is empty, and closing it takes everything away."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import HostUnfit, SandboxFault
from engine.sandbox import box
from engine.sandbox.scratch_backends import Backend, Images, Tmpfs
from engine.sandbox.scratch_choice import choose
from engine.sandbox.scratch_probe import probe_tmp
from engine.sandbox.scratch_template import FILES_PER_MB, make_template
from tests.native.tmp import create, folder_of, loops_on, visible, write_as_nobody

pytestmark = pytest.mark.privileged

BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "images": Images,
    "images-plain": lambda folder: Images(folder, encrypt=False),
    "images-reserved": lambda folder: Images(folder, reserve=True),
    "tmpfs": lambda folder: Tmpfs(),
}
MB = 1 << 20


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    yield BACKENDS[request.param](tmp_path)
    until = time.monotonic() + 5
    while loops_on(tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    assert loops_on(tmp_path) == [], "a loop device outlived its mount"


@pytest.fixture
def make(backend: Backend) -> Iterator[Callable[..., box.Scratch]]:
    opened: list[box.Scratch] = []

    def make_one(size_mb: int = 512) -> box.Scratch:
        opened.append(backend.make(size_mb))
        return opened[-1]

    yield make_one
    for scratch in opened:
        scratch.close()


Make = Callable[..., box.Scratch]


def test_a_fresh_tmp_is_empty_and_open_to_all(make: Make) -> None:
    with folder_of(make()) as folder:
        assert os.listdir(folder) == []
        assert os.fstat(folder).st_mode & 0o7777 == 0o1777


@pytest.mark.parametrize("size_mb", [512, 700, 10_240])
def test_all_of_the_quota_is_there_and_hardly_more(make: Make, size_mb: int, request: pytest.FixtureRequest) -> None:
    if size_mb > 1_024 and request.node.callspec.params["backend"] == "images-reserved":
        return  # would take 10 GB of the disk
    with folder_of(make(size_mb)) as folder:
        room = os.fstatvfs(folder)
    assert size_mb * MB <= room.f_bavail * room.f_frsize < size_mb * MB * 1.02
    assert size_mb * FILES_PER_MB <= room.f_favail < size_mb * FILES_PER_MB * 1.05


@pytest.mark.parametrize("size_mb", [512, 10_240])
def test_a_file_of_the_whole_quota_fits_and_one_of_two_percent_more_does_not(
    make: Make, size_mb: int, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["backend"]
    if size_mb > 512 and name in ("tmpfs", "images-reserved"):
        return  # would take 10 GB of memory or of the disk; no other code than for 512 MB
    with folder_of(make(size_mb)) as folder:
        assert write_as_nobody(folder, "whole", size_mb * MB) == (size_mb * MB, 0)
        assert write_as_nobody(folder, "more", size_mb * MB // 50)[1] == errno.ENOSPC
        # What is removed can be stored again.
        os.unlink("whole", dir_fd=folder)
        assert write_as_nobody(folder, "again", size_mb * MB // 2) == (size_mb * MB // 2, 0)


@pytest.mark.parametrize("backend", ["images-plain", "tmpfs"], indirect=True)
def test_bytes_written_past_the_quota_are_refused(make: Make) -> None:
    # Encrypted ones are filled in tests/security/test_tmp.py.
    with folder_of(make()) as folder:
        written, refused = write_as_nobody(folder, "bomb", 540 * MB, really=True)
    assert refused == errno.ENOSPC
    assert 512 * MB <= written < 512 * MB * 1.02


def test_files_past_the_limit_are_refused(make: Make) -> None:
    made = 0
    refused = 0
    with folder_of(make()) as folder:
        while made < 2 * 512 * FILES_PER_MB and not refused:
            try:
                os.close(create(folder, str(made)))
                made += 1
            except OSError as error:
                refused = error.errno or -1
    assert refused == errno.ENOSPC
    assert 512 * FILES_PER_MB <= made < 512 * FILES_PER_MB * 1.05


def test_what_one_wrote_the_next_does_not_see(make: Make) -> None:
    with folder_of(make()) as first, folder_of(make()) as second:
        os.close(create(first, "secret"))
        assert os.listdir(second) == []


def test_use_is_counted(make: Make) -> None:
    scratch = make()
    before = scratch.used()
    with folder_of(scratch) as folder:
        file = create(folder, "some")
        os.write(file, bytes(3 * MB))
        os.close(file)
    assert 3 * MB <= scratch.used() - before < 4 * MB


def test_nothing_of_it_has_a_name_on_the_host(make: Make, tmp_path: Path) -> None:
    before = visible(tmp_path)
    scratch = make()
    with folder_of(scratch) as folder:
        os.close(create(folder, "here"))
    assert visible(tmp_path) <= before | {"512.ext4"}
    scratch.close()
    scratch.close()
    with pytest.raises(ValueError, match="closed"):
        scratch.fileno()


def test_one_in_memory_is_made_in_a_user_namespace_too() -> None:
    program = """
import os
from engine.sandbox.scratch_backends import Tmpfs
scratch = Tmpfs().make(16)
room = os.fstatvfs(scratch.fileno())
assert room.f_bavail * room.f_frsize == 16 << 20, room
scratch.close()
"""
    inside = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", program]
    done = subprocess.run(inside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_missing_template_says_so(tmp_path: Path) -> None:
    with pytest.raises(SandboxFault, match="cannot open the template") as caught:
        box.scratch_image(b"/nowhere/at/all", os.fsencode(tmp_path), encrypt=True, reserve=False)
    assert caught.value.errno == errno.ENOENT


def test_a_loop_device_that_is_taken_or_not_there_leads_to_another(tmp_path: Path) -> None:
    template, folder = os.fsencode(make_template(tmp_path, 512)), os.fsencode(tmp_path)
    first = box.scratch_image(template, folder, encrypt=True, reserve=False)
    others = [
        box.scratch_image(template, folder, encrypt=True, reserve=False, near=near) for near in (first.loop, 1_000_000)
    ]
    assert len({one.loop for one in (first, *others)}) == 3
    for one in (first, *others):
        assert one.device == f"/dev/loop{one.loop}"
        one.close()


def test_a_template_that_was_damaged_is_made_again(tmp_path: Path) -> None:
    whole = make_template(tmp_path, 512)
    made = whole.stat().st_ino
    assert make_template(tmp_path, 512).stat().st_ino == made
    whole.write_bytes(whole.read_bytes()[:4_096])
    assert make_template(tmp_path, 512).stat().st_ino != made
    Images(tmp_path).make(512).close()


def test_a_formatted_image_that_nothing_was_put_into_is_no_template(tmp_path: Path) -> None:
    whole = make_template(tmp_path, 512)
    made = whole.stat().st_ino
    label = subprocess.run(["tune2fs", "-L", "", whole], capture_output=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin"})
    assert label.returncode == 0, label.stderr
    assert make_template(tmp_path, 512).stat().st_ino != made


def test_a_fresh_one_has_its_folder_and_nothing_else(tmp_path: Path) -> None:
    made = Images(tmp_path).make(512)
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=made.fileno())
    try:
        assert os.listdir(root) == ["tmp"]
        assert stat.S_IMODE(os.fstat(root).st_mode) == 0o700
        folder = os.stat("tmp", dir_fd=root)
        assert (stat.S_IMODE(folder.st_mode), folder.st_uid, folder.st_gid) == (0o1777, 0, 0)
    finally:
        os.close(root)
        made.close()


def test_without_mkfs_the_host_is_refused_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sandbox.scratch_template.shutil.which", lambda name, path: None)
    with pytest.raises(HostUnfit, match="mkfs") as caught:
        choose(tmp_path, ())
    assert "e2fsprogs" in caught.value.fix
    assert '"tmp=tmpfs"' in caught.value.fix
    assert isinstance(choose(tmp_path, ["tmp=tmpfs"]), Tmpfs)


def test_a_host_that_cannot_encrypt_is_refused_unless_that_was_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypted = box.scratch_image

    def without(template: bytes, folder: bytes, *, encrypt: bool, reserve: bool, near: int) -> box.Scratch:
        if encrypt:
            raise SandboxFault("tmp encryption", errno.EOPNOTSUPP, "this kernel or its ext4 takes no encryption key")
        return encrypted(template, folder, encrypt=False, reserve=reserve, near=near)

    monkeypatch.setattr(box, "scratch_image", without)
    with pytest.raises(HostUnfit, match="encrypted") as caught:
        choose(tmp_path, ["tmp=tmpfs"])
    assert '"tmp-encryption=none"' in caught.value.fix
    assert not choose(tmp_path, ["tmp-encryption=none"]).encrypted
    assert not choose(tmp_path, (), encrypt=False).encrypted


def test_the_probe_shows_what_holds_and_how_much_the_disk_could_take(tmp_path: Path) -> None:
    quota, encryption = probe_tmp(tmp_path, (), encrypt=True, max_sandboxes=1_000_000)
    assert (quota.limit, quota.enforced, quota.mechanism) == ("tmp", True, "ext4 image on a loop device")
    assert "fewer than max_sandboxes (1,000,000)" in quota.detail
    assert (encryption.limit, encryption.enforced) == ("tmp-encryption", True)
    assert "fscrypt" in encryption.mechanism
    assert probe_tmp(tmp_path, (), encrypt=False, max_sandboxes=1)[1].detail == "not asked for: tmp_encryption = false"
    assert visible(tmp_path) == set()


def test_the_probe_names_the_fix_where_something_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = box.scratch_image

    def without(template: bytes, folder: bytes, *, encrypt: bool, reserve: bool, near: int) -> box.Scratch:
        if encrypt:
            raise SandboxFault("tmp encryption", errno.EOPNOTSUPP, "this kernel or its ext4 takes no encryption key")
        return plain(template, folder, encrypt=False, reserve=reserve)

    monkeypatch.setattr(box, "scratch_image", without)
    quota, encryption = probe_tmp(tmp_path, (), encrypt=True, max_sandboxes=1)
    assert (quota.enforced, encryption.enforced) == (True, False)
    assert 'accept_weaker = ["tmp-encryption=none"]' in encryption.fix
    accepted = probe_tmp(tmp_path, ["tmp-encryption=none"], encrypt=True, max_sandboxes=1)[1]
    assert (accepted.enforced, accepted.detail) == (True, "the weaker form, accepted by the settings")
    monkeypatch.setattr("engine.sandbox.scratch_template.shutil.which", lambda name, path: None)
    assert [check.enforced for check in probe_tmp(tmp_path, (), encrypt=True, max_sandboxes=1)] == [False, False]
    assert probe_tmp(tmp_path, ["tmp=tmpfs"], encrypt=True, max_sandboxes=1)[0].mechanism == "tmpfs (counts as memory)"
