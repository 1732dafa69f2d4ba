"""Asynchronous invocation: takes events in, and shows what waits.

Theory of operation: an event is checked, gets room in the line (engine.events.line), is written and fsynced
(engine.events.store), and only then acknowledged; engine.events.delivery runs it later, through the same invoker as
everything else. The line is made anew from the disk when the engine starts.

What if it is killed here?
  before the write is durable    nobody was told that it was accepted, and it is not there
  after it, before the answer    it runs, once; a caller who sends it again has sent two
  before it ran, or while it did it runs when the engine is back, under the same request id; the run that was cut
                                 short counts as no attempt
  after it ran, before the disk  it runs again: at least once, never less
  forgot it
  between two tries              it waits on from where it was: failures and the time of the next try are on the disk

Guarantees: what was acknowledged ends in a run that returned, or in a drop that is logged with the reason and counted;
a function never gets the events of an earlier one of its name. Names are resolved at each delivery, so that an alias
means what it means by then, as on AWS.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

from structlog.typing import FilteringBoundLogger

from engine.config import Settings
from engine.errors import NotFound, Unavailable
from engine.events.configs import EventInvokeConfigs
from engine.events.counts import Counts
from engine.events.delivery import Delivery
from engine.events.line import Line, Waiting
from engine.events.store import STORE_FILE, Accepted, Content, EventStore
from engine.invoke.callers import check_caller
from engine.invoke.checks import check_client_context, check_invocable, check_payload, check_request_id
from engine.invoke.ids import RequestIds
from engine.model.events import AsyncEventCounts, Dropped, QueuedEvent
from engine.model.invocation import Invoker, InvokeRequest
from engine.model.names import FunctionRef
from engine.observe import oplog
from engine.registry.api import Change, Changed, Registry
from engine.registry.attached import Attached

T = TypeVar("T")

LAST_WRITES_S = 5.0
"""How long what ended with the engine may take to be written."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Events:
    """The room. Make it with `open`, after the registry and what is attached to functions."""

    def __init__(
        self,
        store: EventStore,
        registry: Registry,
        configs: EventInvokeConfigs,
        invoker: Invoker,
        settings: Callable[[], Settings],
        *,
        log: FilteringBoundLogger | None = None,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
        new_uuid: Callable[[], str] | None = None,
    ) -> None:
        """`settings`: as they are at the time."""
        self.configs = configs
        self._store = store
        self._registry = registry
        self._settings = settings
        self._log = log = log or oplog.logger()
        self._wall_us = wall_us
        self._new_uuid = new_uuid or RequestIds()
        now = settings()
        self._line = Line(
            most_events=now.async_queue_events,
            most_bytes=now.async_queue_mb << 20,
            backoff_us=max(1_000, round(now.async_backoff_s * 1e6)),
        )
        self._counts = Counts(self._line, limit=now.metrics_functions)
        self._delivery = Delivery(
            self._line,
            store,
            invoker,
            registry,
            configs,
            self._counts,
            most=self._most,
            retry_us=round(now.async_retry_s * 1e6),
            wall_us=wall_us,
            log=log,
        )
        self._writes: set[asyncio.Task[Any]] = set()
        self._paused = False
        registry.observe(self._changed)

    @classmethod
    async def open(
        cls,
        folder: Path,
        registry: Registry,
        attached: Attached,
        invoker: Invoker,
        settings: Callable[[], Settings],
    ) -> Self:
        """Take up what waits in the data directory, and drop what is for functions that are gone. Nothing is delivered
        before `begin`. Raises StoreUnusable."""
        now = settings()
        store = await EventStore.open(folder / STORE_FILE)
        try:
            configs = EventInvokeConfigs(registry, attached, region=now.region, account=now.account)
            self = cls(store, registry, configs, invoker, settings)
            self._delivery.pause()
            await self.resume()
        except BaseException:
            await store.close()
            raise
        return self

    async def resume(self) -> None:
        """Put what is on the disk into the line. Called once, before anything else."""
        orphans: dict[tuple[str, int], int] = {}
        now_us = self._wall_us()
        for row in await self._store.waiting():
            if self._birth(row.function) != row.born_us:
                orphans[row.function, row.born_us] = orphans.get((row.function, row.born_us), 0) + 1
                continue
            of = self._line.function(row.function, row.born_us)
            event = Waiting(
                row.id,
                of,
                row.request_id,
                row.qualifier,
                row.accepted_us,
                row.size_bytes,
                due_us=row.due_us,
                failed=row.failed,
                last_error=row.last_error,
            )
            self._line.add(event, now_us)
        for (function, born_us), events in orphans.items():
            await self._store.forget_function(function, born_us)
            self._dropped_all(function, events)
        self._delivery.turn()

    def begin(self) -> None:
        """Deliver, from now on."""
        self._delivery.begin()

    def reload(self) -> None:
        """The settings have changed."""
        self._delivery.turn()

    def pause(self) -> None:
        """Accept and begin nothing more; what runs goes on."""
        self._paused = True
        self._delivery.pause()

    async def close(self) -> None:
        """Pause, wait for what is being written, and close the store. Events that run still are cut short."""
        self.pause()
        await self._delivery.close(LAST_WRITES_S)
        while self._writes:
            await asyncio.wait(set(self._writes))
        await self._store.close()

    async def enqueue(self, request: InvokeRequest) -> str:
        """Accept an event; returns the request id that it will run under once it is safe. What a caller who waits would
        get with the answer (log, timeline) is not made. Raises NotFound, NotInvocable, PayloadTooLarge, InvalidPayload,
        InvalidArgument, QueueFull, Unavailable, and what the disk says."""
        if self._paused:
            raise Unavailable("the engine is shutting down", fix="try again in a moment, or at another engine")
        ref = request.ref
        check_invocable(self._registry.get(ref))
        settings = self._settings()
        # More than a caller who waits may send would be refused when it is to run.
        limit_bytes = min(settings.async_event_limit_bytes, settings.event_limit_bytes)
        payload = check_payload(request.payload, raw=request.raw, limit_bytes=limit_bytes, kind="Event")
        if request.client_context:
            check_client_context(request.client_context)
        check_caller(request)
        if request.request_id:
            check_request_id(request.request_id)
        born_us = self._birth(ref.name)
        assert born_us is not None  # just found
        event = Accepted(
            request.request_id or self._new_uuid(),
            ref.name,
            born_us,
            ref.qualifier,
            self._wall_us(),
            Content(payload, request.client_context, request.trace_id, request.tenant_id, request.raw),
        )
        self._line.admit(ref.name, len(payload))
        await self._to_its_end(self._keep(event, len(payload)))
        return event.request_id

    def queued(self, function_name: str = "", *, limit: int, after: int = 0) -> tuple[list[QueuedEvent], int]:
        """At most `limit` events in the order of acceptance, of all functions or of one, and what to go on after (0: no
        more)."""
        of = self._line.of(function_name)
        lines = list(self._line.functions()) if not function_name else [] if of is None else [of]
        # Each line is in the order of acceptance already, and most of a long queue is not looked at.
        waiting = heapq.merge(*(line.events.values() for line in lines), key=lambda event: event.id)
        found = list(itertools.islice((event for event in waiting if event.id > after), limit + 1))
        return [_shown(event) for event in found[:limit]], found[limit - 1].id if len(found) > limit else 0

    def counts(self) -> tuple[AsyncEventCounts, ...]:
        """What became of events, by function."""
        return self._counts.now()

    def _most(self) -> int:
        """How many may run: those that nobody waits for leave half of the room to those that somebody waits for."""
        settings = self._settings()
        half = max(1, min(settings.max_concurrency, settings.max_sandboxes) // 2)
        return min(settings.async_concurrency, half)

    async def _keep(self, event: Accepted, size_bytes: int) -> None:
        name = event.function
        try:
            id = await self._store.add(event)
        except BaseException:
            self._line.arrived(name, size_bytes)
            raise
        self._line.arrived(name, size_bytes)
        if self._birth(name) != event.born_us:  # deleted meanwhile: its events were forgotten, perhaps before this came
            await self._store.forget(id)
            raise NotFound(f"Function not found: {name}", fix="see what there is with `cleave list`")
        of = self._line.function(name, event.born_us)
        waiting = Waiting(id, of, event.request_id, event.qualifier, event.accepted_us, size_bytes)
        self._line.add(waiting, self._wall_us())
        self._counts.received(name)
        self._delivery.turn()

    def _changed(self, change: Change) -> None:
        """Called after each write of the registry."""
        if not change.gone or change.what is not Changed.FUNCTION:
            return
        born_us, events = self._line.delete(change.function_name)
        self._counts.forget(change.function_name)
        if events:
            self._dropped_all(change.function_name, len(events))
            self._start(self._store.forget_function(change.function_name, born_us))

    def _dropped_all(self, function: str, events: int) -> None:
        self._counts.dropped(function, Dropped.FUNCTION_DELETED, events)
        self._log.warning("async_events_dropped", function=function, events=events, why=Dropped.FUNCTION_DELETED.value)

    def _birth(self, name: str) -> int | None:
        try:
            return (self._registry.get(FunctionRef(name)).create_time - _EPOCH) // _MICROSECOND
        except NotFound:
            return None

    async def _to_its_end(self, write: Coroutine[Any, Any, T]) -> T:
        """Run a write in a task of its own: what has begun is done also if the caller leaves."""
        return await asyncio.shield(self._start(write))

    def _start(self, write: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(write)
        self._writes.add(task)
        task.add_done_callback(self._written)
        return task

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be left to


def _shown(event: Waiting) -> QueuedEvent:
    return QueuedEvent(
        event.request_id,
        event.of.name,
        event.qualifier,
        event.accepted_us,
        event.due_us,
        event.failed,
        event.size_bytes,
        event.running,
        event.last_error,
    )
