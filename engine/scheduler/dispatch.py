"""The first scheduler: admit, take a warm sandbox or start one, run, and keep the sandbox or close it.

Theory of operation: an event holds a lease (admission.py) for as long as `run` lasts, a sandbox holds a slot (slots.py)
from the decision to start it until `close` returned. A sandbox is in one of three places: busy with one event, idle on
the stack of its key (warm.py), or closing in a background task. Since there are at most as many leases as slots, an
event without a warm sandbox finds a free slot, or an idle sandbox to evict, or one that is closing already. Where the
function's init phase failed, the event gets a second sandbox under the same lease, in which the function's timeout
covers the init phase: what AWS Lambda does (docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).

Leaves to others: what a sandbox is (engine.sandbox), what an event is worth (engine.invoke). Guarantees: a lease and
a slot are given back exactly once on every path; every sandbox is closed exactly once; a handler is called at most once
for an event, since another sandbox gets it only if the first one never had it or never came to its handler; a warm
start makes no task and takes no lock.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import structlog
from msgspec.structs import replace

from engine.errors import SandboxFault, Unavailable
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending, Event, Pool, RunSink, SandboxSpec
from engine.scheduler.admission import Admission
from engine.scheduler.api import Counts, Done, Place, Placed, Work
from engine.scheduler.slots import Slots
from engine.scheduler.warm import Held, WarmStacks

WARM_TRIES = 3
"""After so many warm sandboxes that turned out dead when they were handed the event, it gets a fresh one."""
FRESH_TRIES = 2
"""How many fresh sandboxes may fail to take an event before it counts as the engine's fault."""

_log = structlog.get_logger(__name__)

_BY_KILL = frozenset({Outcome.EXITED, Outcome.CANCELLED, Outcome.ENGINE_FAULT})
"""How a run ends that a drain killed; any other outcome was decided before."""


class _Watch:
    """Passes a run's sink on and remembers whether a sandbox had the event."""

    __slots__ = ("_sink", "accepted", "chunk", "initialized", "output")

    def __init__(self, sink: RunSink) -> None:
        self._sink = sink
        self.accepted = False
        self.output: Callable[[bytes], None] = sink.output
        self.chunk: Callable[[bytes], asyncio.Future[None] | None] = sink.chunk
        self.initialized: Callable[[Ending | None], None] = sink.initialized

    def started(self, kind: StartKind) -> None:
        self.accepted = True
        self._sink.started(kind)


class LocalScheduler:
    """Schedules on one event loop; implements engine.scheduler.api.Scheduler.

    `max_concurrency`: events under way at once, never more than `max_sandboxes`, since each needs a sandbox.
    `max_sandboxes`: sandboxes that exist at once, idle and closing ones included.
    `keep_alive_s`: how long a sandbox may idle.
    `shutdown_grace_ms`: how long one that idled may take to hear of its end; it is killed as soon as an event needs its
    room.
    `retry_after_ms`: what a throttle tells the caller to wait.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        max_concurrency: int,
        max_sandboxes: int,
        keep_alive_s: float,
        shutdown_grace_ms: int = 0,
        retry_after_ms: int = 1_000,
    ) -> None:
        self._pool = pool
        self._max_sandboxes = max_sandboxes
        self._admission = Admission(min(max_concurrency, max_sandboxes), retry_after_ms=retry_after_ms)
        self._slots = Slots(max_sandboxes)
        self._warm = WarmStacks(keep_alive_s, self._close)
        self._busy: set[Held] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._shutdown_grace_ms = shutdown_grace_ms
        self._leaving: OrderedDict[Held, None] = OrderedDict()  # being closed, the first to go first
        self._slots_to_come = 0  # of sandboxes that are being closed
        self._draining = False

    async def run(self, work: Work, sink: RunSink) -> Done:
        """See Scheduler.run."""
        lease = self._admission.admit()
        try:
            watch = _Watch(sink)
            held, done = await self._run_once(work.spec, work.event, watch)
            if done.ending.init_failed:
                held, done = await self._init_again(work, watch, held, done)
            self._settle(held, done.ending)
            return done
        finally:
            lease.release()

    async def _init_again(self, work: Work, watch: _Watch, failed: Held, first: Done) -> tuple[Held, Done]:
        self._settle(failed, first.ending)
        if failed.killed:
            raise _killed()
        watch.accepted = False
        held, done = await self._run_once(work.spec, replace(work.event, covers_init=True), watch)
        held.retired |= failed.retired
        return held, replace(done, queue_us=first.queue_us + done.queue_us)

    async def _run_once(self, spec: SandboxSpec, event: Event, watch: _Watch) -> tuple[Held, Done]:
        """Run it in a sandbox that has the event; still busy, for the caller to settle."""
        warm_tries = WARM_TRIES
        fresh_tries = FRESH_TRIES
        queue_us = 0
        while True:
            held = self._warm.take(spec.key) if warm_tries else None
            if held is not None:
                warm_tries -= 1
                kind = StartKind.WARM
                self._busy.add(held)
            else:
                fresh_tries -= 1
                held, kind, waited_us = await self._fresh(spec)
                queue_us += waited_us
            sandbox = held.sandbox
            assert sandbox is not None
            try:
                return held, Done(await sandbox.run(event, watch), kind, queue_us)
            except BaseException as error:
                self._busy.discard(held)
                self._close(held)
                if held.killed and isinstance(error, SandboxFault):
                    raise _killed() from error
                if watch.accepted or fresh_tries == 0 or not isinstance(error, SandboxFault):
                    raise
                _log.warning("sandbox_refused_event", sandbox=sandbox.id, stage=error.stage, error=error.text)

    def retire(self, function_name: str, keep_etag: str | None) -> None:
        """See Scheduler.retire."""
        self._warm.retire(function_name, keep_etag)
        for held in self._busy:
            if held.key[0] == function_name and held.key[2] != keep_etag:
                held.retired = True

    async def drain(self, grace_s: float) -> None:
        """See Scheduler.drain. Once begun it cannot be taken back; a second call waits for the same end."""
        self._draining = True
        self._admission.close()
        self._warm.clear()
        try:
            async with asyncio.timeout(grace_s):
                await self._admission.empty.wait()
        except TimeoutError:
            self._kill_busy()
            await self._admission.empty.wait()
        while self._closing:
            await asyncio.wait(self._closing)

    def counts(self) -> Counts:
        """See Scheduler.counts. What waits for room is not a sandbox; what is closing still is."""
        return Counts(sandboxes=self._slots.taken, idle=len(self._warm), concurrency=self._admission.in_use)

    def placed(self) -> list[Placed]:
        """See Scheduler.placed."""
        found = [_placed(held, _place_of(held)) for held in self._busy]
        found += (_placed(held, Place.IDLE) for held in self._warm)
        return found

    @property
    def max_concurrency(self) -> int:
        """See Scheduler.max_concurrency."""
        return self._admission.limit

    def reload(self, *, max_concurrency: int | None = None, keep_alive_s: float | None = None) -> None:
        """Change what can change while serving; None leaves it."""
        if max_concurrency is not None:
            self._admission.resize(min(max_concurrency, self._max_sandboxes))
        if keep_alive_s is not None:
            self._warm.set_keep_alive(keep_alive_s)

    async def _fresh(self, spec: SandboxSpec) -> tuple[Held, StartKind, int]:
        """A sandbox started for this event, or one of its key that became free while it waited for room; busy. With
        the time waited in microseconds."""
        held = Held(spec.key)
        self._busy.add(held)
        queue_us = 0
        has_slot = self._slots.try_take()
        try:
            if not has_slot:
                held.waits = True
                queue_us = await self._wait_for_slot()
                held.waits, has_slot = False, True
                warm = self._warm.take(spec.key)
                if warm is not None:
                    self._busy.discard(held)
                    self._busy.add(warm)
                    self._slots.give()
                    return warm, StartKind.WARM, queue_us
            if held.killed:
                raise _killed()
            held.sandbox = await self._pool.start(spec)
        except BaseException:
            self._busy.discard(held)
            if has_slot:
                self._slots.give()
            raise
        if held.killed:
            self._busy.discard(held)
            self._close(held)
            raise _killed()
        return held, held.sandbox.kind, queue_us

    async def _wait_for_slot(self) -> int:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if self._slots_to_come <= self._slots.waiting:
            self._warm.evict()
        self._hurry()
        await self._slots.take()
        return round((loop.time() - begun) * 1e6)

    def _settle(self, held: Held, ending: Ending) -> None:
        """A run ended in an Ending: keep its sandbox or close it."""
        self._busy.discard(held)
        sandbox = held.sandbox
        assert sandbox is not None
        if ending.reusable and not (held.retired or self._draining or sandbox.dead):
            self._warm.put(held)
            return
        self._close(held)
        if held.killed and ending.outcome in _BY_KILL:
            raise _killed()

    def _kill_busy(self) -> None:
        self._slots.refuse(_killed())
        while self._leaving:
            self._hurry()
        for held in self._busy:
            held.killed = True
            if held.sandbox is not None:
                held.sandbox.kill()

    def _hurry(self) -> None:
        """Wait no longer for one that says goodbye: somebody needs its room."""
        if self._leaving:
            sandbox = self._leaving.popitem(last=False)[0].sandbox
            assert sandbox is not None
            sandbox.kill()

    def _close(self, held: Held) -> None:
        self._slots_to_come += 1
        self._leaving[held] = None
        task = asyncio.get_running_loop().create_task(self._close_now(held))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_now(self, held: Held) -> None:
        sandbox = held.sandbox
        assert sandbox is not None
        try:
            await sandbox.close(self._shutdown_grace_ms)
        except Exception as error:
            # The slot is given back all the same: the next start of the engine sweeps what is left, and a slot that
            # never came back would in the end leave no room for anybody.
            _log.error("sandbox_close_failed", sandbox=sandbox.id, function=held.key[0], error=str(error))
        finally:
            self._leaving.pop(held, None)
            self._slots_to_come -= 1
            self._slots.give()


def _place_of(busy: Held) -> Place:
    if busy.sandbox is not None:
        return Place.BUSY
    return Place.WAITING if busy.waits else Place.STARTING


def _placed(held: Held, place: Place) -> Placed:
    return Placed(held.key[0], place, "" if held.sandbox is None else held.sandbox.id)


def _killed() -> Unavailable:
    return Unavailable(
        "The engine shut down before the function ended.",
        fix="invoke again when the engine is back; the function may have run in part",
    )
