"""What waits for a slow reader is bounded, in order, and complete but for lines of the log, which are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.invoke.chunks import JOINED_BYTES, PIECE_BYTES, WAITING_BYTES
from engine.model.outcome import StartKind
from engine.rpc.frames import WAITING_LINES, WAITING_LOG_BYTES, FrameSink
from tests.unit.rpc.things import line


def taken(sink: FrameSink) -> list[tuple[str, bytes]]:
    frames: list[tuple[str, bytes]] = []
    while (frame := sink.take()) is not None:
        kind = frame.WhichOneof("frame")
        assert kind is not None
        frames.append((kind, frame.chunk or frame.log.text))
    return frames


async def test_frames_come_out_in_the_order_in_which_they_were_made() -> None:
    sink = FrameSink(logs=True)
    sink.started("r", "$LATEST", StartKind.WARM)
    sink.log(line(b"1"))
    sink.chunk(b"2")
    sink.log(line(b"3"))
    sink.chunk(b"4")
    assert taken(sink) == [("started", b""), ("log", b"1"), ("chunk", b"2"), ("log", b"3"), ("chunk", b"4")]
    assert sink.take() is None


async def test_chunks_that_wait_next_to_each_other_leave_as_one() -> None:
    sink = FrameSink(logs=True)
    sink.chunk(b"1")
    sink.chunk(b"2")
    sink.log(line(b"l"))
    sink.chunk(b"3")
    assert taken(sink) == [("chunk", b"12"), ("log", b"l"), ("chunk", b"3")]
    for _ in range(3):
        sink.chunk(b"x" * (JOINED_BYTES // 2))
    assert [len(data) for _, data in taken(sink)] == [JOINED_BYTES, JOINED_BYTES // 2]


async def test_a_function_is_held_up_while_enough_of_its_answer_waits() -> None:
    sink = FrameSink(logs=False)
    piece = b"x" * (JOINED_BYTES - PIECE_BYTES)
    for _ in range(WAITING_BYTES // JOINED_BYTES - 1):
        assert sink.chunk(piece) is None
    held = sink.chunk(piece)
    assert held is not None
    assert sink.chunk(piece) is held
    sink.take()
    assert not held.done()
    sink.take()
    assert held.done()
    assert sink.chunk(b"z") is None


async def test_the_log_is_left_out_unless_asked_for() -> None:
    sink = FrameSink(logs=False)
    sink.log(line(b"1"))
    assert sink.take() is None


async def test_too_many_lines_cost_the_oldest_and_one_line_says_how_many() -> None:
    sink = FrameSink(logs=True)
    sink.started("r", "$LATEST", StartKind.WARM)
    for number in range(WAITING_LINES + 5):
        sink.log(line(b"%d" % number))
        sink.chunk(b"c")
    frames = taken(sink)
    assert frames[0] == ("started", b"")
    assert sum(kind == "chunk" for kind, _ in frames) == WAITING_LINES + 5
    logs = [text for kind, text in frames if kind == "log"]
    assert logs[0] == b"[cleave] 5 lines were dropped here: the reader is too slow"
    assert logs[1:] == [b"%d" % number for number in range(5, WAITING_LINES + 5)]


async def test_large_lines_are_bounded_by_their_bytes_and_the_newest_stays() -> None:
    sink = FrameSink(logs=True)
    large = b"x" * (WAITING_LOG_BYTES + 1)
    sink.log(line(b"first"))
    sink.log(line(large))
    logs = [text for _, text in taken(sink)]
    assert logs == [b"[cleave] 1 line was dropped here: the reader is too slow", large]
    sink.log(line(b"later"))
    assert taken(sink) == [("log", b"later")]


async def test_a_reader_that_waits_is_woken_by_each_thing() -> None:
    sink = FrameSink(logs=True)
    makers: list[Callable[[], object]] = [lambda: sink.log(line(b"1")), lambda: sink.chunk(b"2"), sink.wake]
    for make in makers:
        waiting = asyncio.create_task(sink.news())
        await asyncio.sleep(0)
        assert not waiting.done()
        make()
        await waiting


async def test_many_small_pieces_count_for_what_they_take() -> None:
    sink = FrameSink(logs=False)
    held = 0
    while sink.chunk(b"xy") is None:
        held += 1
    assert held < WAITING_BYTES // PIECE_BYTES
