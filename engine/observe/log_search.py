"""Searches stored logs for events, a page at a time, in the order of their times: what CloudWatch's clients ask for.

An event's id is one number made of its time in milliseconds and its place on the disk, so that it stays the same, and
the order of ids is the order of events. Lines may be stored out of their order (that a run began is written when it
ends if it wrote nothing): blocks are taken by the earliest time in them, and an event is given out once no block that
is left can have an earlier one. Runs in any thread, until it is told to stop. Guarantees: a page has no more lines and
bytes than were asked for, and gets through no more than SCAN_BYTES beside what reaches over its beginning; the next one
goes on where it ended, whatever came or went since.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterator, Sequence
from threading import Event

import msgspec

from engine.observe.log_blocks import Block, blocks
from engine.observe.log_index import Index, segment
from engine.observe.log_store import Piece

SCAN_BYTES = 8_388_608
"""Of blocks on the disk, for one page: some seconds of work at the most."""
EVENT_COST_BYTES = 26
"""What CloudWatch counts for an event beside its text."""
REST_S = 0.0005
"""After each block: see engine.observe.log_reader."""
ID_DIGITS = 56
NEWEST_ID = 10**ID_DIGITS - 1

_LINES, _OFFSETS, _SEGMENTS, _LOGS = 10**10, 10**12, 10**10, 10**10
_PLACES = _LINES * _OFFSETS * _SEGMENTS * _LOGS
"""Ids of one millisecond."""


class StoredEvent(msgspec.Struct, frozen=True):
    """A line. `stored_us` is the time of the newest line that was stored together with it."""

    id: int
    time_us: int
    stored_us: int
    stream: str
    text: bytes


class Search(msgspec.Struct, frozen=True):
    """All events that fulfil each condition given. Times are milliseconds since the epoch; `until_ms` is excluded. With
    `newest_first` from the newest on backwards. `beyond` is the id behind which to go on, -1 for none."""

    limit: int
    limit_bytes: int
    since_ms: int = 0
    until_ms: int = 1 << 62
    newest_first: bool = False
    beyond: int = -1
    wants_stream: Callable[[str], bool] | None = None
    matches: Callable[[bytes], bool] | None = None


class Page(msgspec.Struct, frozen=True):
    """Events in the order asked for; `beyond` is None where nothing is left, otherwise where the next page begins."""

    events: list[StoredEvent]
    beyond: int | None


class StoredLog(msgspec.Struct, frozen=True):
    """A snapshot of one function's log."""

    name: str
    pieces: Sequence[Piece]
    index: Index


class _Reading(msgspec.Struct, frozen=True):
    """A piece that has to be looked through."""

    log: str
    piece: Piece


Due = tuple[int, int, _Reading, Block | None]


def search(logs: Sequence[StoredLog], query: Search, stop: Event) -> Page:
    """One page; an empty one once `stop` is set."""
    sign = -1 if query.newest_first else 1
    behind = sign * query.beyond if query.beyond >= 0 else -NEWEST_ID - 1
    found: list[StoredEvent] = []
    waiting: list[tuple[int, StoredEvent]] = []
    room, scanned, first = query.limit_bytes, 0, NEWEST_ID

    def take(before: int) -> bool:
        """Move what is before this key to the page; whether there is room for more."""
        nonlocal room
        while waiting and waiting[0][0] < before:
            cost = len(waiting[0][1].text) + EVENT_COST_BYTES
            if found and (len(found) == query.limit or cost > room):
                return False
            room -= cost
            found.append(heapq.heappop(waiting)[1])
        return True

    for key, reading, block in _in_order(logs, query, behind, stop):
        if not take(key):
            return Page(found, found[-1].id)
        if key > behind:  # the others were there for the page before: it has counted them
            first = min(first, key)
            # What begins together is read together, or the next page would begin where this one did.
            if scanned >= SCAN_BYTES and key > first:
                return Page(found, sign * (key - 1))
            scanned += block.size
        for event in _events(reading, block, query):
            if sign * event.id > behind:
                heapq.heappush(waiting, (sign * event.id, event))
        if stop.wait(REST_S):
            return Page([], None)
    return Page(found, None) if take(NEWEST_ID + 1) else Page(found, found[-1].id)


def _in_order(
    logs: Sequence[StoredLog], query: Search, behind: int, stop: Event
) -> Iterator[tuple[int, _Reading, Block]]:
    """The blocks that may have events of the page or later ones, each with the least key that an event in it can have,
    by that."""
    due: list[Due] = []
    for log in logs:
        for piece in log.pieces:
            if piece.last_us // 1_000 < query.since_ms:
                continue
            known = segment(piece, log.index, stop)
            wanted = query.wants_stream is None or any(map(query.wants_stream, known.streams))
            if wanted and _reaches(known.first_us, known.last_us, query, behind):
                due.append((_least(known.first_us, known.last_us, query), len(due), _Reading(log.name, piece), None))
    heapq.heapify(due)
    number = len(due)
    while due:
        key, _, reading, block = heapq.heappop(due)
        if block is not None:
            yield key, reading, block
            continue
        for block in blocks(reading.piece.read()):
            if _reaches(block.first_us, block.last_us, query, behind):
                number += 1
                heapq.heappush(due, (_least(block.first_us, block.last_us, query), number, reading, block))


def _least(first_us: int, last_us: int, query: Search) -> int:
    """The least key that an event between these times can have."""
    if query.newest_first:
        return -((last_us // 1_000 + 1) * _PLACES - 1)
    return first_us // 1_000 * _PLACES


def _reaches(first_us: int, last_us: int, query: Search, behind: int) -> bool:
    """Whether an event between these times can be wanted."""
    first_ms, last_ms = first_us // 1_000, last_us // 1_000
    if last_ms < query.since_ms or first_ms >= query.until_ms:
        return False
    return (-first_ms * _PLACES if query.newest_first else (last_ms + 1) * _PLACES) > behind


def _events(reading: _Reading, block: Block, query: Search) -> Iterator[StoredEvent]:
    log = zlib.crc32(reading.log.encode())
    place = ((log * _SEGMENTS + reading.piece.number) * _OFFSETS + block.offset) * _LINES
    for batch in block.batches():
        time_ms = batch.time_us // 1_000
        if query.since_ms <= time_ms < query.until_ms and (
            query.wants_stream is None or query.wants_stream(batch.stream)
        ):
            first = time_ms * _PLACES + place
            for number, text in enumerate(batch.texts):
                if query.matches is None or query.matches(text):
                    yield StoredEvent(first + number, batch.time_us, block.last_us, batch.stream, text)
        place += len(batch.texts)
