"""The engine's counters in the text formats of Prometheus and OpenMetrics, as /metrics answers.

The formats are prometheus_client's; docs/metrics.md lists the names, and a test compares. Leaves what is counted to
engine.observe.metrics, and who may ask to engine.rest.app. Guarantees that units are seconds and bytes, and that series
are as many as the functions, versions and reasons in what is given: those are bounded where they are counted.

Sources: prometheus.io/docs/practices/naming, prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from prometheus_client import ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

from engine.model.host import Distribution
from engine.model.metrics import FunctionMetrics, Metrics
from engine.observe.times import EXPORTED_US
from engine.rest.exposition_events import of_async_events

AT_A_TIME = 50
"""Samples between two moments in which another thread can go on: some 0.3 ms."""
_PHASES = ("queue", "start", "init", "handler", "total")


def exposition(metrics: Metrics, accept: str) -> tuple[str, bytes]:
    """The content type and the text, in the format that an Accept header asks for. Some microseconds for each line,
    of which there are some sixty for each function."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
    return content_type, encode(_Collected(metrics))


def families(metrics: Metrics) -> Iterator[Metric]:
    """All of them, also those without a sample."""
    yield from _of_functions(metrics.functions)
    yield from of_async_events(metrics.async_events, _add)
    yield from _of_all(metrics)
    yield from _of_host(metrics)
    # The registry of the process is not asked: its numbers are those of everything in it.
    yield from ProcessCollector(registry=CollectorRegistry(auto_describe=False)).collect()


class _Collected(Collector):
    """What an encoder of prometheus_client reads."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """All families."""
        for family in families(self._metrics):
            family.samples = _Paced(family.samples)
            yield family


class _Paced(list[Sample]):
    """Samples whose reader lets other threads run now and then: by itself it would only after 5 ms, each time that the
    event loop has something to do."""

    def __iter__(self) -> Iterator[Sample]:
        for number, sample in enumerate(super().__iter__()):
            if number % AT_A_TIME == 0:
                time.sleep(0)
            yield sample


def _of_functions(functions: Sequence[FunctionMetrics]) -> Iterator[Metric]:
    invocations = CounterMetricFamily(
        "cleave_invocations",
        "Invocations. Where none ran to its end, version and start are empty.",
        labels=["function", "version", "outcome", "start"],
    )
    throttles = CounterMetricFamily(
        "cleave_throttles", "Invocations for which no concurrency was free.", labels=["function", "reason"]
    )
    handler = HistogramMetricFamily("cleave_handler_seconds", "Times of the handler.", labels=["function"])
    total = HistogramMetricFamily(
        "cleave_invocation_seconds", "Times from acceptance until the answer was ready.", labels=["function"]
    )
    for one in functions:
        for found in one.invocations:
            start = "" if found.kind is None else found.kind.value
            invocations.add_metric([one.name, found.version, found.outcome.value, start], found.count)
        for reason, count in one.throttles:
            throttles.add_metric([one.name, reason], count)
        _add(handler, [one.name], one.handler)
        _add(total, [one.name], one.total)
    yield from (invocations, throttles, handler, total)

    for name, text, attribute, unit in (
        ("cleave_cpu_seconds", "CPU time of invocations that have ended.", "cpu_us", 1e-6),
        ("cleave_billed_seconds", "Time that was billed.", "billed_ms", 1e-3),
        ("cleave_event_bytes", "Bytes of events, and of input that handlers read.", "event_bytes", 1),
        ("cleave_result_bytes", "Bytes of results, streamed ones included.", "result_bytes", 1),
        ("cleave_network_receive_bytes", "Bytes that came in from the network.", "network_in_bytes", 1),
        ("cleave_network_transmit_bytes", "Bytes that went out to the network.", "network_out_bytes", 1),
    ):
        counter = CounterMetricFamily(name, text, labels=["function"])
        for one in functions:
            counter.add_metric([one.name], getattr(one, attribute) * unit)
        yield counter

    sandboxes = GaugeMetricFamily(
        "cleave_function_sandboxes", "A function's sandboxes, by what they do.", labels=["function", "state"]
    )
    waiting = GaugeMetricFamily(
        "cleave_function_waiting", "A function's events that wait for a sandbox to go.", labels=["function"]
    )
    memory = GaugeMetricFamily(
        "cleave_function_memory_bytes", "Memory that a function's sandboxes have.", labels=["function"]
    )
    for one in functions:
        for state in ("busy", "idle", "starting"):
            sandboxes.add_metric([one.name, state], getattr(one, state))
        waiting.add_metric([one.name], one.waiting)
        memory.add_metric([one.name], one.memory_bytes)
    yield from (sandboxes, waiting, memory)


def _of_all(metrics: Metrics) -> Iterator[Metric]:
    phases = HistogramMetricFamily(
        "cleave_phase_seconds",
        "Times of the parts of invocations that ran to their end, by how their sandbox came to be.",
        labels=["start", "phase"],
    )
    for kind in metrics.starts:
        for phase in _PHASES:
            _add(phases, [kind.kind.value, phase], getattr(kind, phase))
    steps = SummaryMetricFamily(
        "cleave_start_step_seconds", "Times of the engine's steps of a start.", labels=["start", "step"]
    )
    for kind in metrics.starts:
        for step in kind.steps:
            steps.add_metric([kind.kind.value, step.step], step.count, step.sum_us / 1e6)
    yield from (phases, steps)
    errors = CounterMetricFamily(
        "cleave_errors", "Invocations that ended in no answer, throttles apart.", labels=["outcome", "reason"]
    )
    for one in metrics.errors:
        errors.add_metric([one.outcome.value, one.reason], one.count)
    yield errors
    sandboxes = GaugeMetricFamily("cleave_sandboxes", "Sandboxes, by what they do.", labels=["state"])
    for state in ("busy", "idle", "starting", "parked", "closing"):
        sandboxes.add_metric([state], getattr(metrics.sandboxes, state))
    yield sandboxes
    yield GaugeMetricFamily("cleave_concurrency", "Invocations under way.", metrics.concurrency)
    yield GaugeMetricFamily("cleave_concurrency_limit", "Invocations that may be under way.", metrics.max_concurrency)
    yield GaugeMetricFamily("cleave_waiting", "Events that wait for a sandbox to go.", metrics.waiting)


def _of_host(metrics: Metrics) -> Iterator[Metric]:
    used = metrics.all_sandboxes
    yield GaugeMetricFamily("cleave_sandboxes_memory_bytes", "Memory of all sandboxes.", used.memory_bytes)
    yield CounterMetricFamily("cleave_sandboxes_cpu_seconds", "CPU time of all sandboxes.", used.cpu_us * 1e-6)
    made = CounterMetricFamily("cleave_resources_made", "What the engine made on its host.", labels=["kind"])
    removed = CounterMetricFamily("cleave_resources_removed", "What of it is gone wholly.", labels=["kind"])
    for resource in metrics.resources:
        made.add_metric([resource.kind], resource.made)
        removed.add_metric([resource.kind], resource.removed)
    events = CounterMetricFamily("cleave_events", "What befell sandboxes, and their removal.", labels=["kind"])
    for event in metrics.events:
        events.add_metric([event.kind], event.count)
    yield from (made, removed, events)
    lines = CounterMetricFamily("cleave_log_lines", "Lines of functions' logs.", metrics.logs.lines)
    dropped = CounterMetricFamily("cleave_log_lines_dropped", "Lines that were not kept.", labels=["reason"])
    for reason in ("busy", "rate", "disk"):
        dropped.add_metric([reason], getattr(metrics.logs, f"dropped_{reason}"))
    yield from (lines, dropped)
    yield from _of_zygotes(metrics)
    info = GaugeMetricFamily("cleave_build_info", "1, for the engine's version.", labels=["version"])
    info.add_metric([metrics.engine_version], 1)
    yield info
    yield GaugeMetricFamily("cleave_uptime_seconds", "How long the engine has been there.", metrics.uptime_ms * 1e-3)


def _of_zygotes(metrics: Metrics) -> Iterator[Metric]:
    labels = ["runtime", "preload"]
    there = GaugeMetricFamily(
        "cleave_zygotes", "1 where there is a warm interpreter, 0 where none can be.", labels=labels
    )
    forks = GaugeMetricFamily("cleave_zygote_forks", "Sandboxes that were forked from it.", labels=labels)
    age = GaugeMetricFamily("cleave_zygote_age_seconds", "How long it has been there.", labels=labels)
    memory = GaugeMetricFamily(
        "cleave_zygote_preload_bytes", "Memory of the modules that it has imported ahead.", labels=labels
    )
    for one in metrics.zygotes:
        values = [one.runtime, ",".join(one.preload)]
        there.add_metric(values, int(one.pid != 0))
        forks.add_metric(values, one.forks)
        age.add_metric(values, one.age_ms * 1e-3)
        memory.add_metric(values, one.preload_memory_bytes)
    yield from (there, forks, age, memory)


def _add(family: HistogramMetricFamily, labels: Sequence[str], times: Distribution) -> None:
    """One series: the buckets of `times` put together to those that are exported."""
    buckets, taken, rest = [], 0, iter((*times.buckets, (1 << 63, 0)))
    most_us, count = next(rest)
    for bound_us in EXPORTED_US:
        while most_us <= bound_us:
            taken += count
            most_us, count = next(rest)
        buckets.append((str(bound_us / 1e6), taken))
    family.add_metric(labels, [*buckets, ("+Inf", times.count)], times.sum_us / 1e6)
