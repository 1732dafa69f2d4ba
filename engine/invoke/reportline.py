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

ERROR_TYPE_LIMIT = 128

_STATUS: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.TIMEOUT: "Status: timeout",
        Outcome.INIT_ERROR: "Status: error\tError Type: {error_type}",
        Outcome.EXITED: "Status: error\tError Type: Runtime.ExitError",
        Outcome.OUT_OF_MEMORY: "Status: error\tError Type: Runtime.OutOfMemory",
    }
)
"""Which endings a REPORT line names. An exception in the handler is not one of them."""


def billed_ms(init_us: int, handler_us: int) -> int:
    """Init and handler together, rounded up to the next millisecond. Init is billed."""
    return -(-(init_us + handler_us) // 1000)


def start_line(request_id: str, version: str) -> str:
    """Before the first line of the handler."""
    return f"START RequestId: {request_id} Version: {version}"


def end_line(request_id: str) -> str:
    """After its last."""
    return f"END RequestId: {request_id}"


def report_line(report: Report, error_type: str = "") -> str:
    """What it took. `error_type` is named for an init phase that failed."""
    fields = [
        f"REPORT RequestId: {report.request_id}",
        f"Duration: {report.handler_us / 1000:.2f} ms",
        f"Billed Duration: {report.billed_ms} ms",
        f"Memory Size: {report.memory_mb} MB",
        f"Max Memory Used: {-(-report.peak_memory_bytes // 1_048_576)} MB",
    ]
    if report.init_us:
        fields.append(f"Init Duration: {report.init_us / 1000:.2f} ms")
    # A function may name its errors as it likes; a REPORT stays one line. Without a status AWS ends it in a tab.
    named = " ".join(error_type.split())[:ERROR_TYPE_LIMIT]
    fields.append(_STATUS.get(report.outcome, "").format(error_type=named))
    return "\t".join(fields)


def timeout_line(request_id: str, timeout_ms: int, wall_ns: int) -> str:
    """Where a handler was stopped."""
    moment = datetime.fromtimestamp(wall_ns // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds")
    return f"{moment.replace('+00:00', 'Z')} {request_id} {timed_out(timeout_ms)}"
