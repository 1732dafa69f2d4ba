"""What the engine writes into a log reads as on AWS Lambda, and the bill is rounded as there."""

from __future__ import annotations

import re

import pytest

from engine.invoke.documents import MESSAGES, Facts, function_error
from engine.invoke.reportline import (
    billed_ms,
    end_line,
    init_report_line,
    init_start_line,
    report_line,
    start_line,
    timeout_line,
)
from engine.model.invocation import FunctionError, Report
from engine.model.outcome import FUNCTION_FAILED, Outcome, StartKind
from engine.sandbox.api import Ending

# As a client of AWS's logs takes it apart.
REPORT = re.compile(
    r"REPORT RequestId: (\S+)\tDuration: ([\d.]+) ms\tBilled Duration: (\d+) ms\tMemory Size: (\d+) MB\t"
    r"Max Memory Used: (\d+) MB\t(?:Init Duration: ([\d.]+) ms\t)?(Status: .*)?"
)


@pytest.mark.parametrize(
    ("init_us", "handler_us", "billed"),
    [(0, 0, 0), (0, 1, 1), (0, 1_000, 1), (0, 1_001, 2), (500, 500, 1), (2_000, 3_001, 6), (10_000_000, 0, 10_000)],
)
def test_the_bill_is_init_and_handler_rounded_up(init_us: int, handler_us: int, billed: int) -> None:
    assert billed_ms(init_us, handler_us) == billed


@pytest.mark.parametrize("outcome", [Outcome.OK, *sorted(FUNCTION_FAILED, key=lambda outcome: outcome.value)])
@pytest.mark.parametrize("init_us", [0, 109_590])
def test_a_report_can_be_taken_apart_as_awss(outcome: Outcome, init_us: int) -> None:
    report = Report("id", outcome, StartKind.FORK, 128, init_us=init_us, handler_us=1_234, billed_ms=2)
    match = REPORT.fullmatch(report_line(report, "Runtime.ImportModuleError"))
    assert match is not None
    assert match.groups()[:6] == ("id", "1.23", "2", "128", "0", "109.59" if init_us else None)
    assert (match[7] is not None) == (outcome not in (Outcome.OK, Outcome.HANDLER_ERROR))


def test_memory_is_rounded_up_to_whole_megabytes() -> None:
    used = {1: 1, 1_048_576: 1, 1_048_577: 2, 134_217_728: 128}
    for peak, shown in used.items():
        line = report_line(Report("id", Outcome.OK, StartKind.WARM, 128, peak_memory_bytes=peak))
        assert f"\tMax Memory Used: {shown} MB\t" in line


def test_start_end_and_timeout_read_as_awss() -> None:
    assert start_line("id", "$LATEST") == "START RequestId: id Version: $LATEST"
    assert end_line("id") == "END RequestId: id"
    assert timeout_line("id", 1_500, 1_000_000_000) == "1970-01-01T00:00:01.000Z id Task timed out after 1.50 seconds"


def test_an_init_phase_reads_as_awss() -> None:
    assert (
        init_start_line("python:3.11.2", "arn:aws:lambda:us-east-1::runtime:ab")
        == "INIT_START Runtime Version: python:3.11.2\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:ab"
    )
    timed_out = Ending(Outcome.TIMEOUT, False, init_us=10_008_250, init_failed=True)
    assert init_report_line(timed_out, "init") == "INIT_REPORT Init Duration: 10008.25 ms\tPhase: init\tStatus: timeout"
    covered = Ending(Outcome.EXITED, False, handler_us=4_870, init_failed=True)
    assert (
        init_report_line(covered, "invoke")
        == "INIT_REPORT Init Duration: 4.87 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ExitError"
    )
    raised = Ending(Outcome.INIT_ERROR, False, error=FunctionError("Key\nError", b"{}"), init_us=1, init_failed=True)
    assert init_report_line(raised, "init").endswith("\tStatus: error\tError Type: Key Error")


def test_every_failure_of_a_function_has_a_document() -> None:
    assert set(MESSAGES) == FUNCTION_FAILED
    for outcome in FUNCTION_FAILED:
        error = function_error(Ending(outcome, False), Facts("id", 3_000))
        assert error.type
        assert error.document.startswith(b'{"errorType":"')
