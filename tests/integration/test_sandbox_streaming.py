"""One real sandbox that streams: what a guest may send, what a slow reader costs, and that a run always ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from engine.model.outcome import Outcome
from engine.sandbox.api import Ending
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import Collected, event, real_pool, run_once, spec, write_code

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

MOST_A_PIPE_MAY_HAVE = 1 << 20
"""A guest may enlarge its pipe to this: /proc/sys/fs/pipe-max-size."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    async with real_pool(tmp_path_factory.mktemp("pool")) as pool:
        yield pool


class Reader(Collected):
    """Keeps chunks; once `slow_after` bytes have come it wants no more until it is told to go on."""

    def __init__(self, slow_after: int | None = None) -> None:
        super().__init__()
        self.chunks: list[bytes] = []
        self.size = 0
        self.held = asyncio.Event()
        self.room: asyncio.Future[None] | None = None
        self._slow_after = slow_after

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        self.chunks.append(data)
        self.size += len(data)
        if self._slow_after is None or self.size < self._slow_after:
            return None
        self.held.set()
        if self.room is None:
            self.room = asyncio.get_running_loop().create_future()
        return self.room

    def go_on(self) -> None:
        self._slow_after = None
        assert self.room is not None
        self.room.set_result(None)


async def stream(
    pool: LinuxPool, folder: Path, source: str, sink: Reader, *, limit: int = 1 << 30, timeout_ms: int = 10_000
) -> Ending:
    """One streamed run of `source` in a sandbox of its own."""
    sandbox = await pool.start(spec(write_code(folder, source)))
    try:
        asked = msgspec.structs.replace(event(timeout_ms=timeout_ms), stream_limit_bytes=limit)
        return await sandbox.run(asked, sink)
    finally:
        await sandbox.close()


RAW = """
    import fcntl, os, struct, time
    def frame(body, kind=21):
        data = struct.pack("<IB3x", len(body), kind) + body
        while data:
            data = data[os.write(3, data):]
    def handler(event, context):
        {body}
        time.sleep(60)
"""


@pytest.mark.parametrize(
    "body",
    ["frame(b'x')", "frame(bytes(262145))", "frame(b'x' * 5); frame(b'x' * 6)", "frame(b'')"],
    ids=["not asked for", "too large a chunk", "over the limit", "empty"],
)
async def test_chunks_that_break_the_rules_end_their_sandbox(pool: LinuxPool, tmp_path: Path, body: str) -> None:
    source = RAW.format(body=body)
    if body == "frame(b'x')":
        ending, _ = await run_once(pool, tmp_path / "code", source)
    else:
        ending = await stream(pool, tmp_path / "code", source, Reader(), limit=10 if "5" in body[:14] else 1 << 30)
    assert (ending.outcome, ending.reusable) == (Outcome.EXITED, False)


@pytest.mark.parametrize("size", [1, 65_536])
async def test_a_guest_that_floods_a_slow_reader_is_read_no_further(pool: LinuxPool, tmp_path: Path, size: int) -> None:
    flood = f"fcntl.fcntl(3, 1031, {MOST_A_PIPE_MAY_HAVE})\n        while True: frame(b'x' * {size})"
    reader = Reader(slow_after=1)
    began = time.monotonic()
    ending = await stream(pool, tmp_path / "code", RAW.format(body=flood), reader, timeout_ms=1_500)
    assert ending.outcome is Outcome.TIMEOUT
    assert reader.size == size
    assert time.monotonic() - began >= 1.4


async def test_a_run_goes_on_when_its_reader_does(pool: LinuxPool, tmp_path: Path) -> None:
    source = "def handler(event, context):\n    for n in range(200):\n        yield bytes(10_000)\n    print('made')\n"
    reader = Reader(slow_after=100_000)
    running = asyncio.create_task(stream(pool, tmp_path / "code", source, reader))
    await reader.held.wait()
    assert not running.done()
    assert b"made" not in reader.written
    reader.go_on()
    ending = await running
    assert (ending.outcome, reader.size) == (Outcome.OK, 2_000_000)
    assert bytes(reader.written) == b"made\n"


async def test_a_cancelled_run_ends_while_its_reader_is_slow(pool: LinuxPool, tmp_path: Path) -> None:
    source = "def handler(event, context):\n    while True:\n        yield bytes(10_000)\n"
    reader = Reader(slow_after=1)
    running = asyncio.create_task(stream(pool, tmp_path / "code", source, reader))
    await reader.held.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert pool.alive == 0


async def test_what_was_made_before_an_exit_arrives(pool: LinuxPool, tmp_path: Path) -> None:
    source = "import os\ndef handler(event, context):\n    yield b'last words'\n    os._exit(3)\n"
    reader = Reader()
    ending = await stream(pool, tmp_path / "code", source, reader)
    assert (ending.outcome, ending.exit_status) == (Outcome.EXITED, "exit status 3")
    assert b"".join(reader.chunks) == b"last words"


async def test_what_reads_the_input_may_fail_and_ends_the_run_with_it(pool: LinuxPool, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise ZeroDivisionError

    source = "def handler(event, context):\n    for chunk in event.stream:\n        yield chunk\n"
    sandbox = await pool.start(spec(write_code(tmp_path / "code", source)))
    try:
        asked = msgspec.structs.replace(event(), stream_limit_bytes=1 << 30, input=broken())
        with pytest.raises(ZeroDivisionError):
            await sandbox.run(asked, Reader())
        assert sandbox.dead
    finally:
        await sandbox.close()


async def test_a_flood_of_tiny_chunks_leaves_the_loop_to_others(pool: LinuxPool, tmp_path: Path) -> None:
    flood = f"""fcntl.fcntl(3, 1031, {MOST_A_PIPE_MAY_HAVE})
        many = (b'\\x01' + bytes(3) + b'\\x15' + bytes(4)) * 7000
        while True: os.write(3, many)"""
    reader = Reader()
    sandbox = await pool.start(spec(write_code(tmp_path / "code", RAW.format(body=flood))))
    try:
        asked = msgspec.structs.replace(event(timeout_ms=1_500), stream_limit_bytes=1 << 30)
        running = asyncio.create_task(sandbox.run(asked, reader))
        most = 0
        while not running.done():
            before = len(reader.chunks)
            await asyncio.sleep(0)
            most = max(most, len(reader.chunks) - before)
        assert (await running).outcome is Outcome.TIMEOUT
    finally:
        await sandbox.close()
    # So much of one turn, whatever the machine: the rest waits for the clock.
    assert 0 < most <= 1_000


async def test_nothing_of_an_input_is_taken_before_the_handler_can_have_it(pool: LinuxPool, tmp_path: Path) -> None:
    taken = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal taken
        taken += 1
        yield b"x"

    source = "import time\ntime.sleep(0.3)\nraise ValueError\n"
    sandbox = await pool.start(spec(write_code(tmp_path / "code", source)))
    try:
        asked = msgspec.structs.replace(event(), stream_limit_bytes=1 << 30, input=counted())
        ending = await sandbox.run(asked, Reader())
    finally:
        await sandbox.close()
    assert (ending.outcome, taken) == (Outcome.INIT_ERROR, 0)
