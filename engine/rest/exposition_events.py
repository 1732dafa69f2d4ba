"""Asynchronous events in /metrics: a part of engine.rest.exposition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from engine.model.events import AsyncEventCounts
from engine.model.host import Distribution

Add = Callable[[HistogramMetricFamily, Sequence[str], Distribution], None]


def of_async_events(counts: Sequence[AsyncEventCounts], add: Add) -> Iterator[Metric]:
    """Their families; `add` puts times into one."""
    for name, text, attribute in (
        ("cleave_async_events_received", "Asynchronous events that were accepted.", "received"),
        ("cleave_async_events_succeeded", "Asynchronous events of which a run returned.", "succeeded"),
        (
            "cleave_async_events_retried",
            "Runs of asynchronous events that failed, and were followed by others.",
            "retried",
        ),
    ):
        counter = CounterMetricFamily(name, text, labels=["function"])
        for one in counts:
            counter.add_metric([one.function_name], getattr(one, attribute))
        yield counter
    dropped = CounterMetricFamily(
        "cleave_async_events_dropped", "Asynchronous events that were given up.", labels=["function", "reason"]
    )
    age = HistogramMetricFamily(
        "cleave_async_event_age_seconds",
        "Times from the acceptance of asynchronous events to each attempt at them.",
        labels=["function"],
    )
    for one in counts:
        for reason, count in one.dropped:
            dropped.add_metric([one.function_name, reason], count)
        add(age, [one.function_name], one.age)
    yield from (dropped, age)
    for name, text, attribute in (
        ("cleave_async_events_waiting", "Asynchronous events that are not done with.", "waiting"),
        ("cleave_async_events_waiting_bytes", "Bytes of those.", "waiting_bytes"),
    ):
        gauge = GaugeMetricFamily(name, text, labels=["function"])
        for one in counts:
            gauge.add_metric([one.function_name], getattr(one, attribute))
        yield gauge
