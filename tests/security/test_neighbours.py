"""Two sandboxes at once, and the host's processes: what one does to reach another."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import real_pool, run, spec, write_code
from tests.security.probes import PRELUDE, handler, inside, outside

X86_ONLY = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="package")]


@contextlib.asynccontextmanager
async def two(pool: LinuxPool, folder: Path, body: str) -> AsyncIterator[tuple[LinuxSandbox, LinuxSandbox]]:
    """Two sandboxes with the same code, which tells by its event who it is."""
    code = write_code(folder / "code", handler(body))
    first, second = await asyncio.gather(pool.start(spec(code)), pool.start(spec(code)))
    try:
        yield first, second
    finally:
        await asyncio.gather(first.close(), second.close())


async def told(sandbox: LinuxSandbox, event: Any = None) -> Any:
    """What it answers."""
    ending, seen = await run(sandbox, event)
    assert ending.error is None, (ending, bytes(seen.written))
    return json.loads(ending.payload)


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host's, with a secret in its memory."""
    program = PRELUDE + "secret = 'the-secret'\nprint(id(secret), flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True) as process:
        yield process
        process.kill()


PROCESS_ATTACKS = {
    "signal": ("return call('kill', event, 0)", "ESRCH"),
    "signal to its group": ("return call('kill', -event, 0)", "ESRCH"),
    "queued signal": ("return tried(signal.pidfd_send_signal, os.pidfd_open(event), 0)", "ESRCH"),
    "trace": ("return call('ptrace', 0x4206, event, None, None)", "ESRCH"),
    "read its memory": ("return opened(f'/proc/{event}/mem')", "ENOENT"),
    "read its environment": ("return opened(f'/proc/{event}/environ')", "ENOENT"),
    "its folder": ("return opened(f'/proc/{event}/cwd/.')", "ENOENT"),
    "its root": ("return opened(f'/proc/{event}/root/.')", "ENOENT"),
    "its descriptors": ("return len(os.listdir(f'/proc/{event}/fd'))", "ENOENT"),
    "its priority": ("return call('setpriority', 0, event, 19)", "ESRCH"),
    "its limits": ("return tried(resource.prlimit, event, resource.RLIMIT_NOFILE)", "ESRCH"),
    "its CPUs": ("return tried(os.sched_setaffinity, event, {0})", "ESRCH"),
}  # fmt: skip


@pytest.mark.parametrize("attack", PROCESS_ATTACKS)
async def test_no_process_of_the_host_can_be_named(
    pool: LinuxPool, tmp_path: Path, victim: subprocess.Popen[bytes], attack: str
) -> None:
    body, refusal = PROCESS_ATTACKS[attack]
    body = "try:\n    " + body + "\nexcept OSError as error:\n    return errno.errorcode[error.errno]"
    reached = outside(body, victim.pid)
    assert reached != refusal
    assert not (isinstance(reached, str) and reached.startswith("E")), reached
    assert await inside(pool, tmp_path, body, victim.pid) == refusal


async def test_every_process_it_can_name_is_its_own(pool: LinuxPool, tmp_path: Path) -> None:
    """Trying every number finds itself, process 1 and nobody else."""
    body = """
        found = []
        for pid in range(1, 40_000):
            if call("kill", pid, 0) != "ESRCH":
                found.append(pid)
        return [found, os.getpid(), os.getppid()]
    """
    assert await inside(pool, tmp_path, body) == [[1, 2], 2, 1]
    found, own, _ = outside(body)
    assert len(found) > 2
    assert own not in (1, 2)


async def test_a_kill_of_everybody_hits_only_itself(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        if event == "kill":
            os.kill(-1, signal.SIGKILL)
        return "alive"
    """
    on_the_host = """
        libc.unshare(0x20000000)  # a PID namespace: everybody but this test's other processes
        first = os.fork()
        if first == 0:
            victim = os.fork()
            if victim == 0:
                signal.pause()
            if os.fork() == 0:
                os.kill(-1, signal.SIGKILL)
                os._exit(0)
            os._exit(os.WTERMSIG(os.waitpid(victim, 0)[1]))
        return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    """
    assert outside(on_the_host) == 9
    async with two(pool, tmp_path, body) as (attacker, other):
        assert await told(other) == "alive"
        await run(attacker, "kill")
        assert attacker.dead or await told(attacker) == "alive"  # -1 spares the caller and process 1
        assert await told(other) == "alive"


async def test_two_sandboxes_have_two_users_and_neither_is_root(pool: LinuxPool, tmp_path: Path) -> None:
    async with two(pool, tmp_path, "return os.getresuid() + os.getresgid() + tuple(os.getgroups())") as (one, other):
        first, second = await told(one), await told(other)
    assert set(first).isdisjoint(second)
    assert min(first + second) >= 0x7000_0000


MEETINGS = {
    "System V memory": "return call('shmget', 4711, 4096, 0o1666)",
    "System V messages": "return call('msgget', 4711, 0o1666)",
    "System V semaphores": "return call('semget', 4711, 1, 0o1666)",
}


@pytest.mark.parametrize("what", MEETINGS)
async def test_what_one_makes_for_all_the_other_does_not_find(pool: LinuxPool, tmp_path: Path, what: str) -> None:
    """The first makes it, under a number that both know; the second asks for it without making it."""
    make, ask = MEETINGS[what], MEETINGS[what].replace("0o1666", "0o666")
    assert isinstance(outside(f"if event: {make}\n{ask}", True), int)
    async with two(pool, tmp_path, f"if event: {make}\n{ask}") as (one, other):
        assert isinstance(await told(one, True), int)
        assert await told(other, False) == "ENOENT"


async def test_an_abstract_socket_of_one_is_not_there_for_the_other(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        name = "\\0meeting"
        if event:
            global server
            server = socket.socket(socket.AF_UNIX)
            server.bind(name)
            server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            return tried(client.connect, name)
    """
    assert outside(body, True) is None
    async with two(pool, tmp_path, body) as (one, other):
        assert await told(one, True) is None
        assert await told(other, False) == "ECONNREFUSED"


async def test_an_abstract_socket_of_the_host_is_not_there(pool: LinuxPool, tmp_path: Path) -> None:
    import socket

    name = f"\0cleave-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        body = f"return tried(socket.socket(socket.AF_UNIX).connect, {name!r})"
        assert outside(body) is None
        assert await inside(pool, tmp_path, body) == "ECONNREFUSED"


async def test_no_descriptor_can_be_passed_between_two_sandboxes(pool: LinuxPool, tmp_path: Path) -> None:
    """By a socket in a folder that both can write: there is none. Its own /tmp works."""
    body = """
        path = "/tmp/meeting"
        if event == "host":
            path = f"/tmp/meeting{os.getpid()}"
        if event != "second":
            global server
            server = socket.socket(socket.AF_UNIX)
            server.bind(path)
            server.listen()
        client = socket.socket(socket.AF_UNIX)
        refused = tried(client.connect, path)
        if refused:
            return refused
        other, _ = server.accept()
        socket.send_fds(client, [b"x"], [os.open("/etc/hosts", os.O_RDONLY)])
        _, fds, _, _ = socket.recv_fds(other, 1, 1)
        if event == "host":
            os.unlink(path)
        return len(os.read(fds[0], 10))
    """
    assert outside(body, "host") == 10
    async with two(pool, tmp_path, body) as (one, other):
        assert await told(one, "first") == 10
        assert await told(other, "second") == "ENOENT"


async def test_what_one_stores_in_tmp_the_other_does_not_see(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        if event:
            open("/tmp/mine", "w").write("mine")
        return os.listdir("/tmp")
    """
    private = "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)\n"
    assert outside(
        private
        + "if os.fork() == 0:\n    open('/tmp/mine', 'w')\n    os._exit(0)\nos.wait()\nreturn os.listdir('/tmp')"
    ) == ["mine"]
    async with two(pool, tmp_path, body) as (one, other):
        assert await told(one, True) == ["mine"]
        assert await told(other, False) == []


async def test_a_port_on_loopback_is_there_for_its_own_sandbox_alone(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        if event:
            global server
            server = socket.create_server(("127.0.0.1", 4711))
        with socket.socket() as client:
            return tried(client.connect, ("127.0.0.1", 4711))
    """
    on_the_host = """
        server = socket.create_server(("127.0.0.1", 0))
        if os.fork() == 0:
            os._exit(tried(socket.socket().connect, server.getsockname()) is None)
        return os.waitstatus_to_exitcode(os.wait()[1])
    """
    assert outside(on_the_host) == 1
    async with two(pool, tmp_path, body) as (one, other):
        assert await told(one, True) is None
        assert await told(other, False) == "ECONNREFUSED"


@X86_ONLY
async def test_the_keys_of_whoever_started_the_engine_are_out_of_reach(tmp_path: Path) -> None:
    """A key in the session keyring of the engine's login, which child processes inherit."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(250, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING: one of this test run's own
    assert libc.syscall(248, b"user", b"cleave-secret", b"4711", 4, -3) > 0
    body = """
        found = syscall(250, 10, -3, b"user", b"cleave-secret", 0)  # KEYCTL_SEARCH
        return [found if isinstance(found, str) else "found", "cleave-secret" in open("/proc/keys").read()]
    """
    try:
        assert outside(body, afresh=True) == ["found", True]
        async with real_pool(tmp_path / "data") as pool:
            assert await inside(pool, tmp_path, body) == ["EPERM", False]
    finally:
        libc.syscall(250, 1, None)


async def test_locks_on_its_own_files_stop_nobody(pool: LinuxPool, tmp_path: Path) -> None:
    """Files of /tmp are its own: the same path in two sandboxes is two files."""
    body = """
        global held
        held = os.open("/tmp/lock", os.O_RDWR | os.O_CREAT)
        return tried(fcntl.flock, held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    """
    twice = "paths = [os.open(event, os.O_RDWR | os.O_CREAT) for _ in range(2)]\n"
    twice += "return [tried(fcntl.flock, path, fcntl.LOCK_EX | fcntl.LOCK_NB) for path in paths]"
    assert outside(twice, str(tmp_path / "lock")) == [None, "EAGAIN"]
    async with two(pool, tmp_path, body) as (one, other):
        assert await told(one) is None
        assert await told(other) is None
