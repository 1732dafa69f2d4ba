"""What `cleave top` shows: from the engine's counters at two moments to rates, percentiles and what is under way.

Pure: asks the engine nothing and writes nothing. Guarantees that what is counted anew (a function that was created
again) is never negative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from engine.cli.render import enum_name, size
from engine.cli.top_order import Order
from engine.v1 import host_pb2, metrics_pb2, reports_pb2

K = TypeVar("K")

_NO_ERRORS = {reports_pb2.OUTCOME_OK, reports_pb2.OUTCOME_THROTTLED}
"""Neither an error nor counted as one."""


_KEYS = {
    Order.CALLS: "calls",
    Order.CONCURRENCY: "concurrency",
    Order.P50: "p50_us",
    Order.P99: "p99_us",
    Order.ERRORS: "errors",
    Order.THROTTLED: "throttled",
    Order.CPU: "cpu_cores",
    Order.MEMORY: "memory_bytes",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One function. Calls, errors and throttles are those of the window; the rest is as it is at its end."""

    function: str
    calls: int  # that were asked for, however they ended
    calls_per_s: float
    p50_us: int  # from acceptance to the answer; 0 where none ran to its end
    p99_us: int
    errors: int
    throttled: int
    concurrency: int  # busy, starting and waiting together
    idle: int
    waiting: int
    cpu_cores: float  # by those that ended
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class View:
    """One moment, and the window before it."""

    engine_version: str
    uptime_s: float
    window_s: float  # since the engine started, at first
    calls_per_s: float
    errors: int
    throttled: dict[str, int]  # by reason
    starts: dict[str, int]  # by kind of start: that ran to their end
    concurrency: int
    max_concurrency: int
    waiting: int
    sandboxes: dict[str, int]  # by what they do
    sandboxes_cpu_cores: float
    sandboxes_memory_bytes: int
    engine_cpu_cores: float
    engine_memory_bytes: int
    zygotes: int
    log_lines_dropped: int
    functions: list[Row]


def view(now: metrics_pb2.Metrics, before: metrics_pb2.Metrics | None, order: Order) -> View:
    """What happened between two moments; since the engine started where there is no earlier one."""
    before = before or metrics_pb2.Metrics()
    window_s = max(1e-3, (now.uptime_ms - before.uptime_ms) / 1_000)
    former = {one.name: one for one in before.functions}
    rows = [_row(one, former.get(one.name), window_s) for one in now.functions]
    rows.sort(key=attrgetter("function"))
    if order is not Order.NAME:
        rows.sort(key=attrgetter(_KEYS[order]), reverse=True)
    errors = _less(_errors(now), _errors(before))
    sandboxes = now.sandboxes
    return View(
        engine_version=now.engine_version,
        uptime_s=now.uptime_ms / 1_000,
        window_s=window_s,
        calls_per_s=round(sum(row.calls for row in rows) / window_s, 1),
        errors=sum(errors.values()),
        throttled=_less(_throttles(now.throttles), _throttles(before.throttles)),
        starts=_less(_starts(now), _starts(before)),
        concurrency=now.concurrency,
        max_concurrency=now.max_concurrency,
        waiting=now.waiting,
        sandboxes={field.name: getattr(sandboxes, field.name) for field in sandboxes.DESCRIPTOR.fields},
        sandboxes_cpu_cores=_cores(now.all_sandboxes.cpu_us - before.all_sandboxes.cpu_us, window_s),
        sandboxes_memory_bytes=now.all_sandboxes.memory_bytes,
        engine_cpu_cores=_cores(now.engine.cpu_us - before.engine.cpu_us, window_s),
        engine_memory_bytes=now.engine.memory_bytes,
        zygotes=sum(1 for one in now.zygotes if one.pid),
        log_lines_dropped=_dropped(now) - _dropped(before),
        functions=rows,
    )


def summary(found: View, address: str) -> list[str]:
    """The lines above the table."""
    throttled = ", ".join(f"{count} {reason}" for reason, count in found.throttled.items()) or "0"
    since = "the start" if found.window_s >= found.uptime_s else f"{found.window_s:.1f} s ago"
    sandboxes = ", ".join(f"{count} {what}" for what, count in found.sandboxes.items())
    starts = ", ".join(f"{count} {kind}" for kind, count in found.starts.items()) or "none"
    lines = [
        f"Cleave {found.engine_version} at {address}, up {_duration(found.uptime_s)}; counted since {since}",
        f"Calls: {found.calls_per_s:,.1f}/s, {found.concurrency} of {found.max_concurrency} under way,"
        f" {found.waiting} waiting; throttled: {throttled}; errors: {found.errors}",
        f"Starts: {starts}",
        f"Sandboxes: {sandboxes}; zygotes: {found.zygotes}",
        f"CPU: {found.sandboxes_cpu_cores:.2f} sandboxes, {found.engine_cpu_cores:.2f} engine; memory:"
        f" {size(found.sandboxes_memory_bytes)} sandboxes, {size(found.engine_memory_bytes)} engine",
    ]
    if found.log_lines_dropped:
        lines.append(f"Log lines dropped: {found.log_lines_dropped}")
    return lines


HEAD = (
    "FUNCTION",
    "CALLS",
    "CALLS/S",
    "P50 MS",
    "P99 MS",
    "ERRORS",
    "THROTTLED",
    "NOW",
    "WAIT",
    "IDLE",
    "CPU",
    "MEMORY",
)


def cells(rows: Iterable[Row]) -> list[Sequence[str]]:
    """The table's lines, below HEAD."""
    return [
        (
            row.function,
            str(row.calls),
            f"{row.calls_per_s:,.1f}",
            _ms(row.p50_us),
            _ms(row.p99_us),
            str(row.errors),
            str(row.throttled),
            str(row.concurrency),
            str(row.waiting),
            str(row.idle),
            f"{row.cpu_cores:.2f}",
            size(row.memory_bytes),
        )
        for row in rows
    ]


def _row(now: metrics_pb2.FunctionMetrics, before: metrics_pb2.FunctionMetrics | None, window_s: float) -> Row:
    if before is None or _all(before) > _all(now):  # it was created anew
        before = metrics_pb2.FunctionMetrics()
    ends = _less(_ends(now), _ends(before))
    calls = sum(ends.values())
    times = _less(_buckets(now.total), _buckets(before.total))
    return Row(
        function=now.name.removeprefix("functions/"),
        calls=calls,
        calls_per_s=round(calls / window_s, 1),
        p50_us=_percentile(times, 0.5, now.total.max_us),
        p99_us=_percentile(times, 0.99, now.total.max_us),
        errors=sum(count for outcome, count in ends.items() if outcome not in _NO_ERRORS),
        throttled=ends.get(reports_pb2.OUTCOME_THROTTLED, 0),
        concurrency=now.busy + now.starting + now.waiting,
        idle=now.idle,
        waiting=now.waiting,
        cpu_cores=_cores(now.cpu_us - before.cpu_us, window_s),
        memory_bytes=now.memory_bytes,
    )


def _percentile(times: Mapping[int, int], share: float, most_us: int) -> int:
    """By the nearest rank, as the engine's own: the bound of the bucket in which it is."""
    left = share * sum(times.values())
    for bound_us in sorted(times):
        left -= times[bound_us]
        if left <= 0:
            return min(bound_us, most_us)
    return 0


def _less(now: Mapping[K, int], before: Mapping[K, int]) -> dict[K, int]:
    """What came since, of which there was any."""
    return {key: count - before.get(key, 0) for key, count in now.items() if count > before.get(key, 0)}


def _ends(one: metrics_pb2.FunctionMetrics) -> Counter[int]:
    found: Counter[int] = Counter()
    for some in one.invocations:
        found[some.outcome] += some.count
    return found


def _all(one: metrics_pb2.FunctionMetrics) -> int:
    return sum(_ends(one).values())


def _buckets(times: host_pb2.Distribution) -> dict[int, int]:
    return {bucket.at_most_us: bucket.count for bucket in times.buckets}


def _starts(metrics: metrics_pb2.Metrics) -> dict[str, int]:
    return {enum_name("StartKind", reports_pb2.StartKind.Name(kind.kind)): kind.total.count for kind in metrics.starts}


def _throttles(counts: Iterable[metrics_pb2.ThrottleCount]) -> dict[str, int]:
    return {one.reason: one.count for one in counts}


def _errors(metrics: metrics_pb2.Metrics) -> Counter[int]:
    """Of the functions, by kind of start, and the engine's and the callers'."""
    found: Counter[int] = Counter()
    for kind in metrics.starts:
        for one in kind.outcomes:
            found[one.outcome] += one.count
    for error in metrics.errors:
        found[error.outcome] += error.count
    del found[reports_pb2.OUTCOME_OK]
    return found


def _dropped(metrics: metrics_pb2.Metrics) -> int:
    return metrics.logs.dropped_busy + metrics.logs.dropped_rate + metrics.logs.dropped_disk


def _cores(cpu_us: int, window_s: float) -> float:
    return round(max(0, cpu_us) / 1e6 / window_s, 3)


def _ms(us: int) -> str:
    return f"{us / 1_000:.2f}" if us else "-"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hours}:{minutes:02}:{rest:02}"
