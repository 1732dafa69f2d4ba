"""Takes events from the line, has them run, and sees to what becomes of each.

Theory of operation: one event is one task, from the line to the disk's word that it is done with. What an attempt comes
to is a verdict: done; failed (the function's fault: it is tried again as often as its configuration says, and the
waits are on the disk); throttled or not run (the engine's: it waits in memory, without using up a try, until it is too
old); dropped. A turn of the line is taken when something comes in, ends or is due.

Leaves to others: order and shares (engine.events.line), what an invocation is (Invoker). Guarantees: at most `most`
events run at a time; an event leaves the disk only once it is done with or dropped, so that whatever a kill cuts short
is run again; a dropped one is logged with the reason and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from engine.errors import EngineError, InvalidArgument, NotFound, PayloadTooLarge, PermissionDenied, Throttled
from engine.events.configs import EventInvokeConfigs
from engine.events.counts import Counts
from engine.events.line import Line, Waiting
from engine.events.store import EventStore
from engine.model.events import Dropped
from engine.model.invocation import Completion, Invoker, InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome
from engine.registry.api import Registry

TURN_S = 60.0
"""The longest until it is looked again what is due: the host's clock may have been set."""
ERROR_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Done:
    """The function returned."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The function's own failure."""

    error: str  # AWS's errorType


@dataclass(frozen=True, slots=True)
class NoConcurrency:
    """None was free for the function."""

    error: str


@dataclass(frozen=True, slots=True)
class NotRun:
    """The engine could not run it, or not to its end, this time."""

    error: str


@dataclass(frozen=True, slots=True)
class Drop:
    """It is not to be tried again."""

    why: Dropped
    error: str = ""


Verdict = Done | Failed | NoConcurrency | NotRun | Drop


def verdict_of(completion: Completion) -> Verdict:
    """What an invocation that ended came to."""
    if completion.error is not None:
        return Failed(completion.error.type)
    outcome = completion.report.outcome
    return Done() if outcome is Outcome.OK else NotRun(outcome.value)


def verdict_of_error(error: Exception) -> Verdict:
    """What an invocation that was refused, or that the engine failed at, came to."""
    said = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS]
    if isinstance(error, Throttled):
        return NoConcurrency(error.throttle_reason)
    if isinstance(error, InvalidArgument | PayloadTooLarge | PermissionDenied):
        return Drop(Dropped.REFUSED, said)
    return NotRun(said)


class Delivery:
    """From the line to the end of each event."""

    def __init__(
        self,
        line: Line,
        store: EventStore,
        invoker: Invoker,
        registry: Registry,
        configs: EventInvokeConfigs,
        counts: Counts,
        *,
        most: Callable[[], int],
        retry_us: int,
        wall_us: Callable[[], int],
        log: FilteringBoundLogger,
    ) -> None:
        """`most`: how many may run at a time. `retry_us`: until the first retry; the second waits twice as long."""
        self._line = line
        self._store = store
        self._invoker = invoker
        self._registry = registry
        self._configs = configs
        self._counts = counts
        self._most = most
        self._retry_us = retry_us
        self._wall_us = wall_us
        self._log = log
        self._decided: dict[int, Verdict] = {}  # what the disk could not be told
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._turning = False
        self._paused = False

    def turn(self) -> None:
        """Something has come in: take a turn soon."""
        if not self._turning and not self._paused:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def begin(self) -> None:
        """Go on after a `pause`."""
        self._paused = False
        self.turn()

    def pause(self) -> None:
        """Begin with no more events."""
        self._paused = True
        if self._timer is not None:
            self._timer.cancel()

    async def close(self, grace_s: float) -> None:
        """After `pause`: wait for those under way, then cancel them, which kills their sandboxes."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=grace_s)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(set(self._running))

    def _turn(self) -> None:
        self._turning = False
        if self._paused:
            return
        now_us = self._wall_us()
        next_us = self._line.wake(now_us)
        most = self._most()
        while (event := self._line.take(most)) is not None:
            task = asyncio.ensure_future(self._deliver(event))
            self._running.add(task)
            task.add_done_callback(self._ended)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_us:
            wait_s = min(TURN_S, max(0.001, (next_us - now_us) / 1e6))
            self._timer = asyncio.get_running_loop().call_later(wait_s, self.turn)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("async_delivery_failed", exc_info=error)
        self.turn()

    async def _deliver(self, event: Waiting) -> None:
        verdict = self._decided.pop(event.id, None)
        try:
            if verdict is None:
                verdict = await self._attempt(event)
            await self._settle(event, verdict)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # of the disk: what was decided stays so, and is told it later
            self._log.error("async_event_not_written", request_id=event.request_id, exc_info=error)
            if verdict is not None:
                self._decided[event.id] = verdict
            self._line.later(event, self._wall_us())

    async def _attempt(self, event: Waiting) -> Verdict:
        of, now_us = event.of, self._wall_us()
        _, most_age_s = self._configs.limits(of.name, event.qualifier)
        age_us = now_us - event.accepted_us
        if age_us >= most_age_s * 1_000_000:
            return Drop(Dropped.EVENT_AGE_EXCEEDED, event.last_error)
        content = await self._store.content(event.id)
        if content is None or event.gone:
            return Drop(Dropped.FUNCTION_DELETED)
        request = InvokeRequest(
            FunctionRef(of.name, event.qualifier),
            content.payload,
            event.request_id,
            content.client_context,
            raw=content.raw,
            tenant_id=content.tenant_id,
            trace_id=content.trace_id,
        )
        try:
            self._registry.get(request.ref)
            if self._registry.concurrency.reserved(of.name) == 0:
                return Drop(Dropped.ZERO_RESERVED_CONCURRENCY)
        except NotFound:
            return Drop(Dropped.QUALIFIER_DELETED)
        self._counts.attempted(of.name, age_us)
        try:
            return verdict_of(await self._invoker.invoke(request))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return NotRun("Cancelled")  # from within, by a drain
        except Exception as error:
            if not isinstance(error, EngineError):
                self._log.error("async_attempt_failed", request_id=event.request_id, exc_info=error)
            return verdict_of_error(error)

    async def _settle(self, event: Waiting, verdict: Verdict) -> None:
        line, name = self._line, event.of.name
        if event.gone:  # deleted meanwhile: it was counted then
            line.forget(event)
            return
        if isinstance(verdict, Done | Failed):
            line.ran(event)
        else:
            event.last_error = verdict.error or event.last_error
        match verdict:
            case Done():
                await self._store.forget(event.id)
                line.forget(event)
                self._counts.succeeded(name)
            case Failed(error):
                await self._failed(event, error)
            case NoConcurrency():
                line.throttled(event, self._wall_us())
            case NotRun():
                line.later(event, self._wall_us())
            case Drop(why):
                await self._drop(event, why)

    async def _failed(self, event: Waiting, error: str) -> None:
        retries, _ = self._configs.limits(event.of.name, event.qualifier)
        failed = event.failed + 1
        if failed > retries:
            event.failed, event.last_error = failed, error
            await self._drop(event, Dropped.RETRIES_EXHAUSTED)
            return
        due_us = self._wall_us() + self._retry_us * failed
        await self._store.failed(event.id, failed, due_us, error)
        event.failed, event.last_error = failed, error
        self._counts.retried(event.of.name)
        self._line.again(event, due_us, self._wall_us())

    async def _drop(self, event: Waiting, why: Dropped) -> None:
        """Give it up. Here is where it would go to a destination or a dead-letter queue first."""
        name = event.of.name
        await self._store.forget(event.id)
        self._line.forget(event)
        self._counts.dropped(name, why)
        self._log.warning(
            "async_event_dropped",
            function=name,
            qualifier=event.qualifier,
            request_id=event.request_id,
            why=why.value,
            failed_attempts=event.failed,
            age_s=round((self._wall_us() - event.accepted_us) / 1e6, 3),
            last_error=event.last_error,
        )
