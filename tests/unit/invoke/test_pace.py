"""A stream's rate: a free start, then no faster than the rate, and never faster than its reader."""

from __future__ import annotations

import asyncio

from engine.invoke.pace import Pace, PaceLimits


class Reader:
    """A sink that takes all, and may be slow."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.slow: asyncio.Future[None] | None = None

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        self.taken.append(data)
        return self.slow


async def test_what_is_within_the_free_start_is_not_held_up() -> None:
    reader = Reader()
    pace = Pace(PaceLimits(1, free_bytes=4), reader.chunk, asyncio.get_running_loop())
    assert pace.chunk(b"ab") is None
    assert pace.chunk(b"cd") is None
    assert pace.chunk(b"e") is not None
    assert reader.taken == [b"ab", b"cd", b"e"]


async def test_what_is_over_it_takes_its_time() -> None:
    loop = asyncio.get_running_loop()
    pace = Pace(PaceLimits(1_000, free_bytes=100), Reader().chunk, loop)
    assert pace.chunk(bytes(100)) is None
    began = loop.time()
    for _ in range(4):
        room = pace.chunk(bytes(50))
        assert room is not None
        await room
    assert loop.time() - began >= 0.19


async def test_a_reader_that_is_slower_than_the_rate_is_waited_for() -> None:
    reader = Reader()
    loop = asyncio.get_running_loop()
    pace = Pace(PaceLimits(1e9, free_bytes=0), reader.chunk, loop)
    reader.slow = loop.create_future()
    room = pace.chunk(b"x" * 1_000_000)
    assert room is not None
    await asyncio.sleep(0.01)  # long after the rate has room
    assert not room.done()
    reader.slow.set_result(None)
    await room


async def test_a_reader_within_the_free_start_holds_the_function_up_itself() -> None:
    reader = Reader()
    reader.slow = asyncio.get_running_loop().create_future()
    pace = Pace(PaceLimits(1, free_bytes=10), reader.chunk, asyncio.get_running_loop())
    assert pace.chunk(b"x") is reader.slow
