"""Reads the lines that a query wants from a snapshot of a stored log, a block at a time.

Runs in any thread, until it is told to stop. What is held in memory is one segment and one block, whatever the limit:
where to begin for the newest lines is found first, backwards, and then all is read forwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event

from engine.model.invocation import LogLine
from engine.observe.log_blocks import Block, blocks
from engine.observe.log_query import LogQuery, lines_of
from engine.observe.log_store import Piece

REST_S = 0.0005
"""After each block, so that a search through a large log leaves the interpreter to the event loop most of the time."""


def read(pieces: Sequence[Piece], query: LogQuery, stop: Event) -> Iterator[list[LogLine]]:
    """The lines, oldest first, in lists that are not empty; nothing more once `stop` is set."""
    first, offset, skip = _start(pieces, query, stop) if query.limit > 0 else (0, 0, 0)
    for piece in pieces[first:]:
        if piece.last_us < query.since_us:
            offset = 0
            continue
        for block in blocks(piece.read()):
            if block.offset >= offset and _overlaps(block, query):
                lines = [line for batch in block.batches() for line in lines_of(batch, query.texts(batch))]
                if stop.wait(REST_S):
                    return
                if skip:
                    lines, skip = lines[skip:], max(0, skip - len(lines))
                if lines:
                    yield lines
        offset = 0


def _start(pieces: Sequence[Piece], query: LogQuery, stop: Event) -> tuple[int, int, int]:
    """The piece and the offset of the block in which the newest lines begin, and how many of its lines are before."""
    missing = query.limit
    for number in range(len(pieces) - 1, -1, -1):
        if pieces[number].last_us < query.since_us:
            continue
        for block in reversed(list(blocks(pieces[number].read()))):
            if _overlaps(block, query):
                missing -= _count(block, query, stop)
                if missing <= 0 or stop.is_set():
                    return number, block.offset, max(0, -missing)
    return 0, 0, 0


def _overlaps(block: Block, query: LogQuery) -> bool:
    return block.last_us >= query.since_us and block.first_us < query.until_us


def _count(block: Block, query: LogQuery, stop: Event) -> int:
    if query.takes_whole_blocks and query.since_us <= block.first_us and block.last_us < query.until_us:
        return block.lines
    stop.wait(REST_S)
    return sum([len(query.texts(batch)) for batch in block.batches()])
