"""The lines that the engine writes into a function's log, in AWS Lambda's words, and what is billed.

Leaves to others: when they are written. Sources: docs.aws.amazon.com/lambda/latest/dg/python-logging.html, and
lambda-runtime-environment.html for the status at the end of a failed invocation's REPORT.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from engine.invoke.documents import timed_out
from engine.model.invocation import Report
from engine.model.outcome import Outcome
from engine.sandbox.api import Ending

ERROR_TYPE_LIMIT = 128

_STATUS: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.TIMEOUT: "Status: timeout",
        Outcome.INIT_ERROR: "Status: error\tError Type: {error_type}",
        Outcome.EXITED: "Status: error\tError Type: Runtime.ExitError",
        Outcome.OUT_OF_MEMORY: "Status: error\tError Type: Runtime.OutOfMemory",
    }
)
"""Which endings a REPORT or INIT_REPORT line names. An exception in the handler is not one of them."""


def billed_ms(init_us: int, handler_us: int) -> int:
    """Init and handler together, rounded up to the next millisecond. Init is billed; one that failed is not, but its
    second try is, within the handler's time (measured at bitesizedserverless.com/bite/
    when-is-the-lambda-init-phase-free-and-when-is-it-billed)."""
    return -(-(init_us + handler_us) // 1000)


def init_start_line(runtime_version: str, runtime_version_arn: str) -> str:
    """Before the first line of module code."""
    return f"INIT_START Runtime Version: {runtime_version}\tRuntime Version ARN: {runtime_version_arn}"


def init_report_line(failure: Ending, phase: str) -> str:
    """After the last line of module code, where it failed. `phase`: "init", or "invoke" for the second try."""
    error_type = "" if failure.error is None else failure.error.type
    took_us = failure.init_us or failure.handler_us
    status = _status(failure.outcome, error_type)
    return f"INIT_REPORT Init Duration: {took_us / 1000:.2f} ms\tPhase: {phase}\t{status}"


def start_line(request_id: str, version: str) -> str:
    """Before the first line of the handler."""
    return f"START RequestId: {request_id} Version: {version}"


def end_line(request_id: str) -> str:
    """After its last."""
    return f"END RequestId: {request_id}"


def report_line(report: Report, error_type: str = "") -> str:
    """What it took. `error_type` is named for an init phase that failed."""
    line = (
        f"REPORT RequestId: {report.request_id}\tDuration: {report.handler_us / 1000:.2f} ms\t"
        f"Billed Duration: {report.billed_ms} ms\tMemory Size: {report.memory_mb} MB\t"
        f"Max Memory Used: {-(-report.peak_memory_bytes // 1_048_576)} MB\t"
    )
    if report.init_us:
        line += f"Init Duration: {report.init_us / 1000:.2f} ms\t"
    # Without a status AWS ends it in a tab.
    return line if report.outcome is Outcome.OK else line + _status(report.outcome, error_type)


def _status(outcome: Outcome, error_type: str) -> str:
    # A function may name its errors as it likes; a REPORT stays one line.
    named = " ".join(error_type.split())[:ERROR_TYPE_LIMIT]
    return _STATUS.get(outcome, "").format(error_type=named)


def timeout_line(request_id: str, timeout_ms: int, wall_ns: int) -> str:
    """Where a handler was stopped."""
    moment = datetime.fromtimestamp(wall_ns // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds")
    return f"{moment.replace('+00:00', 'Z')} {request_id} {timed_out(timeout_ms)}"
