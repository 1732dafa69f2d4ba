"""/tmp as a folder of the host's own file system: what every back end promises holds on ext4, XFS and btrfs with quotas
too, and what a killed engine leaves there is removed by the next."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.errors import HostUnfit, SandboxFault
from engine.sandbox import box
from engine.sandbox.scratch import ScratchPool
from engine.sandbox.scratch_backends import Backend, Tmpfs
from engine.sandbox.scratch_choice import choose
from engine.sandbox.scratch_folders import Projects, Subvolumes, sweep
from engine.sandbox.scratch_probe import probe_tmp
from engine.sandbox.scratch_template import FILES_PER_MB
from tests.native.filesystems import ALL, MB, UNLIMITED, Kind, fill, kinds, mounted
from tests.native.tmp import create, create_as_nobody, folder_of, write_as_nobody

pytestmark = pytest.mark.privileged

SIZE_MB = 32
NAME = "a-name-that-tells-who-it-is-about"
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
FS_IOC_GET_ENCRYPTION_POLICY_EX, FS_IOC_GET_ENCRYPTION_KEY_STATUS = 0xC0096616, 0xC080661A
BTRFS_IOC_SUBVOL_CREATE = 0x5000940E
SYS_QUOTACTL_FD, Q_GETQUOTA_OF_PROJECTS = 443, 0x80000700 | 2


@dataclass(frozen=True)
class Place:
    """Where an engine with one of these back ends keeps its /tmp."""

    kind: Kind
    disk: Path
    backend: Backend

    @property
    def scratch(self) -> Path:
        return self.disk / "scratch"

    def folders(self) -> list[str]:
        return os.listdir(self.scratch / "folders")


@pytest.fixture(params=kinds())
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    kind = ALL[request.param]
    with mounted(kind, tmp_path) as disk:
        yield Place(kind, disk, choose(disk / "scratch", ["tmp-encryption=none"], asked=kind.backend))


@pytest.fixture
def scratch(place: Place) -> Iterator[box.Scratch]:
    made = place.backend.make(SIZE_MB)
    yield made
    made.close()


def project_of(fd: int) -> int:
    """The project of what `fd` has open: struct fsxattr in linux/fs.h."""
    attributes = bytearray(28)
    fcntl.ioctl(fd, FS_IOC_FSGETXATTR, attributes)
    return int(struct.unpack_from("<I", attributes, 12)[0])


def quota_of(disk: Path, project: int) -> tuple[int, int, int]:
    """Bytes allowed, bytes stored and files of a project: struct if_dqblk in linux/quota.h."""
    found = bytearray(72)
    fd = os.open(disk, os.O_RDONLY)
    try:
        buffer = (ctypes.c_char * len(found)).from_buffer(found)
        asked = ctypes.CDLL(None, use_errno=True).syscall(
            SYS_QUOTACTL_FD, fd, ctypes.c_uint(Q_GETQUOTA_OF_PROJECTS), project, buffer
        )
        assert asked == 0 or ctypes.get_errno() in (errno.ENOENT, errno.ESRCH)
    finally:
        os.close(fd)
    allowed, _, stored, _, _, files = struct.unpack_from("<6Q", found)
    return allowed * 1_024, stored, files


def nothing_is_left_of(disk: Path, project: int) -> bool:
    """Whether a project has neither files nor limits. XFS takes away what was removed in its own time."""
    until = time.monotonic() + 20
    while quota_of(disk, project) != (0, 0, 0) and time.monotonic() < until:
        os.statvfs(disk)
        time.sleep(0.01)
    return quota_of(disk, project) == (0, 0, 0)


def key_of(folder: int) -> bytes:
    """The identifier of the key that a folder is encrypted with: fscrypt_get_policy_ex_arg in linux/fscrypt.h."""
    policy = bytearray(struct.pack("<Q", 24) + bytes(24))
    fcntl.ioctl(folder, FS_IOC_GET_ENCRYPTION_POLICY_EX, policy)
    return bytes(policy[16:32])


def key_is_there(disk: Path, key: bytes) -> bool:
    """Whether a file system has a key: fscrypt_get_key_status_arg in linux/fscrypt.h."""
    argument = bytearray(struct.pack("<II32s", 2, 0, key) + bytes(88))
    fd = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FS_IOC_GET_ENCRYPTION_KEY_STATUS, argument)
    finally:
        os.close(fd)
    return int(struct.unpack_from("<I", argument, 64)[0]) != 1  # FSCRYPT_KEY_STATUS_ABSENT


def make_a_mess(folder: int) -> None:
    """Files of every kind, and a tree that is deep and wide."""
    path = f"/proc/self/fd/{folder}"
    for name in (NAME, "new\nline", "-rf", "x" * 143):
        file = create(folder, name)
        os.write(file, bytes(10_000))
        os.close(file)
    os.symlink("/", f"{path}/link")
    os.link(f"{path}/{NAME}", f"{path}/hard")
    os.mkfifo(f"{path}/fifo")
    os.mkdir(f"{path}/closed", 0)
    for branch in range(3):
        os.mkdir(f"{path}/{branch}")
        here = os.open(f"{path}/{branch}", os.O_RDONLY)
        for _ in range(300):
            os.mkdir("beside", dir_fd=here)
            os.mkdir("down", dir_fd=here)
            below = os.open("down", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)


def test_a_fresh_one_is_empty_open_to_all_and_without_rights_from_modes(scratch: box.Scratch) -> None:
    with folder_of(scratch) as folder:
        assert os.listdir(folder) == []
        assert os.fstat(folder).st_mode & 0o7777 == 0o1777
        flags = os.fstatvfs(folder).f_flag
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV


def test_a_file_of_the_whole_quota_fits_and_no_more_does(place: Place, scratch: box.Scratch) -> None:
    with folder_of(scratch) as folder:
        assert write_as_nobody(folder, "whole", SIZE_MB * MB, really=True) == (SIZE_MB * MB, 0)
        more, refused = write_as_nobody(folder, "more", MB, really=True)
        assert refused == place.kind.over
        assert more <= max(SIZE_MB * MB // 50, MB // 2)
        assert SIZE_MB * MB <= scratch.used() < SIZE_MB * MB * 1.04
        if place.kind.limits_files:  # df inside shows the quota; btrfs has no way to
            room = os.fstatvfs(folder)
            assert SIZE_MB * MB <= room.f_blocks * room.f_frsize < SIZE_MB * MB * 1.02
            assert room.f_bavail * room.f_frsize < MB // 2


def test_files_past_the_limit_are_refused(place: Place) -> None:
    size_mb = 1
    scratch = place.backend.make(size_mb)
    with folder_of(scratch) as folder:
        made, refused = create_as_nobody(folder, 100_000)
    scratch.close()
    assert refused == place.kind.over
    # On btrfs what describes them ends at the limit of bytes.
    assert made == size_mb * FILES_PER_MB if place.kind.limits_files else made > size_mb * FILES_PER_MB


def test_a_full_one_is_nothing_to_its_neighbour_which_sees_nothing_of_it(place: Place, scratch: box.Scratch) -> None:
    other = place.backend.make(SIZE_MB)
    with folder_of(scratch) as first, folder_of(other) as second:
        assert write_as_nobody(first, "bomb", 2 * SIZE_MB * MB, really=True)[1] == place.kind.over
        assert os.listdir(second) == []
        assert write_as_nobody(second, "mine", SIZE_MB * MB, really=True) == (SIZE_MB * MB, 0)
    other.close()


def test_use_is_counted_by_itself(place: Place, scratch: box.Scratch) -> None:
    other = place.backend.make(SIZE_MB)
    before = scratch.used()
    with folder_of(scratch) as folder, folder_of(other) as elsewhere:
        for where, size in ((folder, 3), (elsewhere, 9)):
            file = create(where, "some")
            os.write(file, bytes(size * MB))
            os.close(file)
    assert 3 * MB <= scratch.used() - before < 4 * MB
    other.close()


def test_its_end_leaves_nothing_of_any_shape_of_tree(place: Place) -> None:
    scratch = place.backend.make(SIZE_MB)
    assert place.folders() == [scratch.device]
    with folder_of(scratch) as folder:
        make_a_mess(folder)
        project = project_of(folder) if place.kind.backend == "project" else 0
        key = key_of(folder) if place.kind.encrypts else b""
    if project:
        assert quota_of(place.disk, project)[0] >= SIZE_MB * MB
    if key:
        assert key_is_there(place.disk, key)
    scratch.close()
    scratch.close()
    assert place.folders() == []
    if project:
        assert nothing_is_left_of(place.disk, project)
    if key:
        assert not key_is_there(place.disk, key)


def test_none_is_used_again(scratch: box.Scratch) -> None:
    assert not scratch.renew()


def test_where_the_file_system_encrypts_each_has_a_key_of_its_own(place: Place, scratch: box.Scratch) -> None:
    assert place.backend.encrypted is place.kind.encrypts
    if place.kind.encrypts:
        other = place.backend.make(SIZE_MB)
        with folder_of(scratch) as first, folder_of(other) as second:
            assert key_of(first) != key_of(second)
        other.close()
        return
    with pytest.raises(HostUnfit, match="encrypted") as caught:
        choose(place.scratch, (), asked=place.kind.backend)
    assert '"tmp-encryption=none"' in caught.value.fix
    assert not choose(place.scratch, (), asked=place.kind.backend, encrypt=False).encrypted


def test_one_that_somebody_still_has_a_file_in_keeps_its_limits(place: Place) -> None:
    if place.kind.backend != "project":
        return  # a subvolume is out of everybody's sight at once, and its limit goes with the last of it
    scratch = place.backend.make(SIZE_MB)
    with folder_of(scratch) as folder:
        project = project_of(folder)
        held = create(folder, "held")
        os.write(held, bytes(MB))
    name = scratch.device
    scratch.close()
    assert place.folders() == [name]
    assert quota_of(place.disk, project)[0] >= SIZE_MB * MB
    os.close(held)
    assert sweep(place.scratch) == 1
    assert place.folders() == []
    assert nothing_is_left_of(place.disk, project)


def test_what_a_killed_engine_left_the_next_start_removes(place: Place) -> None:
    program = f"""
import os, sys, time
from pathlib import Path
from engine.sandbox.scratch import ScratchPool
from engine.sandbox.scratch_choice import choose
from tests.native.test_scratch_folders import make_a_mess
from tests.native.tmp import folder_of
backend = choose(Path({str(place.scratch)!r}), ["tmp-encryption=none"], asked={place.kind.backend!r})
pool = ScratchPool(backend, target=2, submit=lambda job: None)
pool.fill({SIZE_MB}, 2)
held = pool.take({SIZE_MB})
with folder_of(held) as folder:
    make_a_mess(folder)
more = pool.take({SIZE_MB})
pool.fill({SIZE_MB}, 1)
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
    names = place.folders()
    assert len(names) == 3
    keys = []
    for name in names if place.kind.encrypts else ():
        fd = os.open(place.scratch / "folders" / name, os.O_RDONLY)
        keys.append(key_of(fd))
        os.close(fd)
    assert all(key_is_there(place.disk, key) for key in keys)
    choose(place.scratch, ["tmp-encryption=none"], asked=place.kind.backend)
    assert place.folders() == []
    assert not any(key_is_there(place.disk, key) for key in keys)
    if place.kind.backend == "project":
        assert all(nothing_is_left_of(place.disk, int(name, 16)) for name in names)


def test_one_whose_engine_was_killed_while_it_made_or_removed_it_is_removed(place: Place) -> None:
    holds = place.scratch / "folders"
    (holds / "0a0a0a0a").mkdir()
    if place.kind.backend == "project":
        for name, project in (("0b0b0b0b", 0x0B0B0B0B), ("0c0c0c0c", 0x0C0C0C0C)):
            (holds / name).mkdir()
            fd = os.open(holds / name, os.O_RDONLY)
            attributes = struct.pack("<IIIII8x", 0x200, 0, 0, project, 0)  # FS_XFLAG_PROJINHERIT
            fcntl.ioctl(fd, FS_IOC_FSSETXATTR, attributes)
            os.close(fd)
        (holds / "0c0c0c0c" / "file").write_bytes(bytes(MB))
    else:
        fd = os.open(holds, os.O_RDONLY)
        fcntl.ioctl(fd, BTRFS_IOC_SUBVOL_CREATE, bytearray(struct.pack("<q4088s", 0, b"0b0b0b0b")))
        os.close(fd)
    assert sweep(place.scratch) == (3 if place.kind.backend == "project" else 2)
    assert place.folders() == []
    assert sweep(place.scratch) == 0


def test_a_project_of_somebody_elses_keeps_its_limits(place: Place, scratch: box.Scratch) -> None:
    if place.kind.backend != "project":
        return
    with folder_of(scratch) as folder:
        project = project_of(folder)
    left = place.disk / "other" / "folders" / "0a0a0a0a"
    left.mkdir(parents=True)
    fd = os.open(left, os.O_RDONLY)
    fcntl.ioctl(fd, FS_IOC_FSSETXATTR, struct.pack("<IIIII8x", 0x200, 0, 0, project, 0))
    os.close(fd)
    assert sweep(place.disk / "other") == 1
    assert quota_of(place.disk, project)[0] >= SIZE_MB * MB


def test_what_was_left_is_removed_whatever_the_next_engine_uses(place: Place) -> None:
    pid = os.fork()
    if pid == 0:
        _held = place.backend.make(SIZE_MB)
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(place.folders()) == 1
    choose(place.scratch, (), asked="tmpfs")
    assert place.folders() == []


def test_a_pool_has_them_ready_and_its_end_takes_all_away(place: Place) -> None:
    pool = ScratchPool(place.backend, target=2, submit=lambda job: None)
    pool.fill(SIZE_MB, 2)
    ready = set(place.folders())
    assert len(ready) == 2
    first = pool.take(SIZE_MB)
    assert set(place.folders()) == ready, "one was made although one was ready"
    with folder_of(first) as folder:
        os.close(create(folder, "secret"))
    used = first.device
    first.close()
    assert set(place.folders()) == ready - {used}
    for _ in range(3):
        tmp = pool.take(SIZE_MB)
        with folder_of(tmp) as folder:
            assert os.listdir(folder) == []
        tmp.close()
    pool.close()
    assert place.folders() == []


def test_on_a_full_disk_none_is_made_and_again_when_there_is_room(place: Place) -> None:
    ballast = fill(place.disk)
    with pytest.raises(SandboxFault, match="No space") as caught:
        place.backend.make(SIZE_MB)
    assert caught.value.errno == errno.ENOSPC
    assert f"free {SIZE_MB} MB" in caught.value.fix
    ballast.unlink()
    os.sync()
    place.backend.make(SIZE_MB).close()


def test_the_probe_names_the_mechanism_and_changes_nothing(place: Place) -> None:
    quota, encryption = probe_tmp(
        place.scratch, ["tmp-encryption=none"], encrypt=True, max_sandboxes=1, asked=place.kind.backend
    )
    assert (quota.limit, quota.enforced, quota.mechanism) == ("tmp", True, place.backend.mechanism)
    assert "does not count as memory" in quota.detail
    assert encryption.enforced
    assert ("fscrypt" in encryption.mechanism) is place.kind.encrypts
    strict = probe_tmp(place.scratch, (), encrypt=True, max_sandboxes=1, asked=place.kind.backend)[1]
    assert strict.enforced is place.kind.encrypts
    assert place.kind.encrypts or "tmp-encryption" in strict.fix
    assert os.listdir(place.scratch) == ["folders"]


# Where it does not work


def test_quotas_that_are_off_are_turned_on_where_they_were_asked_for_alone(tmp_path: Path) -> None:
    with mounted(ALL["btrfs"], tmp_path) as disk:
        accepted = ["tmp-encryption=none"]
        quota, _ = probe_tmp(disk, accepted, encrypt=True, max_sandboxes=1, asked="btrfs")
        assert not quota.enforced
        assert "quotas are off" in quota.detail
        assert "btrfs quota enable" in quota.fix
        with pytest.raises(SandboxFault, match="quotas are off"):
            Subvolumes(disk, encrypt=False).make(SIZE_MB)
        assert os.listdir(disk / "folders") == []
        choose(disk, accepted, asked="btrfs")
        assert probe_tmp(disk, accepted, encrypt=True, max_sandboxes=1, asked="btrfs")[0].enforced


@pytest.mark.parametrize(("asked", "needed"), [("project", "prjquota"), ("btrfs", "btrfs")])
def test_one_that_was_asked_for_and_does_not_work_is_refused_with_what_to_do(
    tmp_path: Path, asked: str, needed: str
) -> None:
    with mounted(UNLIMITED, tmp_path) as disk:
        with pytest.raises(HostUnfit, match=f'tmp_backend = "{asked}"') as caught:
            choose(disk, ["tmp=tmpfs", "tmp-encryption=none"], asked=asked)  # type: ignore[arg-type]
        assert needed in caught.value.fix
        assert '"auto"' in caught.value.fix
        quota = probe_tmp(disk, (), encrypt=True, max_sandboxes=1, asked=asked)[0]  # type: ignore[arg-type]
        assert (quota.enforced, quota.fix) == (False, caught.value.fix)
        assert os.listdir(disk) == ["folders"]
        assert os.listdir(disk / "folders") == []


@pytest.mark.parametrize("asked", ["project", "btrfs"])
def test_only_images_can_set_the_whole_quota_aside(tmp_path: Path, asked: str) -> None:
    with pytest.raises(HostUnfit, match="only loop images") as caught:
        choose(tmp_path, ["tmp-encryption=none"], asked=asked, reserve=True)  # type: ignore[arg-type]
    assert "tmp_reserve = false" in caught.value.fix


def test_memory_is_used_where_it_was_asked_for_by_name(tmp_path: Path) -> None:
    assert isinstance(choose(tmp_path, (), asked="tmpfs"), Tmpfs)
    quota, encryption = probe_tmp(tmp_path, (), encrypt=True, max_sandboxes=1, asked="tmpfs")
    assert (quota.enforced, quota.mechanism) == (True, "tmpfs (counts as memory)")
    assert "counts as the function's memory" in quota.detail
    assert encryption.enforced


def test_without_loop_devices_quotas_are_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(template: bytes, folder: bytes, *, encrypt: bool, reserve: bool, near: int) -> box.Scratch:
        raise SandboxFault("tmp loop device", errno.ENOENT, "cannot open /dev/loop-control")

    monkeypatch.setattr(box, "scratch_image", without)
    found = choose(place.scratch, ["tmp-encryption=none", "tmp=tmpfs"])
    assert isinstance(found, Projects if place.kind.backend == "project" else Subvolumes)
    if not place.kind.encrypts:
        with pytest.raises(HostUnfit, match="loop-control"):
            choose(place.scratch, ())
        assert isinstance(choose(place.scratch, ["tmp=tmpfs"]), Tmpfs)
