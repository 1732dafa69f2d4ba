"""What the engine says in a log in JSON reads as AWS's platform records, and levels decide what is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.invoke.documents import Facts
from engine.invoke.platformlog import JsonLog, TextLog, line_level, platform_log
from engine.model.function import LogFormat, LogLevel
from engine.model.invocation import FunctionError, Report
from engine.model.outcome import FUNCTION_FAILED, Outcome, StartKind
from engine.sandbox.api import Ending
from tests.unit.invoke.things import function

WALL_NS = 1_700_000_000_123_456_789
FACTS = Facts("id", 1_500, "exit status 3")


def log(system: LogLevel = LogLevel.DEBUG, level: LogLevel = LogLevel.INFO) -> JsonLog:
    made = platform_log(
        function(log_format=LogFormat.JSON, system_log_level=system, log_level=level), "python:3.11.2", "arn:x"
    )
    assert isinstance(made, JsonLog)
    return made


def records(lines: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Types and records."""
    read = [json.loads(line) for line in lines]
    assert all(one.keys() == {"time", "type", "record"} for one in read)
    assert all(one["time"] == "2023-11-14T22:13:20.123Z" for one in read)
    return [(one["type"], one["record"]) for one in read]


def report(outcome: Outcome = Outcome.OK, init_us: int = 0) -> Report:
    return Report(
        "id", outcome, StartKind.FORK, 128, init_us=init_us, handler_us=1_234, billed_ms=2, peak_memory_bytes=1_048_577
    )


def test_a_function_whose_log_is_text_has_awss_lines() -> None:
    made = platform_log(function(), "python:3.11.2", "arn:x")
    assert isinstance(made, TextLog)
    assert made.init_start(WALL_NS) == ("INIT_START Runtime Version: python:3.11.2\tRuntime Version ARN: arn:x",)
    assert made.start("id", "$LATEST", WALL_NS) == ("START RequestId: id Version: $LATEST",)
    assert [line.split()[0] for line in made.report(report(), FACTS, "", WALL_NS)] == ["END", "REPORT"]
    assert made.takes is None


def test_an_init_phase_and_a_start_are_records() -> None:
    init = {"initializationType": "on-demand", "phase": "init"}
    version = {"runtimeVersion": "python:3.11.2", "runtimeVersionArn": "arn:x"}
    names = {"functionName": "f", "functionVersion": "$LATEST"}
    assert records(log().init_start(WALL_NS)) == [("platform.initStart", {**init, **version, **names})]
    assert records(log().init_done(WALL_NS)) == [("platform.initRuntimeDone", {**init, "status": "success"})]
    start = {"requestId": "id", "version": "$LATEST"}
    assert records(log().start("id", "$LATEST", WALL_NS)) == [("platform.start", start)]


def test_an_init_phase_ahead_of_any_invocation_says_so() -> None:
    made = log(LogLevel.DEBUG).provisioned()
    said = records((*made.init_start(WALL_NS), *made.init_done(WALL_NS)))
    assert {record["initializationType"] for _, record in said} == {"provisioned-concurrency"}
    assert records(log().init_start(WALL_NS))[0][1]["initializationType"] == "on-demand"
    assert isinstance(TextLog("v", "arn").provisioned(), TextLog)


def test_a_report_has_what_the_line_has() -> None:
    done, said = records(log().report(report(init_us=109_590), FACTS, "", WALL_NS))
    assert done == (
        "platform.runtimeDone",
        {"requestId": "id", "status": "success", "metrics": {"durationMs": 1.234}},
    )
    metrics = {"durationMs": 1.234, "billedDurationMs": 2, "memorySizeMB": 128, "maxMemoryUsedMB": 2}
    metrics |= {"initDurationMs": 109.59}
    assert said == ("platform.report", {"requestId": "id", "metrics": metrics, "status": "success"})
    assert "initDurationMs" not in records(log().report(report(), FACTS, "", WALL_NS))[1][1]["metrics"]


def test_what_is_said_of_a_tenants_invocation_names_it_and_nothing_else_does() -> None:
    shared = log()
    told = shared.of_tenant("blue")
    lines = (*told.start("id", "1", WALL_NS), *told.left("id", WALL_NS), *told.report(report(), FACTS, "", WALL_NS))
    assert [record["tenantId"] for _, record in records(lines)] == ["blue"] * 4
    assert "tenantId" not in records(shared.start("id", "1", WALL_NS))[0][1]
    text = TextLog("python:3.11.2", "arn:x")
    assert text.of_tenant("blue").start("id", "1", WALL_NS) == text.start("id", "1", WALL_NS)


@pytest.mark.parametrize("outcome", [*sorted(FUNCTION_FAILED, key=lambda outcome: outcome.value)])
def test_each_failure_has_a_status_and_a_type_at_every_level(outcome: Outcome) -> None:
    for system in (LogLevel.DEBUG, LogLevel.INFO, LogLevel.WARN):
        lines = records(log(system).report(report(outcome), FACTS, "ValueError", WALL_NS))
        assert [kind for kind, _ in lines] == ["platform.runtimeDone", "platform.report"]
        for _, record in lines:
            assert record["status"] == ("timeout" if outcome is Outcome.TIMEOUT else "error")
            expected = {
                Outcome.TIMEOUT: "Sandbox.Timedout",
                Outcome.EXITED: "Runtime.ExitError",
                Outcome.OUT_OF_MEMORY: "Runtime.OutOfMemory",
            }
            assert record["errorType"] == expected.get(outcome, "ValueError")


def test_an_init_phase_that_failed_and_a_caller_that_left_are_warned_of() -> None:
    failure = Ending(Outcome.INIT_ERROR, False, error=FunctionError("Boom", b"{}"), init_us=2_500)
    said = records(log(LogLevel.WARN).init_failed(failure, "invoke", WALL_NS))
    assert [kind for kind, _ in said] == ["platform.initRuntimeDone", "platform.initReport"]
    assert said[1][1] == {
        "initializationType": "on-demand",
        "phase": "invoke",
        "status": "error",
        "errorType": "Boom",
        "metrics": {"durationMs": 2.5},
    }
    assert records(log(LogLevel.WARN).left("id", WALL_NS)) == [
        ("platform.runtimeDone", {"requestId": "id", "status": "failure"})
    ]


def test_missing_lines_are_a_record_at_every_level() -> None:
    ((kind, record),) = records((log(LogLevel.WARN).dropped(7, WALL_NS),))
    assert (kind, record["droppedRecords"]) == ("platform.logsDropped", 7)


@pytest.mark.parametrize(
    ("system", "types"),
    [
        (LogLevel.DEBUG, ["initStart", "initRuntimeDone", "start", "runtimeDone", "report"]),
        (LogLevel.INFO, ["initStart", "start", "report"]),
        (LogLevel.WARN, []),
    ],
)
def test_the_system_log_level_decides_what_is_said_of_a_success(system: LogLevel, types: list[str]) -> None:
    it = log(system)
    lines = (*it.init_start(WALL_NS), *it.init_done(WALL_NS), *it.start("id", "1", WALL_NS))
    lines += it.report(report(), FACTS, "", WALL_NS)
    assert [kind.removeprefix("platform.") for kind, _ in records(lines)] == types


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (b"plain", "INFO"),
        (b"", "INFO"),
        (b'{"level": "debug", "msg": "x"}', "DEBUG"),
        (b'{"level": "WARNING"}', "WARNING"),
        (b'{"log_level": "ERROR", "errorType": "X"}', "ERROR"),
        (b'{"level": "CRITICAL"}', "CRITICAL"),
        (b'{"level": "loud"}', "INFO"),
        (b'{"level": 30}', "INFO"),
        (b'{"level": "debug"', "INFO"),
        (b'["level", "debug"]', "INFO"),
        (b'{"level": "debug\xff"}', "INFO"),
    ],
)
def test_a_line_has_the_level_that_it_names_and_else_info(line: bytes, level: str) -> None:
    assert line_level(line) == level


@pytest.mark.parametrize("least", list(LogLevel))
def test_the_application_log_level_decides_which_lines_are_kept(least: LogLevel) -> None:
    takes = log(level=least).takes
    names = ["trace", "DEBUG", "info", "WARNING", "error", "CRITICAL"]
    kept = [name for name in names if takes is None or takes(b'{"level": "%s"}' % name.encode())]
    assert kept == names[list(LogLevel).index(least) :]
