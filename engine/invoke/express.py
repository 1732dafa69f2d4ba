"""The short way of a plain call to a warm sandbox: what was worked out for its function is done once, not each time.

A plain call has an event in JSON and wants the answer in one piece: no stream, no timeline, no tail of the log, no
qualifier, nothing of its own in the context. Whatever is not plain, refused, cold or odd takes the long way through the
pipeline, which is the one that says what is wrong: `submit` returns None for it, having done nothing.

Theory of operation: the long way leaves a Line for a function that it served. A call is submitted to the lane, whose
native loop (native/sched/loop.h) asks the scheduler for a warm sandbox, waits for one where there is no room, writes
the frame, takes the answer and gives the sandbox back: here its completion is made, and nothing else. A call of which
the loop cannot do all of that is lent or handed over with its sandbox, and is then the sink of a run like any other,
told of its end on the event loop, with no task in between. A run that writes to the log gets the Run that any other
has, then. One that has waited and for which a sandbox has to be started goes the rest of the long way, with the place
that it has in the scheduler.

Guarantees: those of the pipeline; a line is dropped when its function changes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import msgspec

from engine.errors import SandboxFault, Unavailable
from engine.invoke.checks import is_request_id
from engine.invoke.endings import Endings, check_answered
from engine.invoke.run import Run, RunMeans
from engine.invoke.specs import Prepared
from engine.model.invocation import Completion, InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import UNREAD, Ending, Event, Sandbox, Seated
from engine.sandbox.box import CHOSEN, LEFT, LENT, RUNS, TAKEN, Call, Door, Line, NativeOwner
from engine.scheduler.api import Borrowed, Done, Granted, Scheduler

_SCAN = msgspec.json.Decoder(msgspec.Raw).decode


class _About(NamedTuple):
    """What a line is of."""

    event: Event
    prepared: Prepared


def _line(prepared: Prepared, target: int) -> Line:
    """What plain calls of one function have in common."""
    timeout_ms = prepared.function.config.timeout_ms
    about = _About(Event("", b"", timeout_ms, prepared.arn), prepared)
    said = (prepared.spec.memory_mb, prepared.function.version)
    return Line(target, timeout_ms, prepared.spec.result_limit_bytes, prepared.arn, about, *said)


class ExpressCall(Call):
    """One call: what its caller waits for, and the sandbox's sink where the lane leaves it to its caller."""

    __slots__ = ("_express", "_long", "_run", "future", "held", "over", "prepared")

    def __init__(self, express: Express, about: _About) -> None:
        self._express = express
        self._run: Run | None = None
        self._long: asyncio.Task[None] | None = None  # it goes the long way after all
        self.prepared = about.prepared
        self.held: Borrowed | None = None  # where the lane does not run it
        self.future: asyncio.Future[Any] = express.loop.create_future()
        self.over = False

    @property
    def sandbox(self) -> Sandbox:
        """Where it runs, until it is over."""
        held = self.held or self._express.scheduler.lend(self.call_id, self.sandbox_id)
        assert held is not None
        return held.sandbox

    async def result(self) -> Completion:
        """Its end. Cancelled, it kills the sandbox. To be awaited once."""
        try:
            found: Completion = await self.future
        except asyncio.CancelledError as error:
            if self.under_way and self._express.scheduler.lane is not None:
                self._express.scheduler.lane.cancel(self)
            if self._long is not None:
                self._long.cancel()
            elif not self.over:
                self._abandon(error)
            raise
        # The sandbox knows its last call for as long as it idles, for what comes late: what that said is no part of it.
        self.future = self._express.nothing
        return found

    def leave(self) -> None:
        """Nobody waits for it any longer, if anybody still does."""
        if self._long is not None:
            self._long.cancel()
        elif not self.over:
            self._abandon(asyncio.CancelledError())
        if self.future is not self._express.nothing:
            self.future.cancel()

    def _abandon(self, error: BaseException) -> None:
        self.sandbox.kill()
        with contextlib.suppress(Unavailable):
            self._give_back(None)
        self._left(error)

    def answered(self, body: bytes) -> None:
        """The lane has run it to its end."""
        self.over = True
        took_us = (self.answered_ns - self.started_ns) // 1000
        ending = Ending(
            Outcome.OK,
            True,
            body,
            handler_us=took_us,
            peak_memory_bytes=self.peak_bytes,
            cpu_us=self.cpu_us,
            timeline=(("answered", self.answered_ns),),
        )
        done = Done(ending, StartKind.WARM, self._waited_us())
        found = self._express.endings.quiet(self.request_id, self.prepared, done, self.begun_ns, self._reached())
        if not self.future.done():
            self.future.set_result(found)

    def handed(self) -> None:
        """The lane leaves it, with its sandbox, to whoever knows what is to be done."""
        if self.stands == LEFT:
            self.over = True
            self.future.cancel()
            self._express.left(self.prepared, self.request_id, self.accepted_ns, self.waits_ns)
            return
        if self.stands != RUNS:
            if self.stands != CHOSEN or not self._run_chosen():
                self._go_on()
            return
        held = self._lent()
        assert held is not None
        sandbox = held.sandbox
        assert isinstance(sandbox, Seated)
        sandbox.adopt(self.head(), self.payload or b"", self.sent, self.started_ns, self.line.about.event, self)

    def run(self) -> bool:
        """The lane has lent it a sandbox. Whether it runs there."""
        held = self._lent()
        if held is None:
            return False
        begun = self._begin(held)
        if not begun:
            self._express.scheduler.give_back_unused(held)
        return begun

    def _run_chosen(self) -> bool:
        """The same after it waited: where it does not run there, it still has its place."""
        held = self.held = self._express.scheduler.chosen(self.call_id, self.sandbox_id)
        return self._begin(held)

    def _begin(self, held: Borrowed) -> bool:
        try:
            begun = held.sandbox.express(self.head(), self.payload or b"", self.line.about.event, self)
        except BaseException:
            held.sandbox.kill()
            self._give_back(None)
            raise
        if not begun:
            self.held = None
        return begun

    def _go_on(self) -> None:
        """What it waited for is not the lane's to give."""
        express = self._express
        waited_us = (express.means.monotonic_ns() - self.waits_ns) // 1000
        granted = Granted(self.call_id, self.sandbox_id, self.stands, waited_us)
        self._long = express.loop.create_task(self._follow(partial(express.go_on, self, granted)))
        self._long.add_done_callback(lambda _: self._through(granted))

    def _through(self, granted: Granted) -> None:
        if not granted.taken:  # its caller left before it was gone on with
            self._express.scheduler.give_up(granted)
            self._left(asyncio.CancelledError())

    def failed(self, error: BaseException) -> None:
        """The engine did, while it was told of this call."""
        if self.held is not None:
            self.held.sandbox.kill()
            with contextlib.suppress(Unavailable):
                self._give_back(None)
        self._fail(error if isinstance(error, Exception) else SandboxFault("run", 0, f"the engine failed: {error!r}"))

    def _lent(self) -> Borrowed | None:
        held = self.held = self._express.scheduler.lend(self.call_id, self.sandbox_id)
        return held

    def _give_back(self, ending: Ending | None) -> None:
        """It is over: nothing leads from here to the sandbox any more, which leads here."""
        held, self.held = self.held, None
        self.over = True
        self._express.scheduler.give_back(held, ending)

    def _written(self) -> Run:
        """Its run, from here on written as it comes."""
        run = self._run
        if run is None:
            run = self._run = Run(self.request_id, self.prepared, None, self._express.means)
            if self.started_ns:
                run.kind, run.started_ns, run.begun_ns = StartKind.WARM, self.started_ns, self.begun_ns
        return run

    def started(self, kind: StartKind) -> None:
        """A sandbox has it: known."""

    def initialized(self, failure: Ending | None) -> None:
        """Never of a warm one."""

    def output(self, data: bytes) -> None:
        """What the function wrote."""
        run = self._run
        if run is None:
            run = self._written()
            if self.over:
                run.end()
        run.output(data)

    def chunk(self, data: bytes) -> None:
        """Never where no stream was asked for."""

    def ended(self, ending: Ending | None, error: BaseException | None = None) -> None:
        """The sandbox is through with it, by an ending or by the engine's failure."""
        if self.over:
            return
        express = self._express
        payload, self.payload = self.payload or b"", None
        try:
            self._give_back(ending)
            if isinstance(error, SandboxFault) and error.stage == UNREAD:
                self._long = express.loop.create_task(self._go_the_long_way(payload))
                return
            if ending is None:
                raise error or SandboxFault("run", 0, "the sandbox gave no answer")
            check_answered(ending)
            done = Done(ending, StartKind.WARM, self._waited_us())
            if self._run is None:
                found = express.endings.quiet(self.request_id, self.prepared, done, self.begun_ns, self._reached())
            elif self._run.log.behind:
                express.loop.create_task(self._catch_up(self._run, done))
                return
            else:
                found = self._loud(self._run, done)
        except Exception as failed:
            self._fail(failed)
        else:
            if not self.future.done():
                self.future.set_result(found)

    def _loud(self, run: Run, done: Done) -> Completion:
        return self._express.endings.loud(run, self.request_id, self.prepared, done, self._reached())

    def _waited_us(self) -> int:
        return (self.started_ns - self.waits_ns) // 1000 if self.waits_ns else 0

    def _reached(self) -> tuple[int, int, int]:
        return self.accepted_ns, self.waits_ns or self.started_ns, self.started_ns

    def _left(self, error: BaseException) -> None:
        reached = (self.accepted_ns, self.waits_ns or self.started_ns)
        self._express.endings.left(self._written(), self.request_id, self.prepared, *reached, error)

    async def _catch_up(self, run: Run, done: Done) -> None:
        try:
            await run.log.finish()
            found = self._loud(run, done)
        except Exception as failed:
            self._fail(failed)
        else:
            if not self.future.done():
                self.future.set_result(found)

    async def _go_the_long_way(self, payload: bytes) -> None:
        if self._run is not None:
            self._run.log.finish_now()
            self._run.end()
        request = InvokeRequest(FunctionRef(self.prepared.function.name), payload, self.request_id)
        await self._follow(partial(self._express.long_way, request))

    async def _follow(self, way: Callable[[], Awaitable[Completion]]) -> None:
        try:
            found = await way()
        except Exception as failed:
            if not self.future.done():
                self.future.set_exception(failed)
        else:
            if not self.future.done():
                self.future.set_result(found)

    def _fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)
        self._left(error)


class Express:
    """All lines of an engine."""

    def __init__(
        self,
        scheduler: Scheduler,
        endings: Endings,
        means: RunMeans,
        *,
        event_limit_bytes: int,
        new_uuid: Callable[[], str],
        long_way: Callable[[InvokeRequest], Awaitable[Completion]],
        go_on: Callable[[ExpressCall, Granted], Awaitable[Completion]],
    ) -> None:
        self.long_way = long_way
        self.go_on = go_on
        self.scheduler = scheduler
        self.endings = endings
        self.means = means
        self._event_limit_bytes = event_limit_bytes
        self._new_uuid = new_uuid
        self._lines: dict[str, Line] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.nothing: Any = None  # stands where a call's future was
        # What the loop does not run to its end is gone on with here, as are the lines and the counts of what it does.
        self.door = Door(
            NativeOwner(partial(ExpressCall, self), self._handed, endings.natively, self._natively_left),
            event_limit_bytes,
        )

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The one that all calls run on."""
        return self._loop or asyncio.get_running_loop()

    def open(self, prepared: Prepared) -> None:
        """The function was served like this, and may be again."""
        self._loop = asyncio.get_running_loop()
        name = prepared.function.name
        line, target = self._lines.get(name), self.scheduler.target_of(prepared.spec.key)
        if target is not None and (line is None or line.about.prepared is not prepared or line.target != target):
            line = self._lines[name] = _line(prepared, target)
            if self.scheduler.lane is not None:
                self.door.open(name, self.scheduler.lane, line)

    def native(self, function_name: str) -> tuple[Door, Line] | None:
        """Where native callers may submit plain calls of a function, and by what; None where there is nothing warm."""
        return (self.door, self._lines[function_name]) if function_name in self.door else None

    def left(self, prepared: Prepared, request_id: str, accepted_ns: int, waits_ns: int) -> None:
        """One did, whose caller had waited in the lane."""
        self.endings.never_ran(request_id, prepared, accepted_ns, waits_ns, asyncio.CancelledError())

    def _natively_left(self, about: _About, request_id: str, accepted_ns: int, waits_ns: int) -> None:
        self.left(about.prepared, request_id, accepted_ns, waits_ns)
        self.endings.tally.failed(about.prepared.function.name, asyncio.CancelledError())

    def _handed(self, call: ExpressCall) -> None:
        """A native caller's goes on here: nobody else counts how it ends, nor its bytes."""
        name, size = call.prepared.function.name, len(call.payload or b"")

        def count(future: asyncio.Future[Completion]) -> None:
            error = asyncio.CancelledError() if future.cancelled() else future.exception()
            if error is not None:
                self.endings.tally.failed(name, error)
            else:
                self.endings.tally.moved(name, size, len(future.result().payload))

        call.future.add_done_callback(count)

    def drop(self, function_name: str, function: object = None) -> None:
        """It is another from here on, or gone."""
        self._lines.pop(function_name, None)
        self.door.drop(function_name)

    def submit(self, function_name: str, payload: bytes, request_id: str = "") -> ExpressCall | None:
        """Run it, if no sandbox has to be started for it first; to be awaited by `result`. A request id is a UUID, or
        none."""
        line, lane = self._lines.get(function_name), self.scheduler.lane
        if line is None or lane is None or not payload.isascii() or not 0 < len(payload) <= self._event_limit_bytes:
            return None
        accepted_ns = self.means.monotonic_ns()
        try:
            _SCAN(payload)
        except (msgspec.DecodeError, RecursionError):
            return None
        if request_id and not is_request_id(request_id):
            return None
        call = ExpressCall(self, line.about)
        found = lane.submit(call, line, payload, request_id or self._new_uuid(), accepted_ns)
        if found == TAKEN or (found == LENT and call.run()):
            return call
        return None
