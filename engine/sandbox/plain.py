"""Plain calls of a sandbox: one event, an answer in one piece, and no task that waits for it.

Most of them are the lane's from end to end (native/sched/loop.h): of those nothing is known here. What is odd about one
(output, anything but a whole answer, its deadline, the end of the sandbox) hands it over, and from then on it is a run
like any other. Leaves to others: what a run is, and how it ends otherwise (engine.sandbox.linux). Guarantees:
a sandbox that rests is offered to the lane unless its usage has to be asked for in ways that only Meter knows, or its
latest run wrote to the log, as its next one will; before anything is done to the sandbox here, it is taken back.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from engine.errors import SandboxFault
from engine.sandbox import box
from engine.sandbox.api import Ending, Event, ExpressSink, RunSink, SandboxSpec
from engine.sandbox.counts import Counts
from engine.sandbox.deadline import Deadline
from engine.sandbox.lifecycle import Lifecycle, SandboxState
from engine.sandbox.link import GuestLink
from engine.sandbox.log_pipe import LogPipe
from engine.sandbox.meter import Meter, plain_answer, warn_of_full_disk
from engine.sandbox.parts import Parts


class PlainRuns:
    """The part of LinuxSandbox that has plain calls."""

    _spec: SandboxSpec
    _life: Lifecycle
    _link: GuestLink
    _log: LogPipe
    _clock: Deadline
    _meter: Meter
    _parts: Parts
    _counts: Counts
    _run: asyncio.Future[Any] | None
    _event: Event | None
    _sink: RunSink | None
    _express: ExpressSink | None
    _began_ns: int

    def kill(self) -> None:
        """See the protocol."""
        raise NotImplementedError

    @property
    def seat(self) -> box.Seat:
        """Its place in the lane of the pool."""
        assert self._link.seat is not None
        return self._link.seat

    def express(self, head: bytes, payload: bytes, event: Event, sink: ExpressSink) -> bool:
        """See the protocol."""
        self._take()
        if self._run is not None or self._life.state is not SandboxState.IDLE:
            return False
        self._begin(event, sink, time.monotonic_ns())
        if not self._link.call(head, payload):
            self._over()
            self.kill()
            return False
        self._clock.set(event.timeout_ms / 1000)
        return True

    def adopt(self, head: bytes, payload: bytes, sent: int, began_ns: int, event: Event, sink: ExpressSink) -> None:
        """Go on with a plain call that the lane has begun: so many bytes of its frame were sent."""
        self._resume()
        self._begin(event, sink, began_ns)
        self._link.adopt(head, payload, sent)
        self._clock.set(max(0.0, event.timeout_ms / 1000 - (time.monotonic_ns() - began_ns) / 1e9))

    def _begin(self, event: Event, sink: ExpressSink, began_ns: int) -> None:
        self._life.move(SandboxState.RUNNING)
        self._run, self._event, self._sink, self._express = sink.future, event, sink, sink
        self._log.begin(sink)
        self._began_ns = began_ns

    def _take(self) -> None:
        """What is done to it next is done here. A plain call that is under way is handed over, and what is written from
        here on is of that one, or of the latest."""
        seat = self._link.seat
        if seat is None:
            return
        if seat.take() and self._run is None:
            self._resume()
        last = seat.last_call()
        if last is not None and self._run is None:
            self._log.begin(last)
            self._log.end()

    def _resume(self) -> None:
        """Count on from what the lane's calls have used."""
        rest = self.seat.rest
        if rest is not None:
            self._meter.resume(*rest)

    def _over(self) -> None:
        self._run = self._sink = self._event = self._express = None
        wrote = self._log.end()
        self._clock.clear()
        if self._life.state is SandboxState.IDLE and not wrote:
            self._link.offer(self._meter.rest())

    def _resolve(self, ending: Ending | None, error: SandboxFault | None = None) -> None:
        run, express = self._run, self._express
        assert run is not None
        if express is not None:
            self._over()
            express.ended(ending, error)
        elif error is not None:
            run.set_exception(error)
        else:
            run.set_result(ending)

    def _on_answer(self, body: bytes, at_ns: int, logged: bool, peak_bytes: int, cpu_us: int, tmp_bytes: int) -> None:
        """A whole answer to an event that asked for nothing else, with what was used by then."""
        if self._life.over or self._run is None or self._run.done():
            return  # how the run ends was decided before this was read
        if len(body) > self._spec.result_limit_bytes:
            return self._link.refuse(len(body))
        if logged:
            self._log.drain()
        self._life.move(SandboxState.IDLE)
        used = self._meter.told(peak_bytes, cpu_us, tmp_bytes)
        warn_of_full_disk(self._parts.tmp, used, self._counts, self._sink)
        self._resolve(plain_answer(body, self._began_ns, at_ns, used))
