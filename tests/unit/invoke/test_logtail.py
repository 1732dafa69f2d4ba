"""A function's output becomes lines, in order and whole, and a flood costs only the flooder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.invoke.logtail import (
    BACKLOG_BYTES,
    FINISH_LINES,
    LINE_LIMIT_BYTES,
    SLICE_LINES,
    LogTail,
    dropped_line,
)
from engine.model.invocation import LOG_TAIL_BYTES, LogBatch, LogLine


class Kept:
    """A tail with what it kept and forwarded."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.forwarded: list[LogLine] = []
        self.awaited = 0
        self.there = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.log = LogTail("f", "r1", "s1", self.keep, self.forwarded.append, lambda: 5_000_000, loop)

    def keep(self, function_name: str, batch: LogBatch) -> None:
        assert (function_name, batch.time_us, batch.request_id, batch.stream) == ("f", 5_000, "r1", "s1")
        self.lines += batch.texts
        if len(self.lines) >= self.awaited > 0:
            self.there.set()

    async def reached(self, lines: int) -> None:
        """Wait until so many lines have come."""
        self.awaited = lines
        async with asyncio.timeout(10):
            await self.there.wait()


async def test_pieces_of_any_size_become_whole_lines() -> None:
    kept = Kept()
    for piece in (b"on", b"e\ntwo\nth", b"", b"re", b"e\n", b"\n", b"last"):
        kept.log.output(piece)
    assert kept.lines == [b"one", b"two", b"three", b""]
    kept.log.finish_now()
    assert kept.lines == [b"one", b"two", b"three", b"", b"last"]
    assert [line.text for line in kept.forwarded] == kept.lines
    assert kept.forwarded[0] == LogLine(5_000, b"one", "r1")


async def test_bytes_that_are_no_text_stay_as_they_are() -> None:
    kept = Kept()
    kept.log.output(bytes(range(256)) + b"\n\xff\xfe\r\n")
    assert kept.lines == [bytes(range(10)), bytes(range(11, 256)), b"\xff\xfe\r"]


async def test_a_line_of_the_engine_stands_on_a_line_of_its_own() -> None:
    kept = Kept()
    kept.log.output(b"half")
    kept.log.say(["END"])
    assert kept.lines == [b"half", b"END"]


@pytest.mark.parametrize("piece_bytes", [1_000, LINE_LIMIT_BYTES * 5])
async def test_a_line_over_the_limit_is_cut_and_nothing_of_it_is_lost(piece_bytes: int) -> None:
    kept = Kept()
    text = b"x" * (2 * LINE_LIMIT_BYTES) + b"yz\n"
    for at in range(0, len(text), piece_bytes):
        kept.log.output(text[at : at + piece_bytes])
    kept.log.finish_now()
    assert b"".join(kept.lines) + b"\n" == text
    assert max(map(len, kept.lines)) == LINE_LIMIT_BYTES


async def test_a_long_line_that_comes_byte_by_byte_takes_linear_time() -> None:
    kept = Kept()
    begun = time.process_time()
    for _ in range(LINE_LIMIT_BYTES):
        kept.log.output(b"x")
    kept.log.finish_now()
    assert kept.lines == [b"x" * LINE_LIMIT_BYTES]
    assert time.process_time() - begun < 5  # some 0.1 s; copying it each time would take minutes


@pytest.mark.parametrize("lines", [1, SLICE_LINES, SLICE_LINES + 1, FINISH_LINES])
async def test_what_is_within_the_bounds_is_kept_to_the_last_line(lines: int) -> None:
    kept = Kept()
    kept.log.output(b"".join(b"%d\n" % number for number in range(lines)))
    await kept.log.finish()
    assert kept.lines == [b"%d" % number for number in range(lines)]


async def test_a_function_that_goes_on_running_is_caught_up_with() -> None:
    kept = Kept()
    kept.log.output(b"".join(b"%d\n" % number for number in range(3 * SLICE_LINES)) + b"half")
    assert len(kept.lines) == SLICE_LINES
    assert kept.log.behind
    await kept.reached(3 * SLICE_LINES)
    assert not kept.log.behind
    kept.log.output(b" line\n")
    assert kept.lines == [b"%d" % number for number in range(3 * SLICE_LINES)] + [b"half line"]


async def test_the_end_keeps_the_newest_and_says_how_many_are_missing() -> None:
    kept = Kept()
    total = FINISH_LINES + SLICE_LINES + 5_000
    kept.log.output(b"".join(b"%d\n" % number for number in range(total)) + b"end")
    await kept.log.finish()
    first = [b"%d" % number for number in range(SLICE_LINES)]
    newest = [b"%d" % number for number in range(total - FINISH_LINES, total)]
    assert kept.lines == [*first, dropped_line(5_000).encode(), *newest, b"end"]


async def test_a_caller_that_cannot_wait_gets_the_newest_slice() -> None:
    kept = Kept()
    kept.log.output(b"".join(b"%d\n" % number for number in range(5_000)))
    kept.log.finish_now()
    assert kept.lines[SLICE_LINES] == dropped_line(5_000 - 2 * SLICE_LINES).encode()
    assert kept.lines[-1] == b"4999"
    assert len(kept.lines) == 2 * SLICE_LINES + 1


async def test_a_flood_holds_up_the_loop_for_a_moment_only_and_is_bounded(counts: Mapping[str, int]) -> None:
    kept = Kept()
    total = counts["log_lines"]
    written = 0
    longest = 0.0
    while written < total:
        piece = b"".join(b"%d\n" % number for number in range(written, min(total, written + 8_000)))
        written += 8_000
        begun = time.process_time()
        kept.log.output(piece)
        longest = max(longest, time.process_time() - begun)
        assert len(kept.log._pending) <= BACKLOG_BYTES
        await asyncio.sleep(0)
    await kept.log.finish()
    assert longest < 0.1  # some 2 ms
    assert kept.lines[-1] == b"%d" % (total - 1)
    missing = [int(line.split()[0][1:]) for line in kept.lines if line.startswith(b"[")]
    assert len(kept.lines) - len(missing) + sum(missing) == total
    numbers = [int(line) for line in kept.lines if not line.startswith(b"[")]
    assert numbers == sorted(numbers)


async def test_one_piece_larger_than_the_backlog_keeps_its_end() -> None:
    kept = Kept()
    total = 600_000
    kept.log.output(b"".join(b"%d\n" % number for number in range(total)))
    assert len(kept.log._pending) <= BACKLOG_BYTES
    waiting, _, _ = kept.log._pending.partition(b"\n")
    assert int(waiting) == SLICE_LINES + kept.log._dropped  # it begins where a line begins
    await kept.log.finish()
    missing = [int(line.split()[0][1:]) for line in kept.lines if line.startswith(b"[")]
    assert len(kept.lines) - len(missing) + sum(missing) == total
    assert kept.lines[-1] == b"%d" % (total - 1)
    assert all(line.startswith(b"[") or line.isdigit() for line in kept.lines)


async def test_a_line_without_end_in_a_flood_is_bounded_too() -> None:
    kept = Kept()
    kept.log.output(b"x\n" * (SLICE_LINES + 1))
    for _ in range(40):
        kept.log.output(b"y" * 65_536)
        assert len(kept.log._pending) <= BACKLOG_BYTES
    await kept.log.finish()
    assert max(map(len, kept.lines)) <= LINE_LIMIT_BYTES
    assert kept.lines[-1].endswith(b"y")


async def test_what_comes_when_all_is_over_is_kept_at_once_and_forwarded_to_nobody() -> None:
    kept, late = Kept(), list[bytes]()
    kept.log.output(b"one\n")
    kept.log.finish_now()
    kept.log.end(lambda name, batch: late.extend(batch.texts))
    kept.log.output(b"half a line")
    kept.log.output(b"\n\ntwo\nthree")
    assert kept.lines == [b"one"]
    assert late == [b"half a line", b"", b"", b"two", b"three"]
    assert [line.text for line in kept.forwarded] == [b"one"]


async def test_when_it_is_over_no_timer_is_left() -> None:
    kept = Kept()
    kept.log.output(b"x\n" * (2 * SLICE_LINES))
    assert kept.log._timer is not None
    kept.log.finish_now()
    assert kept.log._timer is None


async def test_the_tail_is_the_last_lines_whole_and_never_over_its_limit() -> None:
    kept = Kept()
    lines = [b"%04d" % number + b"." * 95 for number in range(200)]
    kept.log.output(b"\n".join(lines) + b"\n")
    tail = kept.log.tail()
    assert tail == b"".join(line + b"\n" for line in lines[-40:])
    assert len(tail) == 4_000
    assert sum(map(len, kept.log._tail)) < 2 * LOG_TAIL_BYTES  # no more is held than is needed


async def test_a_line_too_long_for_the_tail_shows_its_end() -> None:
    kept = Kept()
    kept.log.output(b"a" * 5_000 + b"b\nlast\n")
    tail = kept.log.tail()
    assert len(tail) == LOG_TAIL_BYTES
    assert tail.endswith(b"ab\nlast\n")


@pytest.mark.parametrize("length", [LOG_TAIL_BYTES - 2, LOG_TAIL_BYTES - 1, LOG_TAIL_BYTES])
async def test_the_tail_fits_at_its_border(length: int) -> None:
    kept = Kept()
    kept.log.output(b"first\n" + b"x" * length + b"\n")
    assert kept.log.tail() == b"x" * min(length, LOG_TAIL_BYTES - 1) + b"\n"


@given(st.lists(st.binary(max_size=40).map(lambda piece: piece.replace(b"\x00", b"\n")), max_size=60))
def test_lines_do_not_depend_on_how_output_is_cut(pieces: list[bytes]) -> None:
    async def check() -> None:
        kept = Kept()
        for piece in pieces:
            kept.log.output(piece)
        await kept.log.finish()
        lines = b"".join(pieces).split(b"\n")
        if not lines[-1]:
            lines.pop()
        assert kept.lines == lines
        assert len(kept.log.tail()) <= LOG_TAIL_BYTES
        assert b"".join(line + b"\n" for line in lines).endswith(kept.log.tail())

    asyncio.run(check())
