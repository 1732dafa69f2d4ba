"""Which log streams there are in a stored log, and from when to when each has lines: read once, kept, and added to.

A segment is only ever appended to, so that what was read of it stays true; what has come since is read when somebody
asks again. Leaves to others: when an index ends (with its log: engine.observe.function_logs). Guarantees: any number of
threads may bring one index up to date at the same time; each sees at least what its own snapshot has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from threading import Event

import msgspec

from engine.observe.log_blocks import blocks
from engine.observe.log_store import Piece

REST_S = 0.0002
"""After each block, so that an index that is made at once leaves the interpreter to the event loop most of the time."""


class Span(msgspec.Struct, frozen=True):
    """The times of a stream's lines, and of the newest line that was stored together with its last: microseconds since
    the epoch."""

    first_us: int
    last_us: int
    stored_us: int

    def joined(self, other: Span | None) -> Span:
        """Both."""
        if other is None:
            return self
        first, last = min(self.first_us, other.first_us), max(self.last_us, other.last_us)
        return Span(first, last, max(self.stored_us, other.stored_us))


class Segment(msgspec.Struct, frozen=True):
    """What is known of the first `scanned` bytes of a segment."""

    scanned: int
    first_us: int
    last_us: int
    streams: Mapping[str, Span]


NOTHING = Segment(0, 1 << 62, 0, {})
Index = dict[str, Segment]
"""By the paths of a function's segments."""


def segment(piece: Piece, index: Index, stop: Event) -> Segment:
    """What there is in a piece; incomplete once `stop` is set."""
    known = index.get(piece.path, NOTHING)
    if known.scanned >= piece.size:
        return known
    scanned, first, last = known.scanned, known.first_us, known.last_us
    streams = dict(known.streams)
    for block in blocks(piece.read(), known.scanned):
        if stop.wait(REST_S):
            return known
        for head in block.heads():
            one = Span(head.time_us, head.time_us, block.last_us)
            streams[head.stream] = one.joined(streams.get(head.stream))
        scanned, first, last = block.offset + block.size, min(first, block.first_us), max(last, block.last_us)
    found = index[piece.path] = Segment(scanned, first, last, streams)
    return found


def streams(pieces: Sequence[Piece], index: Index, stop: Event) -> dict[str, Span]:
    """The streams of a whole log."""
    found: dict[str, Span] = {}
    for piece in pieces:
        for name, span in segment(piece, index, stop).streams.items():
            found[name] = span.joined(found.get(name))
    return found


def without(index: Index, pieces: Iterable[Piece]) -> None:
    """Forget the segments that are no more."""
    there = {piece.path for piece in pieces}
    for path in [path for path in list(index) if path not in there]:
        index.pop(path, None)
