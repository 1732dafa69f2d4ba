"""How an invocation ends: its report, the last lines of its log, its place in the counts, its completion.

Leaves to others: which way it came (engine.invoke.pipeline, engine.invoke.express). Guarantees: an ending that is no
answer of the function's and no failure of its own is a SandboxFault; each event that a sandbox had has START and END
in the log, and REPORT unless the caller left or the engine failed; of a function that is gone nothing is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from engine.errors import NotFound, SandboxFault
from engine.invoke.documents import Facts, function_error
from engine.invoke.quiet import QuietRuns
from engine.invoke.reportline import billed_ms
from engine.invoke.retire import Logs
from engine.invoke.run import Run
from engine.invoke.specs import Prepared, Specs
from engine.model.function import Function, LogFormat
from engine.model.invocation import Completion, LogBatch, Moments, Report
from engine.model.names import FunctionRef
from engine.model.outcome import FUNCTION_FAILED, Outcome, StartKind
from engine.registry.api import Registry
from engine.sandbox.api import Ending
from engine.scheduler.api import Done

if TYPE_CHECKING:
    from engine.sandbox.box import NativeEnd

Record = Callable[[Function, Report, Moments], None]
"""Told of every invocation that ran to its end, when its answer is on its way."""

Lost = Callable[[Function, str, StartKind | None, Moments, BaseException], None]
"""Told of every invocation that was admitted or throttled and ended in no answer: its request id, the sandbox that had
it, if one had, and what was raised."""


def record_nothing(function: Function, report: Report, moments: Moments) -> None:
    """The default where nobody listens."""


def lose_nothing(
    function: Function, request_id: str, kind: StartKind | None, moments: Moments, error: BaseException
) -> None:
    """As above."""


class Tally(Protocol):
    """Told of calls of native callers what whoever calls the pipeline knows of his own."""

    def moved(self, name: str, event_bytes: int, result_bytes: int) -> None:
        """So much went to a function, and came back."""

    def failed(self, name: str, error: BaseException) -> None:
        """It ended in no answer."""


class NoTally:
    """The default where nobody counts."""

    def moved(self, name: str, event_bytes: int, result_bytes: int) -> None:
        """See Tally."""

    def failed(self, name: str, error: BaseException) -> None:
        """See Tally."""


class _Quiet(NamedTuple):
    """What the lines of a quiet run are made of."""

    prepared: Prepared
    report: Report
    moments: Moments
    facts: Facts
    error_type: str
    begun_ns: int
    ended_ns: int


class Endings:
    """Of all invocations of an engine."""

    def __init__(
        self,
        registry: Registry,
        specs: Specs,
        logs: Logs,
        record: Record,
        lost: Lost,
        *,
        tally: Tally,
        monotonic_ns: Callable[[], int],
        wall_ns: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._specs = specs
        self._logs = logs
        self._record = record
        self._lost = lost
        self.tally = tally
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._quiet: QuietRuns[_Quiet | NativeEnd] = QuietRuns(self._write_quiet)

    def settle(self) -> None:
        """Write what is still to be written: for whoever reads logs or counts next."""
        self._quiet.settle()

    def keep(self, function_name: str, batch: LogBatch) -> None:
        """Keep lines of one that is under way."""
        self._quiet.settle()  # theirs were before
        self._logs.append(function_name, batch)

    def keep_late(self, function_name: str, batch: LogBatch) -> None:
        """What a function writes between two invocations, or while it ends: nothing of one that is deleted is kept."""
        try:
            self._registry.get(FunctionRef(function_name))
        except NotFound:
            return
        self.keep(function_name, batch)

    def left(
        self,
        run: Run,
        request_id: str,
        prepared: Prepared,
        accepted_ns: int,
        checked_ns: int,
        error: BaseException,
    ) -> None:
        """It has no answer: its caller left, it was throttled, or the engine failed."""
        moments = Moments(accepted_ns, checked_ns, run.started_ns, self._monotonic_ns())
        self._lost(prepared.function, request_id, run.kind, moments, error)
        if run.started_ns:
            run.begin()
            run.log.finish_now()
            run.log.say(prepared.platform.left(request_id, self._wall_ns()))
        self._end_log(run)
        self._forget_if_gone(prepared)

    def never_ran(
        self, request_id: str, prepared: Prepared, accepted_ns: int, checked_ns: int, error: BaseException
    ) -> None:
        """The same of one that no sandbox has had."""
        moments = Moments(accepted_ns, checked_ns, 0, self._monotonic_ns())
        self._lost(prepared.function, request_id, None, moments, error)
        self._forget_if_gone(prepared)

    def quiet(
        self,
        request_id: str,
        prepared: Prepared,
        done: Done,
        begun_ns: int,
        reached: tuple[int, int, int],
        *,
        timeline: bool = False,
    ) -> Completion:
        """It wrote nothing: its lines follow with those of others. `reached`: when it was accepted, checked and
        started."""
        ending = done.ending
        moments = Moments(*reached, self._monotonic_ns(), ending.timeline)
        report = _report(request_id, prepared, done, moments, timeline)
        facts = Facts(request_id, prepared.function.config.timeout_ms, ending.exit_status)
        if ending.outcome is Outcome.OK:
            self._quiet.add(_Quiet(prepared, report, moments, facts, "", begun_ns, self._wall_ns()))
            return Completion(report, ending.payload)
        error = function_error(ending, facts)
        self._quiet.add(_Quiet(prepared, report, moments, facts, error.type, begun_ns, self._wall_ns()))
        return Completion(report, b"", error)

    def natively(self, records: Iterable[NativeEnd]) -> None:
        """They wrote nothing, and their native callers have their answers."""
        for record in records:
            self._quiet.add(record)

    def loud(
        self,
        run: Run,
        request_id: str,
        prepared: Prepared,
        done: Done,
        reached: tuple[int, int, int],
        *,
        timeline: bool = False,
        at_once: bool = False,
    ) -> Completion:
        """It has a log of its own, which has caught up; `at_once`: somebody waits for its last lines."""
        ending = done.ending
        moments = Moments(*reached, self._monotonic_ns(), ending.timeline)
        report = _report(request_id, prepared, done, moments, timeline)
        facts = Facts(request_id, prepared.function.config.timeout_ms, ending.exit_status)
        error = None if ending.outcome is Outcome.OK else function_error(ending, facts)
        payload = ending.payload if error is None else b""
        error_type = "" if error is None else error.type
        if at_once:
            self._write_end(run, report, moments, facts, error_type, prepared)
            return Completion(report, payload, error, run.log.tail())
        # The answer goes out first, they and the record follow in the next turn.
        asyncio.get_running_loop().call_soon(self._write_end, run, report, moments, facts, error_type, prepared)
        return Completion(report, payload, error)

    def _write_end(
        self, run: Run, report: Report, moments: Moments, facts: Facts, error_type: str, prepared: Prepared
    ) -> None:
        self._record(prepared.function, report, moments)
        log = run.log
        log.finish_now()
        log.say(prepared.platform.report(report, facts, error_type, self._wall_ns()))
        self._end_log(run)
        self._forget_if_gone(prepared)

    def _end_log(self, run: Run) -> None:
        if not run.quiet and run.log.lost:
            self._logs.missed(run.log.lost)
        run.end()

    def _write_quiet(self, run: _Quiet | NativeEnd) -> None:
        ended = run if isinstance(run, _Quiet) else _of_record(run)
        prepared, report, moments, facts, error_type, begun_ns, ended_ns = ended
        function = prepared.function
        if ended is not run:
            self.tally.moved(function.name, *run[-2:])
        self._record(function, report, moments)
        json = function.config.log_format is LogFormat.JSON
        said = prepared.platform
        for lines, at_ns in (
            (said.start(report.request_id, function.version, begun_ns), begun_ns),
            (said.report(report, facts, error_type, ended_ns), ended_ns),
        ):
            if lines:
                texts = [line.encode(errors="replace") for line in lines]
                batch = LogBatch(at_ns // 1000, report.request_id, prepared.log_stream, texts, json)
                self._logs.append(function.name, batch)
        self._forget_if_gone(prepared)

    def _forget_if_gone(self, prepared: Prepared) -> None:
        """Drop the log of a function that was deleted while this invocation wrote to it."""
        if self._specs.holds(prepared):
            return
        try:
            self._registry.get(FunctionRef(prepared.function.name))
        except NotFound:
            self._logs.forget(prepared.function.name)


def _of_record(record: NativeEnd) -> _Quiet:
    """A native caller's run."""
    about, request_id, accepted_ns, started_ns, begun_ns, answered_ns, ended_ns, peak_bytes, cpu_us, waits_ns, _, _ = (
        record
    )
    prepared: Prepared = about.prepared
    handler_us = (answered_ns - started_ns) // 1000
    report = Report(
        request_id,
        Outcome.OK,
        StartKind.WARM,
        prepared.spec.memory_mb,
        prepared.function.version,
        queue_us=(started_ns - waits_ns) // 1000 if waits_ns else 0,
        handler_us=handler_us,
        total_us=(answered_ns - accepted_ns) // 1000,
        billed_ms=billed_ms(0, handler_us),
        peak_memory_bytes=peak_bytes,
        cpu_us=cpu_us,
    )
    moments = Moments(accepted_ns, waits_ns or started_ns, started_ns, answered_ns, (("answered", answered_ns),))
    facts = Facts(request_id, prepared.function.config.timeout_ms)
    return _Quiet(prepared, report, moments, facts, "", begun_ns, ended_ns)


def check_answered(ending: Ending) -> None:
    """Raises SandboxFault for an ending that is neither an answer nor the function's own failure."""
    if ending.outcome is not Outcome.OK and ending.outcome not in FUNCTION_FAILED:
        raise SandboxFault("run", 0, f"a sandbox ended in {ending.outcome.value}")


def _report(request_id: str, prepared: Prepared, done: Done, moments: Moments, timeline: bool) -> Report:
    ending = done.ending
    return Report(
        request_id=request_id,
        outcome=ending.outcome,
        start_kind=done.start_kind,
        memory_mb=prepared.spec.memory_mb,
        executed_version=prepared.function.version,
        queue_us=done.queue_us,
        start_us=ending.start_us,
        init_us=ending.init_us,
        handler_us=ending.handler_us,
        total_us=(moments.recorded_ns - moments.accepted_ns) // 1000,
        billed_ms=billed_ms(ending.init_us, ending.handler_us),
        peak_memory_bytes=ending.peak_memory_bytes,
        cpu_us=ending.cpu_us,
        tmp_written_bytes=ending.tmp_written_bytes,
        network_in_bytes=ending.network_in_bytes,
        network_out_bytes=ending.network_out_bytes,
        timeline=moments.timeline() if timeline else (),
        cost=ending.cost if timeline else None,
    )
