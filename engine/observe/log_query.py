"""Which lines of a log a reader wants."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.model.invocation import LogBatch, LogLine

NO_END = 1 << 62


class LogQuery(msgspec.Struct, frozen=True):
    """All lines that fulfil each condition given. Times are microseconds since the epoch; `until_us` is excluded."""

    request_id: str = ""
    since_us: int = 0
    until_us: int = NO_END
    contains: bytes = b""  # bytes that the line has, in this very case
    limit: int = 0  # the newest so many; 0: all

    @property
    def takes_whole_blocks(self) -> bool:
        """Whether only times decide."""
        return not self.request_id and not self.contains

    def texts(self, batch: LogBatch) -> Sequence[bytes]:
        """What it takes of a batch, but for its limit."""
        if self.request_id and batch.request_id != self.request_id:
            return ()
        if not self.since_us <= batch.time_us < self.until_us:
            return ()
        if self.contains:
            return [text for text in batch.texts if self.contains in text]
        return batch.texts


def lines_of(batch: LogBatch, texts: Sequence[bytes] | None = None) -> list[LogLine]:
    """A batch, or some texts of it, as lines."""
    return [LogLine(batch.time_us, text, batch.request_id) for text in (batch.texts if texts is None else texts)]
