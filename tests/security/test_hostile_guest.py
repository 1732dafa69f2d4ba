"""What a guest can do with the few things it shares with the engine: two pipes, a log, and the report of process 1."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.guest import wire
from engine.model.outcome import Outcome
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import run, spec, write_code
from tests.security.probes import ending_of, handler, inside

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="package")]

STALLED_S = 6
"""A stop of the event loop that no busy machine makes: what lingers here does so for 8 s, or until it is killed."""

X86_ONLY = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")


@contextlib.asynccontextmanager
async def longest_wait() -> AsyncIterator[list[float]]:
    """The longest time, in seconds, for which the event loop served nobody."""
    found = [0.0]

    async def watch() -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            found[0], before = max(found[0], now - before), now

    task = asyncio.ensure_future(watch())
    yield found
    task.cancel()


LINGERING = """
def lingering():
    "a connection that takes 8 s to close, for whoever closes it last"
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    global held
    held = [server, server.accept()[0]]
    client.setblocking(False)
    while isinstance(tried(client.send, bytes(1 << 16)), int):
        pass
    client.setblocking(True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 8))
    return client
"""


async def test_no_descriptor_can_be_smuggled_to_the_engine(pool: LinuxPool, tmp_path: Path) -> None:
    """Whoever receives a descriptor has to close it, and closing may take as long as its sender likes."""
    body = (
        LINGERING
        + """
answers = []
for fd in (3, 4, 1, 2, 5):
    with socket.socket(fileno=os.dup(fd)) as engine:
        answers.append(tried(socket.send_fds, engine, [b"x"], [lingering().fileno()]))
return [answers, [stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in (1, 2, 3, 4, 5)]]
"""
    )
    async with longest_wait() as waited:
        ending, seen = await ending_of(pool, tmp_path, body, timeout_ms=60_000)
    assert waited[0] < STALLED_S
    if ending.outcome is Outcome.HANDLER_ERROR:  # Python itself refuses to make a socket of a pipe
        assert ending.error is not None
        assert b"[Errno 88]" in ending.error.document, (ending, bytes(seen.written))
    else:
        assert json.loads(ending.payload) == [["ENOTSOCK"] * 5, [True] * 5]


async def test_by_a_socket_it_would_have_been_smuggled() -> None:
    """The same with a socket in the place of the pipes: the one who reads waits for the connection to close."""
    engine, guest = socket.socketpair()
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    held = server.accept()[0]
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            client.send(bytes(1 << 16))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 8))
    socket.send_fds(guest, [b"x"], [client.fileno()])
    client.setblocking(True)
    client.close()
    threading.Timer(0.7, held.close).start()
    started = time.monotonic()
    engine.recv(1)
    assert time.monotonic() - started > 0.5
    for sock in (engine, guest, server):
        sock.close()


@X86_ONLY
async def test_a_forged_report_is_not_the_engines_fault(pool: LinuxPool, tmp_path: Path) -> None:
    """Process 1 is the guest's to trace: it can take the pipe on which set-up failures are told."""
    body = """
        report = syscall(438, os.pidfd_open(1), 5, 0)  # pidfd_getfd
        os.write(report, struct.pack("<Ii32si192s", 1, 0, b"zygote", 5, b"forged"))
        os._exit(3)
    """
    ending, seen = await ending_of(pool, tmp_path, body)
    assert (ending.outcome, ending.error) == (Outcome.EXITED, None), bytes(seen.written)


@X86_ONLY
async def test_a_process_1_that_was_taken_over_changes_nothing(pool: LinuxPool, tmp_path: Path) -> None:
    """Its stack is the guest's memory too. Whatever it does, the engine's kill ends it."""
    body = """
        call("ptrace", 16, 1, None, None)
        os.waitpid(1, 0x40000000)
        call("ptrace", 8, 1, None, None)  # PTRACE_KILL, which process 1 does not die of
        for address in (0, 8):
            libc.ptrace(5, 1, ctypes.c_void_p(address), ctypes.c_void_p(-1))
        libc.ptrace(7, 1, None, ctypes.c_void_p(11))
        time.sleep(60)
    """
    sandbox = await pool.start(spec(write_code(tmp_path / "code", handler(body))))
    ending, _ = await run(sandbox, timeout_ms=500)
    assert ending.outcome in (Outcome.TIMEOUT, Outcome.EXITED)
    await sandbox.close()
    assert not (Path(pool.cgroup_directories["pids"]) / sandbox.id).exists()


FRAMES = {
    "a second answer": wire.frame(wire.RESULT, b"2"),
    "an answer before it is asked": wire.frame(wire.READY) + wire.frame(wire.RESULT, b"2"),
    "half a frame": wire.frame(wire.RESULT, b"2")[:5],
    "a frame of the engine's": wire.frame(wire.EVENT, b"{}"),
    "a chunk": wire.frame(wire.CHUNK, b"x"),
}


@pytest.mark.parametrize("what", FRAMES)
async def test_words_out_of_turn_end_that_sandbox_and_no_other(pool: LinuxPool, tmp_path: Path, what: str) -> None:
    body = f"""
        def late():
            time.sleep(0.05)
            os.write(3, {FRAMES[what]!r})
            os.close(3)
        threading.Thread(target=late).start()
        return 1
    """
    code = write_code(tmp_path / "code", handler(body))
    sandbox = await pool.start(spec(code))
    assert (await run(sandbox))[0].payload == b"1"
    await asyncio.wait_for(sandbox.gone.wait(), 10)
    assert sandbox.dead
    await sandbox.close()
    assert await inside(pool, tmp_path / "other", "return 'fine'") == "fine"


async def test_an_answer_cannot_be_anothers(pool: LinuxPool, tmp_path: Path) -> None:
    """A result that is sent twice with one event does not answer the next."""
    body = """
        if event == 1:
            os.write(3, struct.pack("<IB3x", 1, 18) + b"7")
        return event
    """
    sandbox = await pool.start(spec(write_code(tmp_path / "code", handler(body))))
    first, _ = await run(sandbox, 1)
    assert first.payload == b"7"
    await asyncio.wait_for(sandbox.gone.wait(), 10)
    await sandbox.close()


@pytest.mark.parametrize("how", ["larger", "smaller", "packets", "non-blocking", "read by itself"])
async def test_what_it_does_to_its_ends_of_the_pipes_is_its_own_loss(pool: LinuxPool, tmp_path: Path, how: str) -> None:
    change = {
        "larger": "fcntl.fcntl(fd, 1031, 1 << 20)",
        "smaller": "tried(fcntl.fcntl, fd, 1031, 4096)",
        "packets": "fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_DIRECT)",
        "non-blocking": "os.set_blocking(fd, fd == 4)",
        "read by itself": "tried(os.open, f'/proc/self/fd/{fd}', os.O_RDONLY | os.O_NONBLOCK)",
    }[how]
    body = f"""
        for fd in (1, 2, 3, 4):
            {change}
        for number in range(2_000):
            tried(os.write, 1, b"line\\n")
        return "x" * 100
    """
    sandbox = await pool.start(spec(write_code(tmp_path / "code", handler(body))))
    async with longest_wait() as waited:
        for _ in range(3):
            ending, _ = await run(sandbox)
            assert ending.payload == b'"' + b"x" * 100 + b'"'
    assert waited[0] < STALLED_S
    await sandbox.close()


async def test_a_frame_that_comes_byte_by_byte_keeps_nobody_waiting(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        frame = struct.pack("<IB3x", 30, 18) + b'"' + b"x" * 28 + b'"'
        for byte in frame:
            os.write(3, bytes([byte]))
            time.sleep(0.005)
        time.sleep(60)
    """
    slow = await pool.start(spec(write_code(tmp_path / "slow", handler(body))))
    task = asyncio.ensure_future(run(slow))
    async with longest_wait() as waited:
        assert await inside(pool, tmp_path / "other", "return 1") == 1
        ending, _ = await task
    assert ending.payload == b'"' + b"x" * 28 + b'"'
    assert waited[0] < STALLED_S
    await slow.close()
