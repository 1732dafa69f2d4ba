"""What a guest can send to the engine: none of it raises, allocates beyond the limits, or keeps a run from ending."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from engine.errors import SandboxFault
from engine.guest import wire
from engine.model.invocation import RESULT_LIMIT_BYTES
from engine.model.outcome import Outcome, StartKind
from engine.sandbox import box
from engine.sandbox.api import Ending
from engine.sandbox.counts import Counts
from engine.sandbox.cpu import CpuRules
from engine.sandbox.janitor import Janitor
from engine.sandbox.lane import LoopLane
from engine.sandbox.link import Ends, GuestLink, ProtocolError
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.messages import guest_limits, spec_frame
from engine.sandbox.parts import Parts
from engine.sandbox.timeline import Timeline
from tests.fuzz.streams import Streams, parse
from tests.sandboxes import event, spec

SEED = 20_260_801
AT_ONCE = 10
"""A guest that leaves and whose process lives is waited for a little; in one test after another that adds up."""
GUEST_LIMITS = dict(guest_limits(RESULT_LIMIT_BYTES))
ANSWERS = (wire.RESULT, wire.ERROR, wire.TOO_LARGE, wire.INIT_ERROR, wire.READY, wire.HELLO)


def guests_frames(streams: Streams) -> list[bytes]:
    """What a guest says in its first event and in a second one, in one of the ways that end one."""
    error = streams.odd({"errorMessage": "no", "errorType": "E", "stackTrace": []})
    ends = [wire.frame(wire.RESULT, b"{}"), wire.frame(wire.ERROR, error), wire.frame(wire.TOO_LARGE)]
    opening = [wire.frame(wire.HELLO), wire.frame(wire.READY)]
    if streams.chance.random() < 0.2:
        return [opening[0], wire.frame(wire.INIT_ERROR, error)]
    if streams.chance.random() < 0.1:
        ends = [wire.frame(wire.RESULT, bytes(streams.chance.choice((65_535, 65_536, 200_000, 7_000_000))))]
    chunks = [wire.frame(wire.CHUNK, bytes(streams.chance.choice((0, 1, 50, 70_000))))] * streams.chance.choice(
        (0, 1, 3)
    )
    return [*opening, *chunks, streams.chance.choice(ends)]


@dataclass
class Heard:
    """What a link told."""

    frames: list[tuple[int, bytes]] = field(default_factory=list)
    ends: list[Exception | None] = field(default_factory=list)

    def on_frame(self, kind: int, body: bytes | bytearray) -> None:
        self.frames.append((kind, bytes(body)))

    def on_end(self, error: Exception | None) -> None:
        self.ends.append(error)


async def test_any_stream_is_read_as_its_frames_and_ends_once(counts: Mapping[str, int]) -> None:
    loop = asyncio.get_running_loop()
    for seed in range(SEED, SEED + counts["frames"]):
        streams = Streams(seed)
        stream = streams.mutate(guests_frames(streams))
        ours, theirs = socket.socketpair()
        heard = Heard()
        link = GuestLink(loop, ends(ours), GUEST_LIMITS, heard.on_frame, heard.on_end)
        with theirs:
            theirs.setblocking(False)
            for piece in streams.pieces(stream):
                send_all(theirs, piece, link)
        while not heard.ends:
            link.read()
        frames, whole = parse(stream, GUEST_LIMITS)
        assert heard.frames == frames, seed
        assert len(heard.ends) == 1, seed
        assert (heard.ends[0] is None) == whole, (seed, heard.ends)
        assert whole or isinstance(heard.ends[0], ProtocolError), seed
        link.read()
        link.read_to_end()
        assert len(heard.ends) == 1, seed


def ends(sock: socket.socket) -> Ends:
    """A socket in the place of both pipes."""
    return Ends(os.dup(sock.fileno()), sock.detach())


def send_all(sock: socket.socket, data: bytes, link: GuestLink) -> None:
    """Send, and read on the other side; a link that has closed reads no more."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            pass
        except OSError:
            return
        link.read()


async def test_a_length_over_the_limit_allocates_nothing() -> None:
    loop = asyncio.get_running_loop()
    tracemalloc.start()
    try:
        for kind, limit in GUEST_LIMITS.items():
            for length in (limit + 1, 2**31, 2**32 - 1):
                ours, theirs = socket.socketpair()
                heard = Heard()
                link = GuestLink(loop, ends(ours), GUEST_LIMITS, heard.on_frame, heard.on_end)
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                with theirs:
                    theirs.send(wire.HEADER.pack(length, kind) + b"x" * 100)
                    link.read()
                assert isinstance(heard.ends[0], ProtocolError)
                assert tracemalloc.get_traced_memory()[1] - before < 200_000, (kind, length)
    finally:
        tracemalloc.stop()


async def test_what_a_listener_raises_comes_out_at_the_end_and_nowhere_else() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    heard = Heard()

    def fail(kind: int, body: bytes | bytearray) -> None:
        raise ZeroDivisionError

    link = GuestLink(loop, ends(ours), GUEST_LIMITS, fail, heard.on_end)
    with theirs:
        theirs.send(wire.frame(wire.HELLO) * 2)
        link.read()
    assert [type(error) for error in heard.ends] == [ZeroDivisionError]


# A whole sandbox of the engine's, over a process that only waits to be killed.


class NoTmp:
    """A /tmp that is some folder."""

    def __init__(self) -> None:
        self.fd = os.open("/", os.O_RDONLY)

    scratch = None

    def used(self) -> int:
        return 0

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        os.close(self.fd)

    def discard(self) -> None:
        os.close(self.fd)


class NoNetwork:
    """A network that nobody made."""

    metered = False

    def release(self) -> None: ...
    def traffic(self) -> tuple[int, int]:
        return 0, 0


class Sink:
    """Where a run's output goes."""

    def started(self, kind: StartKind) -> None: ...
    def initialized(self, failure: Ending | None) -> None: ...
    def output(self, data: bytes) -> None: ...
    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        """Slow by a turn of the loop for every other chunk."""
        if len(data) % 2:
            return None
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        loop.call_soon(room.set_result, None)
        return room


@contextlib.asynccontextmanager
async def sandbox_over(janitor: Janitor, counts: Counts, **replaced: Any) -> AsyncIterator[tuple[LinuxSandbox, Any]]:
    """A LinuxSandbox and the guest's end of its control socket."""
    process = subprocess.Popen(["/bin/sleep", "600"], stdin=subprocess.DEVNULL)
    control, guest = socket.socketpair()
    log, log_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    report, report_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    values = {
        "pid": process.pid,
        "pidfd": os.pidfd_open(process.pid),
        "leaf": box.Host("nothing", ()).leaf("1", memory_bytes=0, cpu_quota_us=0, cpu_shares=0, pids=0),
        "control": ends(control),
        "log": log,
        "report": report,
        "tmp": cast(Any, NoTmp()),
        "network": cast(Any, NoNetwork()),
        "remove_leaf": lambda: None,
    }
    lane = LoopLane()
    sandbox = LinuxSandbox(
        "1",
        spec(Path("/nowhere")),
        Parts(**(values | replaced)),
        kind=StartKind.FORK,
        unsent=spec_frame(spec(Path("/nowhere"))),
        cpu_us=0,
        timeline=Timeline(),
        cpu=CpuRules(init_cpu=False),
        lane=lane.open(),
        janitor=janitor,
        counts=counts,
        on_closed=lambda: None,
    )
    try:
        yield sandbox, guest
    finally:
        guest.close()
        os.close(log_write)
        os.close(report_write)
        await asyncio.wait_for(sandbox.close(), 10)
        lane.close()
        process.returncode = 0  # the sandbox has reaped it


@pytest.fixture
async def faults() -> list[Any]:
    """What came out of callbacks on the event loop."""
    found: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
    return found


@pytest.fixture
def janitor() -> Janitor:
    return Janitor(Counts())


@pytest.mark.time_limit(300)
async def test_a_run_ends_whatever_its_guest_sends(
    counts: Mapping[str, int], faults: list[Any], janitor: Janitor
) -> None:
    for seed in range(SEED, SEED + counts["frames"] // 10):
        streams = Streams(seed)
        stream = streams.mutate([*guests_frames(streams), *guests_frames(streams)[2:]])
        async with sandbox_over(janitor, Counts()) as (sandbox, guest):
            asked = msgspec.structs.replace(
                event(timeout_ms=30_000), stream_limit_bytes=streams.chance.choice((0, 60, 1_000_000))
            )
            running = asyncio.ensure_future(sandbox.run(asked, Sink()))
            await asyncio.sleep(0)
            guest.setblocking(False)
            with contextlib.suppress(OSError):
                for piece in streams.pieces(stream[:100_000]):
                    await asyncio.get_running_loop().sock_sendall(guest, piece)
            guest.close()
            await asyncio.wait([running], timeout=10)
            assert running.done(), seed
            fault = running.exception()
            if fault is not None:  # it never said that it was there
                assert isinstance(fault, SandboxFault), seed
                assert fault.stage == "guest", (seed, fault)
            else:
                ending = running.result()
                assert ending.outcome in (Outcome.OK, Outcome.HANDLER_ERROR, Outcome.INIT_ERROR, Outcome.EXITED), seed
                if ending.error is not None:
                    ending.error.type.encode()  # it is sent on
                    json.loads(ending.error.document.decode())
            await asyncio.wait_for(sandbox.gone.wait(), 10)
            assert sandbox.dead
        assert not faults, (seed, faults)


@pytest.mark.time_limit(300)
async def test_a_warm_run_ends_whatever_its_guest_sends(
    counts: Mapping[str, int], faults: list[Any], janitor: Janitor
) -> None:
    loop = asyncio.get_running_loop()

    async def run_ends(seed: int) -> None:
        streams = Streams(seed)
        answers = [frame for frame in guests_frames(streams)[2:] if streams.chance.random() < 0.5]
        stream = (
            streams.mutate([*answers, wire.frame(wire.RESULT, b"1")]) if seed % 4 else wire.frame(wire.RESULT, b"1")
        )
        async with sandbox_over(janitor, Counts()) as (sandbox, guest):
            guest.setblocking(False)
            guest.send(wire.frame(wire.HELLO) + wire.frame(wire.READY) + wire.frame(wire.RESULT, b"0"))
            first = await asyncio.wait_for(sandbox.run(event(timeout_ms=30_000), Sink()), 10)
            assert (first.outcome, first.reusable, first.payload) == (Outcome.OK, True, b"0")
            running = asyncio.ensure_future(sandbox.run(event(timeout_ms=30_000), Sink()))
            await asyncio.sleep(0)
            with contextlib.suppress(OSError):
                for piece in streams.pieces(stream[:100_000]):
                    await loop.sock_sendall(guest, piece)
            if seed % 4 == 0:
                ending = await asyncio.wait_for(running, 10)
                assert (ending.outcome, ending.reusable, ending.payload) == (Outcome.OK, True, b"1"), seed
            guest.close()
            await asyncio.wait([running], timeout=10)
            assert running.done(), seed
            if running.exception() is None:
                assert running.result().outcome in (Outcome.OK, Outcome.HANDLER_ERROR, Outcome.EXITED), seed
            else:  # it was gone before it could have the event
                assert isinstance(running.exception(), SandboxFault), seed
            await asyncio.wait_for(sandbox.gone.wait(), 10)
        assert not faults, (seed, faults)

    for first in range(SEED, SEED + counts["frames"] // 10, AT_ONCE):
        await asyncio.gather(*(run_ends(seed) for seed in range(first, first + AT_ONCE)))


async def test_a_warm_answer_over_the_limit_ends_the_sandbox(faults: list[Any], janitor: Janitor) -> None:
    async with sandbox_over(janitor, Counts()) as (sandbox, guest):
        guest.send(wire.frame(wire.HELLO) + wire.frame(wire.READY) + wire.frame(wire.RESULT, b"0"))
        await asyncio.wait_for(sandbox.run(event(timeout_ms=30_000), Sink()), 10)
        sandbox._spec = replace(sandbox.spec, result_limit_bytes=1_024)
        running = asyncio.ensure_future(sandbox.run(event(timeout_ms=30_000), Sink()))
        await asyncio.sleep(0)
        guest.send(wire.frame(wire.RESULT, b" " * 1_025))
        ending = await asyncio.wait_for(running, 10)
        assert (ending.outcome, ending.reusable, ending.payload) == (Outcome.EXITED, False, b"")
        await asyncio.wait_for(sandbox.gone.wait(), 10)
    assert not faults


async def test_a_torn_body_between_two_events_is_no_part_of_another(faults: list[Any], janitor: Janitor) -> None:
    async with sandbox_over(janitor, Counts()) as (sandbox, guest):
        guest.send(wire.frame(wire.HELLO) + wire.frame(wire.READY) + wire.frame(wire.RESULT, b"0"))
        await asyncio.wait_for(sandbox.run(event(timeout_ms=30_000), Sink()), 10)
        guest.send(wire.HEADER.pack(100, wire.RESULT) + b"half")
        while sandbox._link._body is None:
            await asyncio.sleep(0)
        running = asyncio.ensure_future(sandbox.run(event(timeout_ms=30_000), Sink()))
        await asyncio.sleep(0)
        guest.send(b"x" * 96)
        ending = await asyncio.wait_for(running, 10)
        assert ending.payload == b"half" + b"x" * 96, "its own to spoil"
        guest.close()
        await asyncio.wait_for(sandbox.gone.wait(), 10)
    assert not faults


async def test_a_result_that_arrives_after_the_timeout_changes_nothing(faults: list[Any], janitor: Janitor) -> None:
    async with sandbox_over(janitor, Counts()) as (sandbox, guest):
        guest.send(wire.frame(wire.HELLO) + wire.frame(wire.READY))
        running = asyncio.ensure_future(sandbox.run(event(timeout_ms=5_000), Sink()))
        moved = asyncio.Event()
        sandbox.listen(lambda left, entered: moved.set())
        await moved.wait()
        # In the socket already when the time is up.
        guest.send(wire.frame(wire.RESULT, b"1"))
        sandbox._on_timeout()
        ending = await asyncio.wait_for(running, 10)
        assert (ending.outcome, ending.reusable) == (Outcome.TIMEOUT, False)
        await asyncio.wait_for(sandbox.gone.wait(), 10)
    assert not faults
