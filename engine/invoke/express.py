"""The short way of a plain call to a warm sandbox: what was worked out for its function is done once, not each time.

A plain call has an event in JSON and wants the answer in one piece: no stream, no timeline, no tail of the log, no
qualifier, nothing of its own in the context. Whatever is not plain, refused, cold or odd takes the long way through the
pipeline, which is the one that says what is wrong: `submit` returns None for it, having done nothing.

Theory of operation: the long way leaves a _Line for a function that it served. A call borrows a warm sandbox with its
lease from the scheduler, writes one frame, and is told of the end on the event loop, with no task in between. A run
that writes to the log gets the Run that any other has, then.

Guarantees: those of the pipeline; a line is dropped when its function changes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from engine.errors import SandboxFault, Unavailable
from engine.guest import wire
from engine.invoke.checks import is_request_id
from engine.invoke.endings import Endings, check_answered
from engine.invoke.run import Run, RunMeans
from engine.invoke.specs import Prepared
from engine.model.invocation import Completion, InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import StartKind
from engine.sandbox.api import UNREAD, Ending, Event, Sandbox
from engine.scheduler.api import Borrowed, Done, Scheduler

_SCAN = msgspec.json.Decoder(msgspec.Raw).decode


class _Line:
    """What plain calls of one function have in common."""

    __slots__ = ("event", "form", "key", "prepared")

    def __init__(self, prepared: Prepared) -> None:
        timeout_ms = prepared.function.config.timeout_ms
        self.prepared = prepared
        self.key = prepared.spec.key
        self.event = Event("", b"", timeout_ms, prepared.arn)
        # A UUID, an ARN and numbers: nothing in it has to be escaped.
        self.form = (
            b'{"request_id":"%b","timeout_ms":' + str(timeout_ms).encode() + b',"deadline_ms":%d,"function_arn":"'
            b"" + prepared.arn.encode().replace(b"%", b"%%") + b'","trace_id":"Root=1-%08x-%b;Parent=%b;Sampled=0"}'
        )

    def head(self, request_id: str, wall_ns: int, payload: bytes) -> bytes:
        """An EVENT frame up to its payload."""
        digits = request_id.replace("-", "").lower().encode()
        meta = self.form % (
            request_id.encode(),
            wall_ns // 1_000_000 + self.event.timeout_ms,
            wall_ns // 1_000_000_000,
            digits[:24],
            digits[16:],
        )
        length = wire.META.size + len(meta) + len(payload)
        return wire.HEADER.pack(length, wire.EVENT) + wire.META.pack(len(meta)) + meta


class ExpressCall:
    """One call: the sandbox's sink, and what its caller waits for."""

    __slots__ = (
        "_express",
        "_long",
        "_run",
        "accepted_ns",
        "begun_ns",
        "future",
        "held",
        "over",
        "payload",
        "prepared",
        "request_id",
        "started_ns",
    )

    def __init__(
        self,
        express: Express,
        prepared: Prepared,
        held: Borrowed,
        payload: bytes,
        request_id: str,
        accepted_ns: int,
        begun_ns: int,
    ) -> None:
        self._express = express
        self._run: Run | None = None
        self._long: asyncio.Task[None] | None = None  # it goes the long way after all
        self.payload = payload
        self.prepared = prepared
        self.held: Borrowed | None = held
        self.request_id = request_id
        self.accepted_ns = accepted_ns
        self.started_ns = express.means.monotonic_ns()
        self.begun_ns = begun_ns  # on the wall's clock
        self.future: asyncio.Future[Any] = express.loop.create_future()
        self.over = False

    @property
    def sandbox(self) -> Sandbox:
        """Where it runs, until it is over."""
        assert self.held is not None
        return self.held.sandbox

    async def result(self) -> Completion:
        """Its end. Cancelled, it kills the sandbox. To be awaited once."""
        try:
            found: Completion = await self.future
        except asyncio.CancelledError as error:
            if self._long is not None:
                self._long.cancel()
            elif not self.over:
                self.sandbox.kill()
                with contextlib.suppress(Unavailable):
                    self._give_back(None)
                self._left(error)
            raise
        # The sandbox knows its last call for as long as it idles, for what comes late: what that said is no part of it.
        self.future = self._express.nothing
        return found

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
        payload, self.payload = self.payload, b""
        try:
            self._give_back(ending)
            if isinstance(error, SandboxFault) and error.stage == UNREAD:
                self._long = express.loop.create_task(self._go_the_long_way(payload))
                return
            if ending is None:
                raise error or SandboxFault("run", 0, "the sandbox gave no answer")
            check_answered(ending)
            done = Done(ending, StartKind.WARM)
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

    def _reached(self) -> tuple[int, int, int]:
        return self.accepted_ns, self.started_ns, self.started_ns

    def _left(self, error: BaseException) -> None:
        reached = (self.accepted_ns, self.started_ns)
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
        try:
            found = await self._express.long_way(request)
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
    ) -> None:
        self.long_way = long_way
        self.scheduler = scheduler
        self.endings = endings
        self.means = means
        self._event_limit_bytes = event_limit_bytes
        self._new_uuid = new_uuid
        self._lines: dict[str, _Line] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.nothing: Any = None  # stands where a call's future was

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The one that all calls run on."""
        return self._loop or asyncio.get_running_loop()

    def open(self, prepared: Prepared) -> None:
        """The function was served like this, and may be again."""
        self._loop = asyncio.get_running_loop()
        name = prepared.function.name
        line = self._lines.get(name)
        if line is None or line.prepared is not prepared:
            self._lines[name] = _Line(prepared)

    def drop(self, function_name: str, function: object = None) -> None:
        """It is another from here on, or gone."""
        self._lines.pop(function_name, None)

    def submit(self, function_name: str, payload: bytes, request_id: str = "") -> ExpressCall | None:
        """Run it, if it can be run at once; to be awaited by `result`. A request id is a UUID, or none."""
        line = self._lines.get(function_name)
        if line is None or not payload.isascii() or not 0 < len(payload) <= self._event_limit_bytes:
            return None
        means = self.means
        accepted_ns = means.monotonic_ns()
        try:
            _SCAN(payload)
        except (msgspec.DecodeError, RecursionError):
            return None
        if request_id and not is_request_id(request_id):
            return None
        held = self.scheduler.borrow(line.key)
        if held is None:
            return None
        request_id, wall_ns = request_id or self._new_uuid(), means.wall_ns()
        call = ExpressCall(self, line.prepared, held, payload, request_id, accepted_ns, wall_ns)
        try:
            begun = held.sandbox.express(line.head(request_id, wall_ns, payload), payload, line.event, call)
        except BaseException:
            held.sandbox.kill()
            self.scheduler.give_back(held, None)
            raise
        if not begun:
            self.scheduler.give_back_unused(held)
            return None
        return call
