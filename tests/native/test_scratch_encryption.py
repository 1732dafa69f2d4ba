"""/tmp at rest: what is stored cannot be read from the disk, the key is gone with the sandbox, and an image that is
used again holds nothing of what was in it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.sandbox import box
from engine.sandbox.scratch_backends import Images
from tests.native.tmp import create, folder_of, image_of, write_as_nobody

pytestmark = pytest.mark.privileged

SIZE_MB = 32
SECRET = b"the quick brown fox and his account number"
FS_IOC_GET_ENCRYPTION_POLICY_EX = 0xC0096616
NAME = "a-name-that-tells-who-it-is-about"


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path)


@pytest.fixture
def scratch(images: Images) -> Iterator[box.Scratch]:
    made = images.make(SIZE_MB)
    yield made
    made.close()


def store(folder: int, data: bytes = SECRET * 1_000) -> None:
    """Write a file, so that the disk has it."""
    file = create(folder, NAME)
    os.write(file, data)
    os.fsync(file)
    os.close(file)
    os.fsync(folder)


def device_bytes(scratch: box.Scratch) -> bytes:
    return Path(scratch.device).read_bytes()


def key_of(folder: int) -> bytes:
    """The identifier of the key that a folder is encrypted with: fscrypt_get_policy_ex_arg in linux/fscrypt.h."""
    policy = bytearray(struct.pack("<Q", 24) + bytes(24))
    fcntl.ioctl(folder, FS_IOC_GET_ENCRYPTION_POLICY_EX, policy)
    version, contents, names = policy[8:11]
    assert (version, contents, names) == (2, 1, 4), "version 2, AES-256-XTS, AES-256-CTS"
    return bytes(policy[16:32])


@pytest.mark.parametrize("encrypt", [True, False])
def test_what_is_stored_is_nowhere_in_the_images_bytes_and_without_encryption_it_is(
    tmp_path: Path, encrypt: bool
) -> None:
    scratch = Images(tmp_path, encrypt=encrypt).make(SIZE_MB)
    with folder_of(scratch) as folder:
        store(folder)
        if encrypt:
            # Under a user's eyes it is as it was written.
            assert os.listdir(folder) == [NAME]
        on_disk = device_bytes(scratch)
        in_file = Path(f"/proc/self/fd/{image_of(tmp_path)}").read_bytes()
    assert (SECRET in on_disk, SECRET in in_file) == (not encrypt, not encrypt)
    assert (NAME.encode() in on_disk) is not encrypt
    scratch.close()


def test_the_key_is_gone_with_the_sandbox(images: Images, tmp_path: Path) -> None:
    scratch = images.make(SIZE_MB)
    with folder_of(scratch) as folder:
        store(folder)
    # Held open, so that the device outlives what it would go with.
    with open(scratch.device, "rb"):
        device = scratch.device
        scratch.close()
        (tmp_path / "mnt").mkdir()
        subprocess.run(["mount", "-o", "ro", device, tmp_path / "mnt"], check=True)
        try:
            names = os.listdir(tmp_path / "mnt" / "tmp")
            # Written out before the end or dropped: either way nobody can read it.
            assert NAME not in names
            for name in names:
                with pytest.raises(OSError, match="key") as caught:
                    (tmp_path / "mnt" / "tmp" / name).read_bytes()
                assert caught.value.errno == errno.ENOKEY
        finally:
            subprocess.run(["umount", tmp_path / "mnt"], check=True)


def test_a_file_of_a_dead_sandbox_cannot_be_opened_without_its_key(images: Images, tmp_path: Path) -> None:
    """As above, for an image that was copied while its sandbox lived: what a thief of the disk has."""
    scratch = images.make(SIZE_MB)
    with folder_of(scratch) as folder:
        store(folder)
        stolen = tmp_path / "stolen"
        stolen.write_bytes(Path(f"/proc/self/fd/{image_of(tmp_path)}").read_bytes())
    scratch.close()
    (tmp_path / "mnt").mkdir()
    subprocess.run(["mount", "-o", "loop,ro", stolen, tmp_path / "mnt"], check=True)
    try:
        (name,) = os.listdir(tmp_path / "mnt" / "tmp")
        with pytest.raises(OSError, match="key") as caught:
            (tmp_path / "mnt" / "tmp" / name).read_bytes()
        assert caught.value.errno == errno.ENOKEY
    finally:
        subprocess.run(["umount", tmp_path / "mnt"], check=True)


def test_one_that_is_used_again_is_empty_whole_and_under_another_key(scratch: box.Scratch) -> None:
    with folder_of(scratch) as folder:
        before = os.fstatvfs(folder)
        store(folder)
        first = key_of(folder)
    device = scratch.device
    assert scratch.renew()
    assert scratch.device == device
    with folder_of(scratch) as folder:
        assert os.listdir(folder) == []
        assert os.fstat(folder).st_mode & 0o7777 == 0o1777
        after = os.fstatvfs(folder)
        assert (after.f_bfree, after.f_ffree) == (before.f_bfree, before.f_ffree)
        assert key_of(folder) != first
        store(folder)
        assert SECRET not in device_bytes(scratch)


def test_all_kinds_of_things_and_any_shape_of_tree_are_removed(scratch: box.Scratch) -> None:
    with folder_of(scratch) as folder:
        path = f"/proc/self/fd/{folder}"
        for name in ("0", "1", "2", "new\nline", "-rf", "\u202e", "x" * 143, "..."):
            os.close(create(folder, name))
        os.symlink("/", f"{path}/link")
        os.symlink("nowhere", f"{path}/broken")
        os.link(f"{path}/0", f"{path}/hard")
        os.mkfifo(f"{path}/fifo")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(f"{path}/sock")
        deep = f"{path}/deep"
        for _ in range(300):
            os.mkdir(deep)
            deep = f"{deep}/d"
            if len(deep) > 400:  # a path is shorter than such a tree: go on from inside
                deep = _go_in(folder, deep)
        os.mkdir(f"{path}/closed", 0o000)
        os.makedirs(f"{path}/wide/a/b")
        for number in range(500):
            os.close(os.open(f"{path}/wide/a/{number}", os.O_CREAT | os.O_WRONLY, 0o000))
    assert scratch.renew()
    with folder_of(scratch) as folder:
        assert os.listdir(folder) == []


def _go_in(folder: int, path: str) -> str:
    """Move the top of a tree down into what was made last, so that the tree gets deeper and the path shorter."""
    top = f"/proc/self/fd/{folder}"
    os.rename(f"{top}/deep", f"{top}/upper")
    os.mkdir(f"{top}/deep")
    os.rename(f"{top}/upper", f"{top}/deep/d")
    return f"{top}/deep/e"


def test_one_with_a_file_still_open_is_not_used_again(scratch: box.Scratch) -> None:
    with folder_of(scratch) as folder:
        file = create(folder, "held")
        os.unlink("held", dir_fd=folder)
    assert not scratch.renew()
    assert scratch.held
    os.close(file)


def test_one_that_was_held_is_used_again_once_it_is_let_go_and_its_key_was_wiped_before(
    scratch: box.Scratch,
) -> None:
    with folder_of(scratch) as folder:
        before = os.fstatvfs(folder)
        first = key_of(folder)
        os.close(create(folder, "stored"))
        assert (scratch.renew(), scratch.held) == (False, True)
        assert os.listdir(folder) == []
        with pytest.raises(OSError, match="No such file"):
            os.close(create(folder, "more"))
        assert (scratch.renew(), scratch.held) == (False, True)
    assert (scratch.renew(), scratch.held) == (True, False)
    with folder_of(scratch) as folder:
        assert key_of(folder) != first
        assert os.fstatvfs(folder).f_bfree == before.f_bfree


def test_one_that_is_somebodys_working_folder_is_not_used_again(scratch: box.Scratch) -> None:
    with folder_of(scratch):
        assert not scratch.renew()


def test_one_with_more_files_than_are_worth_removing_is_not_used_again(scratch: box.Scratch) -> None:
    with folder_of(scratch) as folder:
        for number in range(1_200):
            os.close(create(folder, str(number)))
    assert not scratch.renew()


def test_one_that_is_not_encrypted_is_not_used_again(tmp_path: Path) -> None:
    scratch = Images(tmp_path, encrypt=False).make(SIZE_MB)
    assert not scratch.renew()
    scratch.close()


def test_no_image_is_used_for_ever(scratch: box.Scratch) -> None:
    times = 0
    while scratch.renew():
        times += 1
    assert times == 64


def test_what_it_took_of_the_disk_is_given_back_before_it_is_used_again(scratch: box.Scratch, tmp_path: Path) -> None:
    image = f"/proc/self/fd/{image_of(tmp_path)}"
    fresh = os.stat(image).st_blocks
    with folder_of(scratch) as folder:
        store(folder, os.urandom(20 << 20))
    assert os.stat(image).st_blocks - fresh >= (20 << 20) // 512
    assert scratch.renew()
    assert os.stat(image).st_blocks - fresh < (4 << 20) // 512


def test_what_is_set_aside_stays_set_aside(tmp_path: Path) -> None:
    scratch = Images(tmp_path, reserve=True).make(SIZE_MB)
    image = f"/proc/self/fd/{image_of(tmp_path)}"
    taken = os.stat(image).st_blocks
    assert taken >= (SIZE_MB << 20) // 512
    with folder_of(scratch) as folder:
        assert write_as_nobody(folder, "all", SIZE_MB << 20, really=True) == (SIZE_MB << 20, 0)
    assert scratch.renew()
    assert abs(os.stat(image).st_blocks - taken) < 64
    scratch.close()
