"""A sandbox on Linux, from its first event to its last: the implementation of engine.sandbox.api.Sandbox.

Three descriptors tell what happens, all on the event loop: the guest's frames (control), what it wrote (log), and the
end of its process 1 (pidfd), after which the kernel has killed everything else of it. A run ends by a RESULT or ERROR
frame, or by the end of the process, and the clock ends the process. The init phase has a clock of its own, unless the
event covers it, or there is none yet and it takes its time: then it runs with the handler's CPU, so that module code
cannot have more than was bought for up to 15 minutes. What is enforced is written by the engine and read by the kernel;
nothing the guest says changes a limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from engine.errors import SandboxFault
from engine.guest import wire
from engine.model.invocation import FunctionError
from engine.model.outcome import Outcome, StartKind
from engine.sandbox import box
from engine.sandbox.api import UNREAD, Ending, Event, ExpressSink, RunSink, SandboxSpec
from engine.sandbox.counts import Counts, Happening
from engine.sandbox.cpu import CpuRules
from engine.sandbox.deadline import Deadline
from engine.sandbox.farewell import Farewell
from engine.sandbox.flow import Flow
from engine.sandbox.janitor import Janitor, tell
from engine.sandbox.lane import seat_of
from engine.sandbox.lifecycle import Lifecycle, MoveListener, SandboxState
from engine.sandbox.link import GuestLink, ProtocolError
from engine.sandbox.log_pipe import LogPipe
from engine.sandbox.messages import event_frame, function_error, guest_limits, too_large
from engine.sandbox.meter import Meter, warn_of_full_disk
from engine.sandbox.parts import Parts, exit_status, read_report
from engine.sandbox.plain import PlainRuns
from engine.sandbox.ready import nobody, run_ahead
from engine.sandbox.timeline import Timeline, weighed

_DEAD_WITHIN_S = 5.0  # a process that the kernel cannot kill by then is left to the janitor; its caller gets an answer
_EXIT_WITHIN_S = 0.25
_CLOSED_WITHIN_S = 10.0  # what the kernel has not let go of by then is the janitor's to go on with


class LinuxSandbox(PlainRuns):
    """One sandbox over its Parts. Made by LinuxPool, on the event loop's thread."""

    def __init__(
        self,
        sandbox_id: str,
        spec: SandboxSpec,
        parts: Parts,
        *,
        kind: StartKind,
        unsent: bytes,
        timeline: Timeline,
        cpu_us: int,
        cpu: CpuRules,
        lane: box.Lane,
        janitor: Janitor,
        counts: Counts,
        on_closed: Callable[[], None],
    ) -> None:
        self._id = sandbox_id
        self._spec = spec
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._janitor, self._counts = janitor, counts
        self._on_closed = on_closed
        self._life = Lifecycle()
        self._quota_us = cpu.serving_us(spec.memory_mb)
        self._quota_pending = cpu.starting_us(spec.memory_mb) != self._quota_us
        self._timeline = timeline
        # The guest of one that was parked is there already.
        self._hello_ns = timeline.add("assigned") if kind is StartKind.PARKED else 0
        self._served = self._initialized = False
        self._sink: RunSink | None = None
        self._run: asyncio.Future[Any] | None = None
        self._express: ExpressSink | None = None  # the run is its, and no task waits for it
        self._clock = Deadline(self._loop, self._on_timeout)
        self._event: Event | None = None
        self._init_us = self._began_ns = 0  # the latter is the init phase's clock, or the handler's
        self._start_us = (self._hello_ns - timeline.started_ns) // 1000 if self._hello_ns else 0
        self.kind, self._unsent = kind, unsent
        self._killed_as: Outcome | None = None
        self._meter = Meter(parts, spec.memory_mb << 20, cpu_us)
        self.gone = asyncio.Event()  # its processes have ended
        self.on_end: Callable[[], None] = nobody
        self._closing: asyncio.Task[None] | None = None
        limits = guest_limits(spec.result_limit_bytes)
        seat = partial(seat_of, lane, parts, self._on_answer, self._fail)
        self._link = GuestLink(self._loop, parts.control, limits, self._on_frame, self._on_link_end, seat)
        self._flow = Flow(self._link, spec.result_limit_bytes)
        self._farewell = Farewell(self._link, self.gone, counts)
        try:
            self._log = LogPipe(self._loop, parts.log, self._fail, self._take)
            self._loop.add_reader(parts.pidfd, self._on_exit)
        except BaseException:
            self._loop.remove_reader(parts.log)
            self._link.close()
            raise

    @property
    def id(self) -> str:
        """Unique in this engine's life; the name of its cgroup too."""
        return self._id

    @property
    def spec(self) -> SandboxSpec:
        """What it was started for."""
        return self._spec

    @property
    def pid(self) -> int:
        """Process 1 of the sandbox, in the engine's numbering."""
        return self._parts.pid

    @property
    def state(self) -> SandboxState:
        """Where it is in its life."""
        return self._life.state

    @property
    def dead(self) -> bool:
        """It runs nothing more."""
        return self._life.over

    def listen(self, listener: MoveListener) -> None:
        """Tell `listener` of every move from here on."""
        self._life.listen(listener)

    async def prepare(self, sink: RunSink) -> Ending:
        """See the protocol."""
        return await run_ahead(self.run, self._spec, sink, self._end_of_init_cpu, self._fail)

    async def run(self, event: Event, sink: RunSink) -> Ending:
        """Run one event; see the protocol. A cancelled run kills the sandbox."""
        self._take()
        if self._life.over or self._run is not None:
            raise SandboxFault("run", 0, "the sandbox has ended" if self._run is None else "the sandbox is busy")
        head, payload = event_frame(event)
        run: asyncio.Future[Ending] = self._loop.create_future()
        self._run = run
        self._event, self._sink = event, sink
        self._log.begin(sink)
        streams = event.stream_limit_bytes or event.input is not None
        if streams:
            self._flow.begin(event, sink)
        self._began_ns = time.monotonic_ns()
        if self._served:
            self._timeline.again()
            self._life.move(SandboxState.RUNNING)
            kind, timeout_ms = StartKind.WARM, event.timeout_ms
        else:
            self._served = True
            if self._life.state is SandboxState.STARTING:
                self._life.move(SandboxState.READY)
            self._life.move(SandboxState.INITIALIZING)
            kind, timeout_ms = self.kind, self._init_timeout_ms(event)
            head = self._unsent + head
        try:
            if event.covers_init:
                self._end_of_init_cpu()
            if event.timeline:
                self._timeline.add("framed")
            plain = kind is StartKind.WARM and not (streams or event.timeline)
            if not (self._link.call if plain else self._link.send)(head, payload):
                if not self._hello_ns:
                    # Its set-up failed: the end of its process says how.
                    self._clock.set(timeout_ms / 1000)
                    return await run
                # It died unnoticed; its event may go to another, since this one never had it.
                raise SandboxFault("run", 0, "the sandbox ended before it had the event")
            # The guest is at work from here on: what follows costs its caller nothing.
            self._clock.set(timeout_ms / 1000)
            sink.started(kind)
            ending = await (self._flow.ended(run) if streams else run)
            return await weighed(ending, self._parts) if event.timeline else ending
        except BaseException:
            # Cancelled, or the sink or the engine failed: what the guest does with the event is nobody's any more.
            self.kill()
            raise
        finally:
            if streams:
                self._flow.end()
            self._over()

    def kill(self) -> None:
        """SIGKILL to its process 1, which takes the rest of it along; not held up by the CPU quota. A run under way
        ends as cancelled, unless its end was decided before."""
        self._killed_as = self._killed_as or Outcome.CANCELLED
        self._end()

    def _ended(self) -> None:
        if self._life.end():
            self._loop.call_soon(self.on_end)

    def _end(self) -> None:
        self._take()
        self._ended()
        if self.gone.is_set():
            return  # nothing else is to be touched: the janitor has it
        # Process 1 would take them along, when its turn among a thousand that run has come: all at once is quicker.
        self._parts.leaf.kill()
        box.kill(self._parts.pidfd)
        try:
            # A throttled process would die only in its next period. After the kill: those that spin, let loose before
            # it, would keep the CPUs from this very thread.
            self._parts.leaf.set_cpu(0)
        except SandboxFault:  # no descriptor is free: then it dies in its next period
            pass

    async def close(self, grace_ms: int = 0) -> None:
        """End it, by engine.sandbox.farewell if it idles, and take everything away; safe to call again, and to cancel:
        the work goes on. Returns after the grace and 10 s at the latest, also where the kernel still holds something of
        it: that is counted, and the janitor goes on."""
        if self._closing is None:
            self.on_end = nobody
            self._take()
            told = self._life.state is SandboxState.IDLE and self._farewell.say(grace_ms)
            if not told:
                self.kill()
            self._life.move(SandboxState.CLOSING)
            self._closing = self._loop.create_task(self._take_away(grace_ms if told else 0))
        done, _ = await asyncio.wait({self._closing}, timeout=grace_ms / 1000 + _CLOSED_WITHIN_S)
        if not done:
            self._counts.happened(Happening.REMOVAL_LATE)

    async def _take_away(self, grace_ms: int) -> None:
        await self._farewell.over(grace_ms, self.kill, lambda: self._killed_as is not None)
        self._clock.close()
        self._link.close()
        self._log.close()
        removed = self._loop.create_future()
        self._janitor.take_away(self._parts.removal(), partial(tell, self._loop, removed))
        await removed
        self._life.move(SandboxState.DEAD)
        self._on_closed()

    # What the guest says

    def _on_frame(self, kind: int, body: bytes | bytearray) -> None:
        if self._life.over:
            return  # how the run ends was decided before this was read
        if kind == wire.HELLO and not self._hello_ns:
            self._hello_ns = self._timeline.booted(body)
            self._start_us = (self._hello_ns - self._timeline.started_ns) // 1000
            if self._life.state is SandboxState.INITIALIZING:
                assert self._event is not None
                # The engine's own part is not the function's time.
                self._began_ns = self._hello_ns
                self._clock.set(self._init_timeout_ms(self._event) / 1000)
            return
        if self._run is None or self._run.done():
            raise ProtocolError(f"a frame of kind {kind} between two events")
        if kind == wire.TIMELINE and self._event is not None and self._event.timeline:
            return self._timeline.told(body)
        if self._life.state is SandboxState.INITIALIZING:
            if kind == wire.READY:
                return self._on_ready()
            if kind == wire.INIT_ERROR:
                return self._on_error(Outcome.INIT_ERROR, body)
        elif kind == wire.CHUNK:
            self._log.drain()
            return self._flow.chunk(body)
        elif kind == wire.ERROR:
            return self._on_error(Outcome.HANDLER_ERROR, body)
        elif kind in (wire.RESULT, wire.TOO_LARGE):
            self._log.drain()
            self._life.move(SandboxState.IDLE)
            if kind == wire.RESULT:
                return self._finish(Outcome.OK, payload=bytes(body))
            return self._finish(Outcome.HANDLER_ERROR, error=too_large(self._flow.limit_bytes))
        if kind != wire.FAREWELL:
            raise ProtocolError(f"a frame of kind {kind} in state {self._life.state.value}")
        self._farewell.wanted = True

    def _on_error(self, outcome: Outcome, body: bytes | bytearray) -> None:
        self._log.drain()
        error = function_error(body)
        if self._meter.is_out_of_memory(error):
            self._killed_as = Outcome.OUT_OF_MEMORY  # the limit refused what a cgroup would have killed for
            self._finish(Outcome.OUT_OF_MEMORY, exit_text="signal: killed")
            return self._end()
        self._life.move(SandboxState.ENDED if outcome is Outcome.INIT_ERROR else SandboxState.IDLE)
        self._finish(outcome, error=error)

    def _on_ready(self) -> None:
        assert self._event is not None
        now = self._timeline.add("initialized")
        self._log.drain()  # the end of the init phase is marked in it
        self._end_of_init_cpu()
        self._life.move(SandboxState.IDLE if self._event.ahead else SandboxState.RUNNING)
        self._flow.handler_called()
        self._initialized = True
        if not self._event.covers_init:
            self._init_us = (now - self._began_ns) // 1000
            self._began_ns = now
            self._clock.set(self._event.timeout_ms / 1000)
        self._log.initialized()
        if self._event.ahead:
            self._finish(Outcome.OK)

    def _init_timeout_ms(self, event: Event) -> int:
        return event.timeout_ms if event.covers_init or event.ahead else self._spec.init_timeout_ms

    def _end_of_init_cpu(self) -> None:
        if self._quota_pending and not self._life.over:
            self._parts.leaf.set_cpu(self._quota_us)
            self._quota_pending = False

    def _on_link_end(self, error: Exception | None) -> None:
        # A guest that left its socket, or talked nonsense on it, serves nothing more. One that left is most likely
        # exiting: its process 1 gets a moment to say how.
        if error is None:
            self._ended()
            self._loop.call_later(_EXIT_WITHIN_S, self._end)
        elif isinstance(error, ProtocolError):
            self._end()
        else:
            self._fail(error)

    # How it ends

    def _on_timeout(self) -> None:
        if self._killed_as is Outcome.TIMEOUT:
            return self._finish(Outcome.TIMEOUT)  # the kernel cannot end it
        self._killed_as = Outcome.TIMEOUT
        self._end()
        self._clock.set(_DEAD_WITHIN_S)

    def _on_exit(self) -> None:
        status = self._meter.reap()
        if status is None:
            return
        self._loop.remove_reader(self._parts.pidfd)
        try:
            self._take()
            self._link.read_to_end()
            self._link.close()
            self._log.drain_to_end()
            guest_status, fault = read_report(self._parts.report)
            if self._run is not None and not self._run.done():
                self._finish_exited(status if guest_status is None else guest_status, fault)
        except Exception as error:
            self._fail(error)
        finally:
            self._ended()
            self.gone.set()

    def _finish_exited(self, status: int, fault: SandboxFault | None) -> None:
        # Once user code runs, it can write into the report's pipe too: what that says is no fault of the engine's.
        if fault is not None and not self._hello_ns:
            raise fault
        self._ended()
        if self._killed_as is Outcome.TIMEOUT and not self._hello_ns:
            raise SandboxFault("guest", 0, "the sandbox's guest did not come up in time", fix="try again")
        if self._killed_as is not None:
            self._finish(self._killed_as)
        elif self._meter.ran_out_of_memory(status):
            self._finish(Outcome.OUT_OF_MEMORY, exit_text="signal: killed")
        elif not self._hello_ns or (self._link.untouched and not self._initialized):
            # No code of the function has run: whatever ended it, the function did not.
            how = exit_status(status) or "exit status 0"
            raise SandboxFault("guest", 0, f"the sandbox ended before its guest had the event: {how}", fix="try again")
        elif self._link.untouched and self._event is not None and self._event.input is None:
            raise SandboxFault(UNREAD, 0, f"the sandbox ended before it had read the event: {exit_status(status)}")
        else:
            self._finish(Outcome.EXITED, exit_text=exit_status(status))

    def _fail(self, error: BaseException) -> None:
        """The engine failed, not the guest: the run ends in the error, and the sandbox with it."""
        if self._run is not None and not self._run.done():
            fault = error if isinstance(error, SandboxFault) else None
            self._resolve(None, fault or SandboxFault("run", 0, f"the engine failed: {error!r}"))
        self._end()

    def _finish(
        self, outcome: Outcome, payload: bytes = b"", error: FunctionError | None = None, exit_text: str = ""
    ) -> None:
        if self._run is None or self._run.done():
            return
        assert self._event is not None and self._sink is not None
        self._counts.ended(outcome)
        now = time.monotonic_ns() if self._express is not None else self._timeline.add("answered")
        took_us = (now - self._began_ns) // 1000
        init_failed = not self._initialized and self._hello_ns > 0 and outcome is not Outcome.CANCELLED
        if not self._initialized and not self._event.covers_init:
            self._init_us, took_us = took_us, 0
        used = self._meter.read()
        warn_of_full_disk(self._parts.tmp, used, self._counts, self._sink)
        ending = Ending(
            outcome,
            self._life.state is SandboxState.IDLE,
            payload,
            error,
            *(self._start_us, self._init_us, took_us),
            *used,  # in the same order
            timeline=(("answered", now),) if self._express else self._timeline.moments(self._event.timeline),
            cost=self._timeline.cost(),
            exit_status=exit_text,
            init_failed=init_failed,
        )
        self._start_us = self._init_us = 0
        if init_failed:
            self._sink.initialized(ending)
        self._resolve(ending)
