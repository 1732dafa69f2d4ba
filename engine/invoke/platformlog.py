"""What the engine says in a function's log, in the function's format: AWS Lambda's lines, or its platform records.

Leaves to others: when it is said, and by which name a line is kept. Guarantees: a record is one line of JSON with time,
type and record; one below the system log level is not there at all; neither decides what the function itself may write
but by the level that its configuration names.

Sources: docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html (types and members of the records) and
monitoring-cloudwatchlogs-log-level.html (which level each has, and what level a line of the function has).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Protocol

import orjson

from engine.invoke import reportline
from engine.invoke.documents import Facts, error_message
from engine.invoke.logtail import dropped_line
from engine.model.function import Function, FunctionConfig, LogFormat, LogLevel
from engine.model.invocation import Report
from engine.model.outcome import Outcome
from engine.sandbox.api import Ending
from engine.sandbox.ready import PROVISIONED

Lines = tuple[str, ...]


class PlatformLog(Protocol):
    """Lines that are said at the moments of an invocation; `wall_ns` is when."""

    @property
    def takes(self) -> Callable[[bytes], bool] | None:
        """Whether a line of the function is kept; None: all are."""

    def of_tenant(self, tenant_id: str) -> PlatformLog:
        """What is said of invocations for a tenant."""

    def provisioned(self) -> PlatformLog:
        """What is said of init phases ahead of any invocation."""

    def init_start(self, wall_ns: int) -> Lines:
        """Before module code runs."""

    def init_failed(self, failure: Ending, phase: str, wall_ns: int) -> Lines:
        """After it failed. `phase`: "init", or "invoke" for the second try."""

    def init_done(self, wall_ns: int) -> Lines:
        """After it has run."""

    def start(self, request_id: str, version: str, wall_ns: int) -> Lines:
        """Before the handler is called."""

    def left(self, request_id: str, wall_ns: int) -> Lines:
        """At the end of an invocation that has no report: its caller left, or the engine failed."""

    def report(self, report: Report, facts: Facts, error_type: str, wall_ns: int) -> Lines:
        """At the end of any other."""

    def dropped(self, lines: int, wall_ns: int) -> str:
        """Where lines are missing."""


class TextLog:
    """AWS Lambda's lines."""

    takes: Callable[[bytes], bool] | None = None

    def __init__(self, runtime_version: str, runtime_version_arn: str) -> None:
        self._init_start = (reportline.init_start_line(runtime_version, runtime_version_arn),)

    def of_tenant(self, tenant_id: str) -> PlatformLog:
        return self

    def provisioned(self) -> PlatformLog:
        return self

    def init_start(self, wall_ns: int) -> Lines:
        return self._init_start

    def init_failed(self, failure: Ending, phase: str, wall_ns: int) -> Lines:
        return (reportline.init_report_line(failure, phase),)

    def init_done(self, wall_ns: int) -> Lines:
        return ()

    def start(self, request_id: str, version: str, wall_ns: int) -> Lines:
        return (reportline.start_line(request_id, version),)

    def left(self, request_id: str, wall_ns: int) -> Lines:
        return (reportline.end_line(request_id),)

    def report(self, report: Report, facts: Facts, error_type: str, wall_ns: int) -> Lines:
        end = (reportline.end_line(facts.request_id), reportline.report_line(report, error_type))
        if report.outcome is Outcome.TIMEOUT:
            return (reportline.timeout_line(facts.request_id, facts.timeout_ms, wall_ns), *end)
        if report.outcome in (Outcome.EXITED, Outcome.OUT_OF_MEMORY):
            return (error_message(report.outcome, facts), error_type, *end)
        return end

    def dropped(self, lines: int, wall_ns: int) -> str:
        return dropped_line(lines)


_RANK = {level.value: rank for rank, level in enumerate(LogLevel)} | {
    "WARNING": list(LogLevel).index(LogLevel.WARN),
    "CRITICAL": list(LogLevel).index(LogLevel.FATAL),
}
_STATUS: Mapping[Outcome, str] = MappingProxyType({Outcome.OK: "success", Outcome.TIMEOUT: "timeout"})
"""Of all others: "error"."""
_ERROR_TYPE: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.TIMEOUT: "Sandbox.Timedout",
        Outcome.EXITED: "Runtime.ExitError",
        Outcome.OUT_OF_MEMORY: "Runtime.OutOfMemory",
    }
)


class JsonLog:
    """AWS's platform records."""

    def __init__(self, function: Function, runtime_version: str, runtime_version_arn: str) -> None:
        config = function.config
        self._least = _rank(config.system_log_level)
        self.takes: Callable[[bytes], bool] | None = _filter(config)
        self._tenant: dict[str, str] = {}
        self._init = {"initializationType": "on-demand", "phase": "init"}
        self._init_start = {
            **self._init,
            "runtimeVersion": runtime_version,
            "runtimeVersionArn": runtime_version_arn,
            "functionName": function.name,
            "functionVersion": function.version,
        }

    def of_tenant(self, tenant_id: str) -> PlatformLog:
        made = copy.copy(self)
        made._tenant = {"tenantId": tenant_id}
        return made

    def provisioned(self) -> PlatformLog:
        made, how = copy.copy(self), {"initializationType": PROVISIONED}
        made._init, made._init_start = self._init | how, self._init_start | how
        return made

    def init_start(self, wall_ns: int) -> Lines:
        return self._say(LogLevel.INFO, "initStart", self._init_start, wall_ns)

    def init_failed(self, failure: Ending, phase: str, wall_ns: int) -> Lines:
        status = _status(failure.outcome, "" if failure.error is None else failure.error.type)
        record = {**self._init, "phase": phase, **status}
        metrics = {"durationMs": _ms(failure.init_us or failure.handler_us)}
        return (
            *self._say(LogLevel.WARN, "initRuntimeDone", record, wall_ns),
            *self._say(LogLevel.WARN, "initReport", {**record, "metrics": metrics}, wall_ns),
        )

    def init_done(self, wall_ns: int) -> Lines:
        return self._say(LogLevel.DEBUG, "initRuntimeDone", {**self._init, "status": "success"}, wall_ns)

    def start(self, request_id: str, version: str, wall_ns: int) -> Lines:
        return self._say(LogLevel.INFO, "start", self._of(request_id) | {"version": version}, wall_ns)

    def left(self, request_id: str, wall_ns: int) -> Lines:
        return self._say(LogLevel.WARN, "runtimeDone", self._of(request_id) | {"status": "failure"}, wall_ns)

    def report(self, report: Report, facts: Facts, error_type: str, wall_ns: int) -> Lines:
        status = _status(report.outcome, error_type)
        failed = report.outcome is not Outcome.OK
        done = {**self._of(facts.request_id), **status, "metrics": {"durationMs": _ms(report.handler_us)}}
        metrics = {
            "durationMs": _ms(report.handler_us),
            "billedDurationMs": report.billed_ms,
            "memorySizeMB": report.memory_mb,
            "maxMemoryUsedMB": -(-report.peak_memory_bytes // 1_048_576),
        }
        if report.init_us:
            metrics["initDurationMs"] = _ms(report.init_us)
        record = {**self._of(facts.request_id), "metrics": metrics, **status}
        return (
            *self._say(LogLevel.WARN if failed else LogLevel.DEBUG, "runtimeDone", done, wall_ns),
            *self._say(LogLevel.WARN if failed else LogLevel.INFO, "report", record, wall_ns),
        )

    def dropped(self, lines: int, wall_ns: int) -> str:
        reason = "the function wrote faster than its log can be kept"
        (line,) = self._say(LogLevel.WARN, "logsDropped", {"droppedRecords": lines, "reason": reason}, wall_ns)
        return line

    def _of(self, request_id: str) -> dict[str, str]:
        return {"requestId": request_id, **self._tenant}

    def _say(self, level: LogLevel, kind: str, record: Mapping[str, Any], wall_ns: int) -> Lines:
        if _rank(level) < self._least:
            return ()
        return (orjson.dumps({"time": _time(wall_ns), "type": f"platform.{kind}", "record": record}).decode(),)


def platform_log(function: Function, runtime_version: str, runtime_version_arn: str) -> PlatformLog:
    """What is said in the log of a function."""
    if function.config.log_format is LogFormat.JSON:
        return JsonLog(function, runtime_version, runtime_version_arn)
    return TextLog(runtime_version, runtime_version_arn)


def line_level(line: bytes) -> str:
    """The level of a line of a log in JSON, by the names that the runtimes have for it; INFO where it names none."""
    if line.startswith(b"{") and b"evel" in line:
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            return LogLevel.INFO.value
        level = found.get("level", found.get("log_level"))
        if isinstance(level, str) and level.upper() in _RANK:
            return level.upper()
    return LogLevel.INFO.value


def _filter(config: FunctionConfig) -> Callable[[bytes], bool] | None:
    least = _rank(config.log_level)
    if not least:
        return None
    return lambda line: _RANK[line_level(line)] >= least


def _rank(level: LogLevel) -> int:
    return _RANK[level.value]


def _status(outcome: Outcome, error_type: str) -> dict[str, str]:
    status = {"status": _STATUS.get(outcome, "error")}
    named = _ERROR_TYPE.get(outcome, error_type)
    if named and outcome is not Outcome.OK:
        status["errorType"] = named[: reportline.ERROR_TYPE_LIMIT]
    return status


def _ms(microseconds: int) -> float:
    return round(microseconds / 1000, 3)


def _time(wall_ns: int) -> str:
    moment = datetime.fromtimestamp(wall_ns // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
