"""The logs of functions: kept on disk by a thread, told to those who follow as they are written.

Theory of operation: `append` puts a batch of lines into memory and returns; FLUSH_S later a thread of this room's own
takes all that has come since and writes it (engine.observe.log_store). A reader has what waits written first, then
reads a snapshot of the files in one of a few threads; one who follows is on the list of followers before that,
so that each line comes to him once: from the files, or as it is appended.

Leaves to others: taking output apart into lines (engine.invoke.logtail), sending lines to clients (the fronts).
Guarantees: `append` never blocks. What waits of one function is bounded: a function that writes more than its rate
loses the oldest of it, and a line in its place says how many; others lose nothing. A slow follower loses the oldest of
what it has not read, is told how many, and nobody else notices. A kill of the engine loses at most what came within
FLUSH_S, and while the disk was slower than that. One event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import msgspec
import orjson

from engine.errors import StoreUnusable
from engine.model.invocation import LogBatch, LogLine
from engine.model.metrics import LogCounts
from engine.observe import oplog
from engine.observe.log_index import Index, Span, streams, without
from engine.observe.log_query import LogQuery, lines_of
from engine.observe.log_reader import read
from engine.observe.log_search import Page, Search, StoredLog, search
from engine.observe.log_store import Limits, LogStore, Piece

FLUSH_S = 0.2
SWEEP_EVERY_S = 600.0
"""How often lines that are too old are removed."""
LINE_COST_BYTES = 40
"""What a line takes in memory beside its text."""
FULL_SHARES = 16
"""While no more functions than these write, each may have what its rate gives waiting; more share it."""
LEAST_SHARE_BYTES = 65_536
READERS = 4
"""Logs that are searched at a time; more wait."""
FOLLOW_LINES = 10_000
FOLLOW_BYTES = 4_194_304
"""How far a follower may be behind."""
_DAY_US = 86_400_000_000

ALL = LogQuery()

T = TypeVar("T")


class _Batches:
    """Batches that wait, the oldest of which give way to newer ones."""

    __slots__ = ("batches", "bytes", "dropped", "lines")

    def __init__(self) -> None:
        self.batches: deque[LogBatch] = deque()
        self.bytes = 0
        self.lines = 0
        self.dropped = 0  # lines missing before the first

    def add(self, batch: LogBatch, max_bytes: int, max_lines: int) -> int:
        """One more; returns how many lines gave way to it."""
        before = self.dropped
        texts = batch.texts
        self.batches.append(batch)
        self.lines += len(texts)
        self.bytes += sum(map(len, texts)) + len(texts) * LINE_COST_BYTES
        while (self.bytes > max_bytes or self.lines > max_lines) and len(self.batches) > 1:
            self.dropped += len(self._pop().texts)
        return self.dropped - before

    def _pop(self) -> LogBatch:
        batch = self.batches.popleft()
        self.lines -= len(batch.texts)
        self.bytes -= sum(map(len, batch.texts)) + len(batch.texts) * LINE_COST_BYTES
        return batch

    def take(self, why: str) -> LogBatch | None:
        """The next, after a word about what is missing before it; None if there is none."""
        if not self.batches:
            return None
        if self.dropped:
            dropped, self.dropped = self.dropped, 0
            return missing(self.batches[0], dropped, why)
        return self._pop()


class _Follower:
    """What is on its way to one reader."""

    __slots__ = ("news", "query", "waiting")

    def __init__(self, query: LogQuery) -> None:
        self.query = query
        self.waiting = _Batches()
        self.news = asyncio.Event()

    def tell(self, batch: LogBatch) -> None:
        texts = self.query.texts(batch)
        if texts:
            wanted = LogBatch(batch.time_us, batch.request_id, batch.stream, texts, batch.json)
            self.waiting.add(wanted, FOLLOW_BYTES, FOLLOW_LINES)
            self.news.set()


class FunctionLogs:
    """Implements what the pipeline writes to and the fronts read from. Make one with `open`."""

    def __init__(self, store: LogStore, *, rate_bytes: int, age_us: int, wall_us: Callable[[], int]) -> None:
        self._store = store
        self._share_bytes = max(1, int(rate_bytes * FLUSH_S))
        self.age_us = age_us
        self._wall_us = wall_us
        self._log = oplog.logger()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="function-logs")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="log-readers")
        self._waiting: dict[str, _Batches] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[int] | None = None
        self._lost = 0  # lines that the disk has not taken, since it last took some
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._followers: dict[str, set[_Follower]] = {}
        self._indexes: dict[str, Index] = {}
        self._ages_us: Callable[[], Mapping[str, int]] = dict
        self._settle: Callable[[], object] = int  # nothing
        self._counted = self._dropped_busy = self._dropped_rate = self._dropped_disk = 0

    def listen(self, settle: Callable[[], None]) -> None:
        """Call `settle` ahead of whatever must find all lines of what has ended: it appends those that are missing."""
        self._settle = settle

    def retain(self, ages_us: Callable[[], Mapping[str, int]]) -> None:
        """Keep the lines of the functions that are in `ages_us` for no longer than it says. It is called for each read,
        on the event loop."""
        self._ages_us = ages_us

    @classmethod
    async def open(
        cls,
        folder: Path,
        functions: Collection[str],
        *,
        keep_days: float,
        keep_mb: int,
        total_mb: int,
        mb_per_s: float,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> Self:
        """Find what is kept in `folder`, and drop what is no function's of these. MB are 2^20 bytes: of one function,
        of all, and of one function in a second. Raises StoreUnusable."""
        age_us = int(keep_days * _DAY_US)
        store = LogStore(folder, Limits(keep_mb << 20, total_mb << 20, age_us), wall_us)
        logs = cls(store, rate_bytes=int(mb_per_s * 2**20), age_us=age_us, wall_us=wall_us)
        try:
            await logs._loop.run_in_executor(logs._thread, store.open, functions)
        except OSError as error:
            logs._thread.shutdown()
            raise StoreUnusable(
                f"{folder} cannot be used for logs: {error.strerror}",
                fix="make it a folder that this user can write to, or remove it",
            ) from error
        logs._sweep_later()
        return logs

    async def close(self) -> None:
        """Write what waits, and end. Closing twice is fine."""
        if self._closed:
            return
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._settle()
        self._write()
        self._closed = True
        await self._loop.run_in_executor(self._thread, int)
        self._thread.shutdown(wait=False)
        self._readers.shutdown(wait=False)

    def append(self, function_name: str, batch: LogBatch) -> None:
        """Keep lines and tell those who follow."""
        waiting = self._waiting.get(function_name)
        if waiting is None:
            waiting = self._waiting[function_name] = _Batches()
            if self._timer is None:
                self._timer = self._loop.call_later(FLUSH_S, self._flush)
        share = self._share_bytes
        if len(self._waiting) > FULL_SHARES:
            share = min(share, max(LEAST_SHARE_BYTES, share * FULL_SHARES // len(self._waiting)))
        self._counted += len(batch.texts)
        self._dropped_rate += waiting.add(batch, share, 1 << 62)
        if self._followers:
            for follower in self._followers.get(function_name, ()):
                follower.tell(batch)

    def missed(self, lines: int) -> None:
        """So many did not come here: their function wrote faster than its output is taken apart."""
        self._dropped_busy += lines

    def counts(self) -> LogCounts:
        """Lines since this was opened."""
        return LogCounts(self._counted, self._dropped_busy, self._dropped_rate, self._dropped_disk)

    async def read(
        self, function_name: str, query: LogQuery = ALL, *, follow: bool = False
    ) -> AsyncIterator[Sequence[LogLine]]:
        """The lines that are kept and wanted, oldest first, as many at a time as there are; with `follow` then each
        later one, until the iterator is closed or its reader's task is cancelled."""
        follower, left = _Follower(query), threading.Event()
        if follow:
            self._followers.setdefault(function_name, set()).add(follower)
        try:
            pieces = await self._snapshot(function_name)
            oldest_us = self._oldest_us([function_name])
            kept = read(pieces, query if query.since_us > oldest_us else replace_since(query, oldest_us), left)
            while lines := await self._loop.run_in_executor(self._readers, next, kept, None):
                yield lines
            while follow:
                while (batch := follower.waiting.take("the reader is too slow")) is not None:
                    yield lines_of(batch)
                follower.news.clear()
                await follower.news.wait()
        finally:
            left.set()
            followers = self._followers.get(function_name, set())
            followers.discard(follower)
            if not followers:
                self._followers.pop(function_name, None)

    async def search(self, function_names: Collection[str], query: Search) -> Page:
        """A page of the events in the logs of these functions, which share an age, by their times."""
        oldest_ms = self._oldest_us(function_names) // 1_000
        if query.since_ms < oldest_ms:
            query = msgspec.structs.replace(query, since_ms=oldest_ms)
        logs = [await self._stored(name) for name in function_names]
        return await self._stoppable(lambda left: search(logs, query, left))

    async def streams(self, function_names: Collection[str]) -> Mapping[str, Span]:
        """The streams of these functions that have lines yet."""
        logs = [await self._stored(name) for name in function_names]
        oldest_us = self._oldest_us(function_names)
        found: dict[str, Span] = {}
        for log in logs:
            found |= await self._stoppable(partial(streams, log.pieces, log.index))
        return {name: span for name, span in found.items() if span.last_us >= oldest_us}

    async def sizes(self) -> Mapping[str, int]:
        """The functions of which lines are kept, and how many bytes they are on the disk."""
        self._settle()
        self._write()
        return await self._loop.run_in_executor(self._thread, self._store.sizes)

    def forget(self, function_name: str) -> None:
        """Drop the lines kept. Those who follow stay: a function of that name may come again."""
        self._settle()
        self._waiting.pop(function_name, None)
        self._indexes.pop(function_name, None)
        if not self._closed:
            self._thread.submit(self._store.forget, function_name)

    async def _snapshot(self, function_name: str) -> tuple[Piece, ...]:
        """What is kept when this is called, in files."""
        self._settle()
        self._write()
        return await self._loop.run_in_executor(self._thread, self._store.snapshot, function_name)

    def _oldest_us(self, function_names: Collection[str]) -> int:
        """The time before which their lines are too old."""
        ages_us = self._ages_us()
        return self._wall_us() - min([self.age_us, *[ages_us.get(name, self.age_us) for name in function_names]])

    async def _stored(self, function_name: str) -> StoredLog:
        index = self._indexes.setdefault(function_name, {})
        pieces = await self._snapshot(function_name)
        without(index, pieces)
        return StoredLog(function_name, pieces, index)

    async def _stoppable(self, work: Callable[[threading.Event], T]) -> T:
        """Do this in a reader's thread, which is told when nobody waits for it any more."""
        left = threading.Event()
        try:
            return await self._loop.run_in_executor(self._readers, work, left)
        finally:
            left.set()

    def _flush(self) -> None:
        self._timer = None
        if self._writing is None:
            self._write()

    def _write(self) -> None:
        """Have the thread write what waits."""
        if not self._waiting or self._closed:
            return
        waiting, self._waiting = self._waiting, {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._writing = self._loop.run_in_executor(self._thread, partial(_write, self._store, waiting))
        self._writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[int]) -> None:
        if self._writing is writing:
            self._writing = None
        lost = 0
        if not writing.cancelled():
            error = writing.exception()
            if error is not None:
                self._log.error("function_logs_failed", exc_info=error)
            else:
                lost = writing.result()
                self._dropped_disk += lost
        if lost and not self._lost:
            self._log.warning("function_logs_lost", lines=lost, reason="the disk does not take them")
        self._lost = lost
        if self._waiting and self._timer is None and self._writing is None:
            self._timer = self._loop.call_later(FLUSH_S, self._flush)

    def _sweep_later(self) -> None:
        self._sweeper = self._loop.call_later(SWEEP_EVERY_S, self._sweep)

    def _sweep(self) -> None:
        self._thread.submit(self._store.remove_old, self._ages_us())
        self._sweep_later()


def missing(before: LogBatch, lines: int, why: str) -> LogBatch:
    """What stands where lines are missing before a batch: a line, or AWS's record in a log in JSON."""
    text = f"[{lines} log lines dropped here: {why}]".encode()
    if before.json:
        moment = datetime.fromtimestamp(before.time_us // 1_000 / 1_000, UTC).isoformat(timespec="milliseconds")
        record = {"droppedRecords": lines, "reason": why}
        document = {"time": moment.replace("+00:00", "Z"), "type": "platform.logsDropped", "record": record}
        text = orjson.dumps(document)
    return LogBatch(before.time_us, before.request_id, before.stream, (text,), before.json)


def replace_since(query: LogQuery, since_us: int) -> LogQuery:
    """The same, from `since_us` on."""
    return LogQuery(query.request_id, since_us, query.until_us, query.contains, query.limit)


def _write(store: LogStore, waiting: Mapping[str, _Batches]) -> int:
    lost = 0
    for name, batches in waiting.items():
        some = []
        while (batch := batches.take("the function wrote faster than they can be kept")) is not None:
            some.append(batch)
        lost += store.write(name, some)
    return lost
