"""Attacks on a /tmp that is a folder of the host's own file system: out of its quota, and into what lies beside it."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass
from errno import EPERM
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.model.outcome import Outcome
from engine.sandbox.pool import LinuxPool
from tests.native.filesystems import ALL, UNLIMITED, Kind, kinds, mounted
from tests.sandboxes import ALL_CPU, real_pool, run, run_once, spec, write_code

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

NOBODY = 65_534
QUOTA_MB = 512


@dataclass(frozen=True)
class Place:
    """Sandboxes whose /tmp is on such a file system."""

    kind: Kind
    disk: Path
    pool: LinuxPool


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=kinds())
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    kind = ALL[request.param]
    folder = tmp_path_factory.mktemp("place")
    with mounted(kind, folder, mb=1_536) as disk:
        weaker = ["tmp-encryption=none"]
        async with real_pool(disk, tmp_backend=kind.backend, accept_weaker=weaker, cpu=ALL_CPU) as pool:
            yield Place(kind, disk, pool)


async def inside(place: Place, folder: Path, body: str, **settings: int) -> Any:
    """What the body of a handler returns."""
    source = "import os\ndef handler(event, context):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    ending, seen = await run_once(place.pool, folder, source, timeout_ms=50_000, **settings)
    assert ending.outcome is Outcome.OK, (ending, bytes(seen.written))
    return json.loads(ending.payload)


async def test_no_trick_stores_more_than_the_quota(place: Place, tmp_path: Path) -> None:
    body = """
        stored = 0
        held = []
        try:
            for number in range(900):
                held.append(os.open(f"/tmp/{number}", os.O_CREAT | os.O_RDWR))
                os.posix_fallocate(held[-1], 0, 1 << 20)
                os.unlink(f"/tmp/{number}")
                stored += 1
        except OSError as error:
            return [stored, error.errno]
        """
    stored, errno = await inside(place, tmp_path, body)
    assert errno == place.kind.over
    assert QUOTA_MB - 8 <= stored <= QUOTA_MB * 1.02


async def test_what_is_in_tmp_does_not_eat_the_memory_tier(place: Place, tmp_path: Path) -> None:
    body = """
        with open("/tmp/file", "wb", buffering=0) as file:
            for _ in range(140):
                file.write(bytes(1 << 20))
        return os.stat("/tmp/file").st_size >> 20
        """
    assert await inside(place, tmp_path, body, memory_mb=128) == 140


async def test_the_next_finds_nothing_and_what_is_beside_it_is_out_of_reach(place: Place, tmp_path: Path) -> None:
    mess = """
        import os
        def handler(event, context):
            open("/tmp/secret", "w").close()
            if os.fork() == 0:
                os.setsid()
                held = open("/tmp/secret")
                os.chdir("/tmp")
                while True:
                    os.read(0, 1)
            beside = [path for path in ("/tmp/..", "/tmp/../..", "/tmp/../folders") if os.path.exists(path)]
            return [os.listdir("/tmp"), [path for path in beside if os.stat(path).st_dev == os.stat("/tmp").st_dev]]
    """
    code = write_code(tmp_path / "code", mess)
    neighbour = await place.pool.start(spec(code))
    assert json.loads((await run(neighbour))[0].payload) == [["secret"], []]
    for _ in range(3):
        sandbox = await place.pool.start(spec(code))
        assert json.loads((await run(sandbox))[0].payload) == [["secret"], []]
        await sandbox.close()
    await neighbour.close()
    assert os.listdir(place.disk / "scratch" / "folders") == []


async def test_a_program_in_tmp_gets_no_rights_from_its_mode(place: Place, tmp_path: Path) -> None:
    body = """
        import shutil, subprocess
        shutil.copy("/usr/bin/id", "/tmp/id")
        os.chmod("/tmp/id", 0o6755)
        return [bool(os.statvfs("/tmp").f_flag & os.ST_NOSUID), bool(os.statvfs("/tmp").f_flag & os.ST_NODEV),
                int(subprocess.run(["/tmp/id", "-u"], capture_output=True).stdout) == os.getuid()]
        """
    assert await inside(place, tmp_path, body) == [True, True, True]


# Requests by which a file's owner takes it out of its quota: linux/fs.h, linux/btrfs.h. Each is done by an unprivileged
# user on the bare host first, then inside.

LEAVE = """
import ctypes, fcntl, os, struct

def leave(folder, how):
    if how == "make a subvolume":
        top = os.open(folder, os.O_RDONLY)
        fcntl.ioctl(top, 0x5000940E, bytearray(struct.pack("<q4088s", 0, b"escape")))
        return "left"
    os.mkdir(folder + "/mine")
    fd = os.open(folder + "/mine", os.O_RDONLY)
    attributes = bytearray(28)
    fcntl.ioctl(fd, 0x801C581F, attributes)
    flags, _, _, project, _ = struct.unpack_from("<5I", attributes)
    if how == "give it to a project":
        fcntl.ioctl(fd, 0x401C5820, struct.pack("<IIIII8x", flags, 0, 0, project + 1, 0))
    elif how == "end the inheritance":
        fcntl.ioctl(fd, 0x401C5820, struct.pack("<IIIII8x", flags & ~0x200, 0, 0, project, 0))
    elif how == "end the inheritance by its flag":
        held = bytearray(8)
        fcntl.ioctl(fd, 0x80086601, held)
        fcntl.ioctl(fd, 0x40086602, struct.pack("<Q", struct.unpack("<Q", held)[0] & ~0x20000000))
    else:  # struct file_attr in linux/fs.h: Linux 6.17
        libc = ctypes.CDLL(None, use_errno=True)
        wanted = struct.pack("<QIIII", flags & ~0x200, 0, 0, project + 1, 0)
        if libc.syscall(469, fd, b"", wanted, len(wanted), 0x1000) != 0:
            raise OSError(ctypes.get_errno(), "file_setattr")
    return "left"

def attempt(folder, how):
    try:
        return leave(folder, how)
    except OSError as error:
        return error.errno
"""
OF_PROJECTS = (
    "give it to a project",
    "end the inheritance",
    "end the inheritance by its flag",
    "give it to a project by the new call",
)
ENOSYS, EOPNOTSUPP = 38, 95


def as_nobody(folder: Path, how: str) -> Any:
    """What the attack comes to for an unprivileged user of the host."""
    tools: dict[str, Any] = {}
    exec(LEAVE, tools)
    folder.mkdir()
    folder.chmod(0o777)
    if how in OF_PROJECTS:
        fd = os.open(folder, os.O_RDONLY)
        fcntl.ioctl(fd, 0x401C5820, struct.pack("<IIIII8x", 0x200, 0, 0, 77, 0))
        os.close(fd)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(folder)  # what is above it is closed to others
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writer, json.dumps(tools["attempt"](".", how)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read()
    os.waitpid(pid, 0)
    return json.loads(text)


@pytest.mark.parametrize("how", OF_PROJECTS)
async def test_on_the_bare_host_an_owner_takes_a_file_out_of_its_project(tmp_path: Path, how: str) -> None:
    with mounted(UNLIMITED, tmp_path) as disk:
        came_to = as_nobody(disk / "folder", how)
    if how.endswith("call") and came_to == ENOSYS:
        return  # an older kernel, that has no such call
    if how.endswith("flag") and came_to == EOPNOTSUPP:
        return  # XFS knows that flag by the other request alone
    assert came_to == "left"


async def test_on_the_bare_host_a_subvolume_takes_its_files_out_of_the_quota(tmp_path: Path) -> None:
    with mounted(ALL["btrfs"], tmp_path) as disk:
        assert as_nobody(disk / "folder", "make a subvolume") == "left"


@pytest.mark.parametrize("how", [*OF_PROJECTS, "make a subvolume"])
async def test_inside_no_request_takes_a_file_out_of_its_quota(place: Place, tmp_path: Path, how: str) -> None:
    assert await inside(place, tmp_path, LEAVE + f"return attempt('/tmp', {how!r})\n") == EPERM
