"""The counters as text: what is written reads back as what was counted, under the names of docs/metrics.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from engine.model.events import AsyncEventCounts
from engine.model.host import Distribution, EventCount, ResourceCount, ZygoteFound
from engine.model.invocation import Moments
from engine.model.metrics import ErrorCount, LogCounts, Metrics, SandboxCounts, Usage
from engine.model.outcome import Outcome, StartKind
from engine.observe.invocations import Invocations
from engine.observe.recent import RecentInvocations
from engine.observe.starts import Starts
from engine.observe.times import Times
from engine.rest.exposition import exposition, families
from tests.style.tree import text
from tests.unit.invoke.things import Functions, function
from tests.unit.observe.test_starts import report

ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ?([\w, ]*?) ?\| (.*) \|$", re.MULTILINE)
TIMES_US = (90, 100, 101, 3_000, 300_000_000)
"""Below the first bound, on it, above it; far above; beyond the last."""


def ended_times() -> Distribution:
    """One of a second."""
    times = Times()
    times.add(1_000_000)
    return times.distribution()


def metrics() -> Metrics:
    registry, starts = Functions(), Starts()
    registry.put(function("a"))
    invocations = Invocations(registry, starts, RecentInvocations(0), limit=5)
    for us in TIMES_US:
        ended = report(StartKind.PARKED, handler_us=us, total_us=us, billed_ms=1, cpu_us=500_000)
        invocations(function("a"), ended, Moments(0, 0, 0, 0, (("leased", 1_000), ("assigned", 2_001_000))))
    return Metrics(
        time_ns=1,
        uptime_ms=1_500,
        engine_version="9.9",
        functions=tuple(invocations.functions()),
        starts=starts.stats(),
        throttles=(),
        errors=(ErrorCount(Outcome.REFUSED, "NOT_FOUND", 3),),
        sandboxes=SandboxCounts(1, 2, 3, 4, 5),
        concurrency=6,
        waiting=7,
        max_concurrency=8,
        all_sandboxes=Usage(9, 10_000_000),
        engine=Usage(11, 12),
        logs=LogCounts(13, 14, 15, 16),
        resources=(ResourceCount("leaves", 17, 16),),
        events=(EventCount("timeouts", 18),),
        zygotes=(ZygoteFound("python3.11", ("json", "re"), pid=5, age_ms=2_000, forks=19), ZygoteFound("x", ())),
        async_events=(AsyncEventCounts("a", 20, 21, 22, (("Refused", 23),), ended_times(), 24, 25),),
    )


def samples(found: dict[str, Metric], name: str) -> dict[tuple[str, ...], float]:
    """Of a name: the values of its labels, in the order of the labels' names → its value."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in found.values()
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize(
    ("accept", "content_type", "read"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", prometheus),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", prometheus),
        ("application/openmetrics-text;version=x", "text/plain; version=0.0.4; charset=utf-8", prometheus),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            openmetrics,
        ),
    ],
    ids=["nothing", "anything", "nonsense", "openmetrics"],
)
def test_what_is_written_reads_back_as_what_was_counted(
    accept: str, content_type: str, read: Callable[[str], Iterator[Metric]]
) -> None:
    written_as, body = exposition(metrics(), accept)
    assert written_as.startswith(content_type)
    found = {family.name: family for family in read(body.decode())}
    assert samples(found, "cleave_invocations_total") == {("a", "ok", "parked", "$LATEST"): 5}
    buckets = samples(found, "cleave_handler_seconds_bucket")
    expected = {"0.0001": 2, "0.00025": 3, "0.0025": 3, "0.005": 4, "250.0": 4, "+Inf": 5}
    assert {bound: buckets["a", bound] for bound in expected} == expected
    assert samples(found, "cleave_handler_seconds_sum") == {("a",): pytest.approx(sum(TIMES_US) / 1e6)}
    assert samples(found, "cleave_cpu_seconds_total") == {("a",): pytest.approx(2.5)}
    assert samples(found, "cleave_phase_seconds_count")["start", "parked"] == 5
    assert samples(found, "cleave_start_step_seconds_sum") == {("parked", "assigned"): pytest.approx(0.01)}
    assert samples(found, "cleave_errors_total") == {("refused", "NOT_FOUND"): 3}
    assert samples(found, "cleave_sandboxes") == {
        ("busy",): 1,
        ("idle",): 2,
        ("starting",): 3,
        ("parked",): 4,
        ("closing",): 5,
    }
    assert samples(found, "cleave_sandboxes_cpu_seconds_total") == {(): 10}
    assert samples(found, "cleave_log_lines_dropped_total") == {("busy",): 14, ("rate",): 15, ("disk",): 16}
    assert samples(found, "cleave_zygotes") == {("json,re", "python3.11"): 1, ("", "x"): 0}
    assert samples(found, "cleave_async_events_received_total") == {("a",): 20}
    assert samples(found, "cleave_async_events_dropped_total") == {("a", "Refused"): 23}
    assert samples(found, "cleave_async_event_age_seconds_sum") == {("a",): 1}
    assert samples(found, "cleave_async_events_waiting_bytes") == {("a",): 25}
    assert samples(found, "process_open_fds")[()] > 0


def test_the_page_lists_what_is_exported_with_kind_labels_and_what_it_is() -> None:
    exported = {
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            ", ".join(getattr(family, "_labelnames", ())),
            family.documentation,
        )
        for family in families(metrics())
    }
    assert set(ROW.findall(text(Path("docs/metrics.md")))) == exported
