"""Runs events as the native scheduler decides: asks it, starts, hands over, closes, and tells it what came of that.

Theory of operation: an event is a call of the native scheduler for as long as `run` lasts; a sandbox is one of its
sandboxes from the decision to start it until `close` returned. What it decides at once (a warm sandbox, a start, a
throttle) comes with the answer to the question; everything else (who of those that wait is next, which sandbox goes) it
says in actions, which are read and done after each input. Where the function's init phase failed, the event gets a
second sandbox under the same lease, in which the function's timeout covers the init phase: what AWS Lambda does
(docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).

Leaves to others: every decision (native/sched), what a sandbox is (engine.sandbox), what an event is worth
(engine.invoke). Guarantees: a call ends, and a sandbox's room is given back, exactly once on every path; every sandbox
is closed exactly once; a handler is called at most once for an event, since another sandbox gets it only if the first
one never had it or never came to its handler; a warm start makes no task, no timer and takes no lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial

import structlog
from msgspec.structs import replace

from engine.errors import SandboxFault
from engine.model.alias import Alias
from engine.model.outcome import StartKind
from engine.sandbox import box
from engine.sandbox.api import UNREAD, Ending, Event, Pool, RunSink, Sandbox, SandboxSpec
from engine.scheduler import core as native
from engine.scheduler.api import Allocated, Counts, Done, Granted, Place, Placed, Work
from engine.scheduler.kept import Follow, Kept, Nobody
from engine.scheduler.lending import BY_KILL, Held, Lending
from engine.scheduler.limits import BURST_S, KEPT_UNRESERVED, draining, killed, not_reserved, throttled
from engine.scheduler.routes import Routes, random32
from engine.scheduler.targets import Key, Targets
from engine.scheduler.timer import Timer

_log = structlog.get_logger(__name__)


_VERDICTS = {box.CHOSEN: native.RUN, box.STARTS: native.START, box.REFUSED: native.REFUSED}


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


class LocalScheduler(Lending):
    """Schedules on one event loop; implements engine.scheduler.api.Scheduler.

    `max_concurrency`: events under way at once, never more than `max_sandboxes`, since each needs a sandbox.
    `max_sandboxes`: sandboxes that exist at once, idle and closing ones included.
    `keep_alive_s`: how long a sandbox may idle.
    `shutdown_grace_ms`: how long one that idled may take to hear of its end; it is killed as soon as an event needs its
    room.
    `requests_per_concurrency`: how many events a second there may be for each that may be under way; 0: any number.
    `burst`: sandboxes that a function may start for events within 10 seconds; 0: any number.
    `retry_after_ms`: what a throttle for concurrency tells the caller to wait.
    `random32`: random bits, by which the versions of an alias share its calls.
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
        requests_per_concurrency: int = 0,
        burst: int = 0,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        random32: Callable[[], int] = random32,
    ) -> None:
        self._pool = pool
        self._max_sandboxes = max_sandboxes
        self._shutdown_grace_ms = shutdown_grace_ms
        self._now = monotonic_ns
        self._core = native.Core(
            calls=max_sandboxes,
            sandboxes=max_sandboxes,
            room=max_sandboxes,
            account_limit=min(max_concurrency, max_sandboxes),
            min_unreserved=KEPT_UNRESERVED,
            rate_factor=requests_per_concurrency,
            burst=burst,
            burst_ns=BURST_S * 1_000_000_000,
            keep_alive_ns=round(keep_alive_s * 1e9),
            retry_after_ms=retry_after_ms,
        )
        self._targets = Targets(self._core)
        self._target_ids = self._targets.ids
        self._routes = Routes(self._core, self._targets, random32)
        self._held: dict[int, Held] = {}
        self._waiting: dict[int, asyncio.Future[tuple[int, int]]] = {}  # by call: what to do with which sandbox
        self._coming: dict[int, Placed] = {}  # what is being started, for who looks
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer = Timer(self._core, monotonic_ns, self._obey)
        self._ended: asyncio.Event | None = None  # of the last event, while draining

    async def run(self, work: Work, sink: RunSink) -> Done:
        """See Scheduler.run."""
        core, key = self._core, work.spec.key
        now = self._now()
        target = self._target_ids.get(key)
        if target is None:
            target = self._targets.of(key, now)
        verdict = core.submit(target, now)
        if verdict >= native.THROTTLED:
            if verdict == native.THROTTLED:
                raise throttled(core.reason, core.retry_after_ms, core.settings["account_limit"])
            raise draining()
        return await self._through(Granted(core.call, core.sandbox, verdict, 0), verdict, work, sink)

    async def go_on(self, granted: Granted, work: Work, sink: RunSink) -> Done:
        """See Scheduler.go_on."""
        granted.taken = True
        verdict = _VERDICTS[granted.stands]
        if verdict == native.REFUSED:
            self._tell_of_the_last()
            raise killed()
        return await self._through(granted, verdict, work, sink)

    def give_up(self, granted: Granted) -> None:
        """See Scheduler.give_up."""
        if granted.taken:
            return
        granted.taken = True
        if granted.stands != box.REFUSED:
            self._unused(granted.call, _VERDICTS[granted.stands], granted.sandbox_id)
            self._obey()
        self._tell_of_the_last()

    async def _through(self, granted: Granted, verdict: int, work: Work, sink: RunSink) -> Done:
        try:
            return await self._carry(granted, verdict, work.spec, work.event, _Watch(sink))
        except BaseException:
            self._abandon(granted.call)
            raise
        finally:
            self._tell_of_the_last()

    async def _carry(self, granted: Granted, verdict: int, spec: SandboxSpec, event: Event, watch: _Watch) -> Done:
        """From the first decision to the end of the call, which it leaves to its caller where it raises."""
        core, call = self._core, granted.call
        sandbox_id, queue_us = granted.sandbox_id, granted.waited_us
        while True:
            if verdict == native.RUN:
                held, kind = self._held[sandbox_id], StartKind.WARM
                if held.sandbox.dead:
                    verdict = core.again(call, native.WHY_DEAD, self._now())
                    sandbox_id = core.sandbox
                    if verdict >= native.REFUSED:
                        raise killed()
                    continue
            else:
                if core.pending:
                    self._obey()
                if verdict == native.WAIT:
                    verdict, sandbox_id, waited_us = await self._wait(call)
                    queue_us += waited_us
                if verdict == native.RUN:
                    held, kind = self._held[sandbox_id], StartKind.WARM
                else:
                    held = await self._start(sandbox_id, spec)
                    kind = held.sandbox.kind
            if core.pending:
                self._obey()
            try:
                ending = await held.sandbox.run(event, watch)
            except SandboxFault as fault:
                if held.killed:
                    raise killed() from fault
                if watch.accepted and fault.stage != UNREAD:
                    raise
                verdict = core.again(call, native.WHY_REFUSED, self._now())
                sandbox_id = core.sandbox
                if verdict >= native.REFUSED:
                    raise
                sandbox = held.sandbox
                _log.warning("sandbox_refused_event", sandbox=sandbox.id, stage=fault.stage, error=fault.text)
                continue
            if ending.init_failed:
                verdict = core.again(call, native.WHY_INIT, self._now())
                sandbox_id = core.sandbox
                if verdict == native.REFUSED:
                    raise killed()
                if verdict != native.FAILED:
                    watch.accepted = False
                    event = replace(event, covers_init=True)
                    continue
                self._obey()
            else:
                self._finished(call, ending.reusable and not held.sandbox.dead)
            if held.killed and ending.outcome in BY_KILL:
                raise killed()
            return Done(ending, kind, queue_us)

    def route(self, alias: Alias, keys: Sequence[Key]) -> int:
        """See Scheduler.route."""
        return self._routes.route(alias, keys, self._now())

    def retire(self, function_name: str, keep_etag: str | None, version: str | None = None) -> None:
        """See Scheduler.retire."""
        if keep_etag is None and version is None:
            self._routes.forget(function_name)
        self._targets.retire(function_name, keep_etag, version, self._now())
        self._obey()

    def set_reserved(self, function_name: str, concurrency: int | None) -> None:
        """See Scheduler.set_reserved."""
        try:
            self._targets.reserve(function_name, concurrency, self._now())
        except (native.Rejected, OverflowError) as error:
            limit = self._core.settings["account_limit"]
            raise not_reserved(error, "reserved_concurrency", concurrency, limit) from None

    def set_provisioned(self, spec: SandboxSpec, sandboxes: int, follow: Follow = Nobody) -> None:
        """See Scheduler.set_provisioned."""
        if sandboxes == 0 and spec.key not in self._target_ids:
            return
        try:
            self._targets.provision(spec, sandboxes, follow, self._now())
        except (native.Rejected, OverflowError) as error:
            limit = self._core.settings["account_limit"]
            raise not_reserved(error, "provisioned_concurrency", sandboxes, limit) from None
        self._obey()

    def allocation(self, key: Key) -> Allocated:
        """See Scheduler.allocation."""
        target = self._target_ids.get(key)
        if target is None:
            return Allocated()
        seen, kept = self._core.allocation(target), self._targets.kept.get(target)
        return Allocated(**seen, trouble=kept.trouble if kept is not None and seen["failures"] else "")

    async def drain(self, grace_s: float) -> None:
        """See Scheduler.drain. Once begun it cannot be taken back; a second call waits for the same end."""
        self._ended = self._ended or asyncio.Event()
        if self.lane is not None:
            self.lane.ending = True
        self._core.drain(self._now())
        self._targets.leave_all()
        self._obey()
        self._timer.stop()
        if self._core.concurrency:
            try:
                async with asyncio.timeout(grace_s):
                    await self._ended.wait()
            except TimeoutError:
                self._core.kill(self._now())
                self._obey()
                await self._ended.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def counts(self) -> Counts:
        """See Scheduler.counts. What waits for room is not a sandbox; what is closing still is."""
        counts = self._core.counts()
        return Counts(sandboxes=counts["sandboxes"], idle=counts["idle"], concurrency=counts["concurrency"])

    def placed(self) -> list[Placed]:
        """See Scheduler.placed."""
        busy, idle = list(self._coming.values()), []
        for name, count in self._targets.waiting():
            busy += [Placed(name, Place.WAITING)] * count
        for held in self._held.values():
            name, sandbox_id = held.sandbox.spec.key[0], held.sandbox.id
            found = self._core.busy(held.id)
            if found > 0:
                busy.append(Placed(name, Place.BUSY, sandbox_id))
            elif found == 0:
                idle.append(Placed(name, Place.IDLE, sandbox_id))
        return busy + idle

    @property
    def max_concurrency(self) -> int:
        """See Scheduler.max_concurrency."""
        return self._core.settings["account_limit"]

    def reload(
        self,
        *,
        max_concurrency: int | None = None,
        keep_alive_s: float | None = None,
        requests_per_concurrency: int | None = None,
        burst: int | None = None,
    ) -> None:
        """Change what can change while serving; None leaves it."""
        figures = {
            "account_limit": None if max_concurrency is None else min(max_concurrency, self._max_sandboxes),
            "keep_alive_ns": None if keep_alive_s is None else round(keep_alive_s * 1e9),
            "rate_factor": requests_per_concurrency,
            "burst": burst,
        }
        self._core.configure(self._now(), **{name: figure for name, figure in figures.items() if figure is not None})
        self._timer.fire()

    async def _start(self, sandbox_id: int, spec: SandboxSpec) -> Held:
        """The sandbox of a call, of which the native scheduler knows."""
        self._coming[sandbox_id] = Placed(spec.key[0], Place.STARTING)
        try:
            held = self._hold(sandbox_id, await self._pool.start(spec))
        except BaseException:
            self._core.start_failed(sandbox_id, self._now())
            self._obey()
            raise
        finally:
            del self._coming[sandbox_id]
        if self._core.started(sandbox_id, self._now(), self._seat_of(held.sandbox)) == native.REFUSED:
            raise killed()
        return held

    def _hold(self, sandbox_id: int, sandbox: Sandbox) -> Held:
        held = self._held[sandbox_id] = Held(sandbox_id, sandbox)
        sandbox.on_end = partial(self._died, sandbox_id)
        return held

    async def _provision(self, sandbox_id: int, kept: Kept) -> None:
        """A sandbox that is there before any call is, with its init phase over."""
        spec = kept.spec
        try:
            sandbox = await kept.ready(self._pool, self._end)
        except Exception as error:
            _log.warning("provisioned_start_failed", function=spec.key[0], version=spec.key[1], error=str(error))
            self._core.start_failed(sandbox_id, self._now())
        else:
            self._hold(sandbox_id, sandbox)
            self._core.started(sandbox_id, self._now(), self._seat_of(sandbox))
        self._obey()

    async def _wait(self, call: int) -> tuple[int, int, int]:
        """How it goes on, with which sandbox, after how many microseconds."""
        begun = self._now()
        future = self._waiting[call] = asyncio.get_running_loop().create_future()
        try:
            verdict, sandbox_id = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._unused(call, *future.result())  # it came in the moment of the cancellation
                self._obey()
            raise
        finally:
            self._waiting.pop(call, None)
        return verdict, sandbox_id, (self._now() - begun) // 1_000

    def _unused(self, call: int, verdict: int, sandbox_id: int) -> None:
        """A call that nobody waits for any longer gives back what it got."""
        if verdict == native.START:
            self._core.start_failed(sandbox_id, self._now())
        else:
            self._core.finished(call, True, self._now())

    def _abandon(self, call: int) -> None:
        """Whatever became of a call that raised, it ends here, and the sandbox that had it closes."""
        try:
            self._core.cancel(call, self._now())
        except native.Rejected:
            pass  # it has ended
        self._obey()

    def _obey(self) -> None:
        """Do what the native scheduler says is to be done, and have it called when something is due."""
        while (action := self._next()) is not None:
            what, call, sandbox_id, target = action
            if what in (native.DO_RUN, native.DO_START):
                verdict = native.RUN if what == native.DO_RUN else native.START
                if call:
                    waits = self._waiting.pop(call)
                    if waits.done():  # its task was cancelled, and has not come to say so
                        self._unused(call, verdict, sandbox_id)
                    else:
                        waits.set_result((verdict, sandbox_id))
                else:
                    self._do(self._provision(sandbox_id, self._targets.kept[target]))
            elif what == native.DO_CLOSE:
                self._do(self._close(self._held[sandbox_id]))
            elif what == native.DO_HURRY:
                self._held[sandbox_id].sandbox.kill()
            elif what == native.DO_KILL:
                held = self._held[sandbox_id]
                held.killed = True
                held.sandbox.kill()
            elif what == native.DO_REFUSE:
                waits = self._waiting.pop(call)
                if not waits.done():
                    waits.set_exception(killed())
        self._timer.arm()

    def _next(self) -> tuple[int, int, int, int] | None:
        """The next action, when the lane has done its own."""
        if self.lane is not None:
            self.lane.act()
        return self._core.next()

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self, held: Held) -> None:
        try:
            await self._end(held.sandbox)
        finally:
            del self._held[held.id]
            self._core.closed(held.id, self._now())
            self._obey()

    async def _end(self, sandbox: Sandbox) -> None:
        try:
            await sandbox.close(self._shutdown_grace_ms)
        except Exception as error:
            # The room is given back all the same: the next start of the engine sweeps what is left, and room that
            # never came back would in the end leave none for anybody.
            _log.error("sandbox_close_failed", sandbox=sandbox.id, function=sandbox.spec.key[0], error=str(error))

    def _died(self, sandbox_id: int) -> None:
        """It ended by itself, while it idled."""
        if sandbox_id in self._held:
            self._core.died(sandbox_id, self._now())
            self._obey()
