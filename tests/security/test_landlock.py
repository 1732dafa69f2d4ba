"""Landlock alone: each attack gets past the wall in front of it, by what somebody beside the sandbox opened for it, and
is shown to succeed for a process of the same user, mounts and network that is not behind Landlock."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.sandbox import box
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import run, spec, write_code
from tests.security.beside import beside, process_of
from tests.security.probes import handler

VERSION = box.landlock_version()

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.skipif(VERSION < 2, reason="this kernel has no Landlock"),
]

scopes = pytest.mark.skipif(VERSION < 6, reason="this kernel's Landlock knows no scopes")

ATTACK = """
    exec(compile("def attack(event):\\n" + event["body"], "attack", "exec"), globals())
    return attack(event["what"])
"""


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def attacker(pool: LinuxPool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxSandbox]:
    code = write_code(tmp_path_factory.mktemp("attacker") / "code", handler(ATTACK))
    sandbox = await pool.start(spec(code))
    assert await attack(sandbox, "return 1") == 1
    yield sandbox
    await sandbox.close()


async def attack(sandbox: LinuxSandbox, body: str, what: Any = None) -> Any:
    """What the body returns in the sandbox."""
    text = "\n".join("    " + line for line in body.strip().splitlines())
    ending, _ = await run(sandbox, {"body": text, "what": what})
    assert ending.payload is not None, ending
    return json.loads(ending.payload)


def succeeds(pool: LinuxPool, sandbox: LinuxSandbox, body: str, what: Any = None) -> Any:
    """What the same body returns beside it."""
    text = "def attack(event):\n" + "\n".join("    " + line for line in body.strip().splitlines())
    with beside(pool, sandbox, f"{text}\nsay(attack(json.loads({json.dumps(what)!r})))") as said:
        return said


OPENED = """
libc.mount(b"none", b"/opt", b"tmpfs", 0, b"mode=0777")
for name in ("file", "gone"):
    open(f"/opt/{name}", "w").write("before")
    os.chmod(f"/opt/{name}", 0o666)
os.mkdir("/opt/folder")
os.chmod("/opt/folder", 0o777)
say("mounted")
until_told()
libc.umount2(b"/opt", 2)
"""
"""A mount that should not be there: writable, and everybody's."""

CHANGES = {
    "write a file": "return opened('/opt/file', os.O_WRONLY)",
    "truncate a file": "return tried(os.truncate, '/opt/file', 0)",
    "make a file": "return opened('/opt/made', os.O_WRONLY | os.O_CREAT)",
    "make a nameless file": "return opened('/opt', os.O_WRONLY | os.O_TMPFILE)",
    "make a folder": "return tried(os.mkdir, '/opt/made')",
    "make a pipe": "return tried(os.mkfifo, '/opt/made')",
    "make a socket": "return tried(socket.socket(socket.AF_UNIX).bind, '/opt/made')",
    "make a symbolic link": "return tried(os.symlink, '/', '/opt/made')",
    "make a hard link": "return tried(os.link, '/opt/file', '/opt/folder/made')",
    "make a device": "return tried(os.mknod, '/opt/made', stat.S_IFCHR, 0)",
    "remove a file": "return tried(os.unlink, '/opt/gone')",
    "remove a folder": "return tried(os.rmdir, '/opt/folder')",
    "rename within": "return tried(os.rename, '/opt/file', '/opt/renamed')",
    "rename into another folder": "return tried(os.rename, '/opt/file', '/opt/folder/renamed')",
}


@pytest.mark.parametrize("change", CHANGES)
async def test_where_a_mount_is_writable_by_mistake_nothing_can_be_changed(
    pool: LinuxPool, attacker: LinuxSandbox, change: str
) -> None:
    with beside(pool, attacker, OPENED, as_root=True):
        assert await attack(attacker, CHANGES[change]) in ("EACCES", "EXDEV")
        assert succeeds(pool, attacker, CHANGES[change]) in (None, "opened")


@pytest.mark.skipif(VERSION < 5, reason="this kernel's Landlock knows no commands to devices")
async def test_a_device_that_turned_up_by_mistake_takes_no_command(pool: LinuxPool, attacker: LinuxSandbox) -> None:
    """One that has none, and says so to who may ask."""
    mistake = """
        libc.mount(b"none", b"/opt", b"tmpfs", 0, b"mode=0755")
        os.mknod("/opt/device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        os.chmod("/opt/device", 0o666)
        say("made")
        until_told()
        libc.umount2(b"/opt", 2)
    """
    body = """
with open("/opt/device", "rb", buffering=0) as device:
    return [len(device.read(10)), tried(fcntl.ioctl, device, 0x5401, bytes(64))]  # TCGETS
"""
    with beside(pool, attacker, textwrap.dedent(mistake), as_root=True):
        assert await attack(attacker, body) == [10, "EACCES"]
        assert succeeds(pool, attacker, body) == [10, "ENOTTY"]


async def test_a_descriptor_of_the_hosts_root_opens_nothing(pool: LinuxPool, attacker: LinuxSandbox) -> None:
    """Handed in through a socket in /tmp, as by a mistake of the engine."""
    hand_in = """
        server = socket.socket(socket.AF_UNIX)
        server.bind("/tmp/door")
        server.listen()
        say("listening")
        for _ in range(2):
            socket.send_fds(server.accept()[0], [b"x"], [host])
        until_told()
        os.unlink("/tmp/door")
    """
    body = """
client = socket.socket(socket.AF_UNIX)
client.connect("/tmp/door")
root = socket.recv_fds(client, 1, 1)[1][0]
found = []
for path in ("etc/hostname", "etc/passwd", "."):
    fd = tried(os.open, path, os.O_RDONLY, dir_fd=root)
    found.append("opened" if isinstance(fd, int) else fd)
os.fchdir(root)
found.append(tried(os.execv, "bin/true", ["true"]) if event else "opened")
os.chdir("/")
return found
"""
    with beside(pool, attacker, hand_in):
        assert await attack(attacker, body, True) == ["EACCES"] * 4
        assert succeeds(pool, attacker, body, False) == ["opened"] * 4


@scopes
async def test_an_abstract_socket_in_its_network_namespace_is_out_of_reach(
    pool: LinuxPool, attacker: LinuxSandbox
) -> None:
    listen = """
        server = socket.socket(socket.AF_UNIX)
        server.bind("\\0door")
        server.listen()
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        datagrams.bind("\\0window")
        say("listening")
        until_told()
    """
    body = """
one, other = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
return [tried(one.connect, "\\0door"), tried(other.sendto, b"x", "\\0window")]
"""
    with beside(pool, attacker, listen):
        assert await attack(attacker, body) == ["EPERM", "EPERM"]
        assert succeeds(pool, attacker, body) == [None, 1]


@scopes
async def test_a_process_of_its_own_user_takes_no_signal_from_it(pool: LinuxPool, attacker: LinuxSandbox) -> None:
    """One in its own PID namespace, that it did not start."""
    body = "return [tried(os.kill, event, 0), tried(os.kill, event, signal.SIGCONT)]"
    with beside(pool, attacker, "say(os.getpid())\nuntil_told()") as pid:
        assert await attack(attacker, body, pid) == ["EPERM", "EPERM"]
        assert succeeds(pool, attacker, body, pid) == [None, None]


async def test_a_process_of_its_own_user_is_not_its_to_trace(pool: LinuxPool, attacker: LinuxSandbox) -> None:
    body = """
attached = call("ptrace", 16, event, None, None)
if attached == 0:
    os.waitpid(event, 0x40000000)
    call("ptrace", 17, event, None, None)
return attached
"""
    with beside(pool, attacker, "say(os.getpid())\nuntil_told()") as pid:
        assert await attack(attacker, body, pid) == "EPERM"
        assert succeeds(pool, attacker, body, pid) == 0


async def test_in_tmp_everything_is_allowed_but_devices(pool: LinuxPool, attacker: LinuxSandbox) -> None:
    body = """
import shutil
os.makedirs("/tmp/a/b")
done = [
    opened("/tmp/a/file", os.O_RDWR | os.O_CREAT | os.O_TRUNC),
    opened("/tmp/a", os.O_RDWR | os.O_TMPFILE),
    tried(os.link, "/tmp/a/file", "/tmp/a/b/hard"),
    tried(os.rename, "/tmp/a/file", "/tmp/a/b/moved"),
    tried(os.symlink, "moved", "/tmp/a/b/soft"),
    tried(os.mkfifo, "/tmp/a/pipe"),
    tried(socket.socket(socket.AF_UNIX).bind, "/tmp/a/socket"),
    tried(os.truncate, "/tmp/a/b/moved", 10),
]
shutil.copy("/bin/true", "/tmp/a/true")
done.append(subprocess.run(["/tmp/a/true"]).returncode)
device = tried(os.mknod, "/tmp/a/device", stat.S_IFCHR, os.makedev(0, 0))
shutil.rmtree("/tmp/a")
open("/dev/null", "w").write("x")
memory = os.memfd_create("x")
done.append(opened(f"/proc/self/fd/{memory}", os.O_RDWR))
return [done, device]
"""
    done, device = await attack(attacker, body)
    assert done == ["opened", "opened", None, None, None, None, None, None, 0, "opened"]
    assert device == "EACCES"


@scopes
async def test_its_own_signals_sockets_and_servers_work_as_ever(pool: LinuxPool, attacker: LinuxSandbox) -> None:
    body = """
child = os.fork()
if child == 0:
    signal.pause()
os.kill(child, signal.SIGTERM)
died = os.waitpid(child, 0)[1]
server = socket.socket(socket.AF_UNIX)
server.bind("\\0own")
server.listen()
socket.socket(socket.AF_UNIX).connect("\\0own")
tcp = socket.create_server(("127.0.0.1", 0))
socket.create_connection(tcp.getsockname()).close()
return [died, call("kill", 1, 0)]
"""
    assert await attack(attacker, body) == [15, 0]


async def test_code_that_is_mounted_afterwards_is_shown(
    pool: LinuxPool, attacker: LinuxSandbox, tmp_path: Path
) -> None:
    """As into a parked sandbox: what leads up to its root counts, whenever it came."""
    code = write_code(tmp_path / "late", "x = 1\n")
    take = f"tree = libc.syscall(428, -100, {str(code)!r}.encode(), 1)"
    mount = """
        assert libc.syscall(429, tree, b"", -100, b"/opt", 4) == 0
        say("mounted")
        until_told()
        libc.umount2(b"/opt", 2)
    """
    with beside(pool, attacker, mount, first=take, as_root=True):
        assert await attack(attacker, "return open('/opt/app.py').read()") == "x = 1\n"


async def test_every_process_of_it_is_behind_it(pool: LinuxPool, attacker: LinuxSandbox) -> None:
    """Process 1 too: what takes it over is where it was."""
    body = "return opened('/proc/1/root/opt/file', os.O_WRONLY)"
    with beside(pool, attacker, OPENED, as_root=True):
        assert await attack(attacker, body) == "EACCES"
        assert succeeds(pool, attacker, body) == "opened"
    assert os.path.exists(f"/proc/{process_of(pool, attacker)}")
