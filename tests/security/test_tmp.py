"""Attacks on /tmp and through it: past its quota, into a neighbour's or a predecessor's, out of it, and on the disk."""

from __future__ import annotations

import json
import textwrap
from collections.abc import AsyncIterator
from errno import EACCES, ENOKEY, EPERM
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.model.outcome import Outcome
from engine.sandbox.pool import LinuxPool
from engine.sandbox.scratch_backends import Images
from tests.native.tmp import folder_of, loops_on
from tests.sandboxes import ALL_CPU, real_pool, run, run_once, spec, write_code

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

SECRET = "the-account-number-is-4711"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    async with real_pool(tmp_path_factory.mktemp("tmp"), cpu=ALL_CPU) as pool:
        yield pool


async def inside(pool: LinuxPool, folder: Path, body: str, **settings: int) -> Any:
    """What the body of a handler returns."""
    source = "import os\ndef handler(event, context):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    ending, seen = await run_once(pool, folder, source, **settings)
    assert ending.outcome is Outcome.OK, (ending, bytes(seen.written))
    return json.loads(ending.payload)


@pytest.mark.parametrize("tmp_mb", [512, 1_024])
async def test_df_inside_shows_the_quota(pool: LinuxPool, tmp_path: Path, tmp_mb: int) -> None:
    body = """
        room = os.statvfs("/tmp")
        return [room.f_bavail * room.f_frsize, room.f_favail]
    """
    room, files = await inside(pool, tmp_path, body, tmp_mb=tmp_mb)
    assert tmp_mb << 20 <= room < (tmp_mb << 20) * 1.02
    assert tmp_mb * 64 <= files < tmp_mb * 64 * 1.05


async def test_an_inode_bomb_stops_at_the_limit(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        made = 0
        try:
            while made < 100_000:
                os.close(os.open(f"/tmp/{made}", os.O_CREAT | os.O_WRONLY))
                made += 1
        except OSError as error:
            return [made, error.errno]
    """
    made, errno = await inside(pool, tmp_path, body, timeout_ms=50_000)
    assert errno == 28
    assert 512 * 64 <= made < 512 * 64 * 1.05


@pytest.mark.parametrize("how", ["fallocate", "sparse", "hard links", "deleted and open"])
async def test_no_trick_stores_more_than_the_quota(pool: LinuxPool, tmp_path: Path, how: str) -> None:
    bodies = {
        "fallocate": "os.posix_fallocate(file, 0, 1 << 30)",
        # A size is no storage: what counts is what is written to it.
        "sparse": "os.ftruncate(file, 8 << 30)\n    for at in range(600):\n"
        "        os.posix_fallocate(file, at * (12 << 20), 1 << 20)",
        "hard links": "os.posix_fallocate(file, 0, 500 << 20)\n    for n in range(100):\n"
        "        os.link('/tmp/f', f'/tmp/l{n}')\n    os.posix_fallocate(file, 500 << 20, 30 << 20)",
        "deleted and open": "os.posix_fallocate(file, 0, 500 << 20)\n    os.unlink('/tmp/f')\n"
        "    again = os.open('/tmp/g', os.O_CREAT | os.O_RDWR)\n    os.posix_fallocate(again, 0, 30 << 20)",
    }
    body = f"""file = os.open('/tmp/f', os.O_CREAT | os.O_RDWR)
try:
    {bodies[how]}
except OSError as error:
    return error.errno
"""
    assert await inside(pool, tmp_path, body) == 28


async def test_a_neighbours_tmp_is_another(pool: LinuxPool, tmp_path: Path) -> None:
    code = write_code(
        tmp_path / "code",
        """
        import os
        def handler(event, context):
            before = os.listdir("/tmp")
            open("/tmp/" + event["name"], "w").close()
            return before
        """,
    )
    first, second = await pool.start(spec(code)), await pool.start(spec(code))
    try:
        seen = [json.loads((await run(sandbox, {"name": "mine"}))[0].payload) for sandbox in (first, second)]
        assert seen == [[], []]
        # Its own it has again: a warm sandbox keeps its /tmp.
        assert json.loads((await run(first, {"name": "more"}))[0].payload) == ["mine"]
    finally:
        await first.close()
        await second.close()


_MESS = f"""
    import os
    def handler(event, context):
        with open("/tmp/secret", "w") as file:
            file.write({SECRET!r} * 1_000)
            file.flush()
            os.fsync(file.fileno())
        os.makedirs("/tmp/a/b/c")
        os.symlink("/proc/1/root", "/tmp/link")
        os.mkdir("/tmp/closed", 0)
        if event.get("daemon") and os.fork() == 0:
            os.setsid()
            os.chdir("/tmp/a")
            held = open("/tmp/secret")
            while True:
                os.read(0, 1)
        return os.stat("/tmp").st_dev
"""
_LOOK = """
    import os
    def handler(event, context):
        return [os.listdir("/tmp"), os.stat("/tmp").st_dev, os.statvfs("/tmp").f_bfree]
"""


@pytest.mark.parametrize("daemon", [False, True])
async def test_the_next_on_the_same_image_finds_nothing(tmp_path: Path, daemon: bool) -> None:
    async with real_pool(tmp_path / "data", tmp_pool_size=2) as pool:
        code = write_code(tmp_path / "look", _LOOK)
        fresh = await pool.start(spec(code))
        before = json.loads((await run(fresh))[0].payload)
        await fresh.close()
        devices = set()
        # Which of those that wait comes next is the pool's matter.
        for number in range(40):
            sandbox = await pool.start(spec(write_code(tmp_path / f"mess{number}", _MESS)))
            ending, _ = await run(sandbox, {"daemon": daemon})
            assert ending.outcome is Outcome.OK
            devices.add(json.loads(ending.payload))
            await sandbox.close()
            fresh = await pool.start(spec(code))
            names, device, free = json.loads((await run(fresh))[0].payload)
            await fresh.close()
            assert names == []
            assert free == before[2]
            if device in devices:
                return
    pytest.fail("no image was used again in forty tries")


@pytest.mark.parametrize("encrypted", [True, False])
async def test_what_it_stores_cannot_be_read_from_the_disk(tmp_path: Path, encrypted: bool) -> None:
    async with real_pool(tmp_path / "data", tmp_encryption=encrypted) as pool:
        sandbox = await pool.start(spec(write_code(tmp_path / "code", _MESS)))
        assert (await run(sandbox))[0].outcome is Outcome.OK
        (device,) = loops_on(tmp_path)
        found = SECRET.encode() in Path(f"/dev/{device}").read_bytes()
        await sandbox.close()
    assert found is not encrypted


async def test_the_image_around_its_tmp_is_out_of_reach(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        found = []
        for path in ("/tmp/..", "/tmp/tmp", "/tmp/lost+found", "/proc/self/root/tmp/..", "/tmp/../tmp/.."):
            try:
                if os.stat(path).st_dev == os.stat("/tmp").st_dev:
                    found.append(path)
            except OSError:
                pass
        return found
    """
    assert await inside(pool, tmp_path, body) == []


# linux/fs.h, linux/fscrypt.h, fs/ext4/ext4.h
_REQUESTS = {
    "shut it down": 0x8004587D,
    "give its free blocks back": 0xC0185879,
    "make a file immutable": 0x40086602,
    "remove the key": 0xC0406618,
    "remove everybody's key": 0xC0406619,
}
_ASK = """
import fcntl, os, struct

def ask(folder, what, request):
    file = os.open(folder + "/kept", os.O_CREAT | os.O_RDWR)
    top = os.open(folder, os.O_RDONLY)
    policy = bytearray(struct.pack("<Q", 24) + bytes(24))
    try:
        fcntl.ioctl(top, 0xC0096616, policy)
    except OSError:
        pass  # a sandbox may not ask which key it is
    argument = {
        "shut it down": bytearray(struct.pack("<I", 2)),
        "give its free blocks back": bytearray(struct.pack("<QQQ", 0, 2**64 - 1, 0)),
        "make a file immutable": bytearray(struct.pack("<Q", 0x10)),
    }.get(what) or bytearray(struct.pack("<II32s24x", 2, 0, bytes(policy[16:32])))
    try:
        fcntl.ioctl(file if "file" in what else top, request, argument)
        return "done"
    except OSError as error:
        return error.errno
    finally:
        os.close(file)
        os.close(top)
"""


@pytest.mark.parametrize("what", _REQUESTS)
async def test_requests_to_the_file_system_itself_are_refused(pool: LinuxPool, tmp_path: Path, what: str) -> None:
    # Root on the host may.
    tools: dict[str, Any] = {}
    exec(_ASK, tools)
    scratch = Images(tmp_path).make(512)
    with folder_of(scratch) as folder:
        assert tools["ask"](f"/proc/self/fd/{folder}", what, _REQUESTS[what]) == "done"
    scratch.close()

    lines = f"answer = ask('/tmp', {what!r}, {_REQUESTS[what]})\nopen('/tmp/still', 'w').write('written')\n"
    lines += "return [answer, open('/tmp/still').read()]\n"
    answer, text = await inside(pool, tmp_path, _ASK + lines)
    assert answer in (EPERM, EACCES, ENOKEY)
    assert text == "written"


async def test_a_program_in_tmp_gets_no_rights_from_its_mode(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import shutil, subprocess
        shutil.copy("/usr/bin/id", "/tmp/id")
        os.chmod("/tmp/id", 0o6755)
        try:
            os.mknod("/tmp/disk", 0o60666, os.makedev(7, 0))
            made = True
        except OSError:
            made = False
        return [made, bool(os.statvfs("/tmp").f_flag & os.ST_NOSUID), bool(os.statvfs("/tmp").f_flag & os.ST_NODEV),
                int(subprocess.run(["/tmp/id", "-u"], capture_output=True).stdout) == os.getuid()]
    """
    assert await inside(pool, tmp_path, body) == [False, True, True, True]


async def test_what_is_in_tmp_does_not_eat_the_memory_tier(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        with open("/tmp/file", "wb", buffering=0) as file:
            for _ in range(140):
                file.write(bytes(1 << 20))
        return os.stat("/tmp/file").st_size >> 20
    """
    assert await inside(pool, tmp_path, body, memory_mb=128, timeout_ms=50_000) == 140
