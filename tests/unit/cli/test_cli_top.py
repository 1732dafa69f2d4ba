"""`cleave top`: what it shows is what came between two moments, and a terminal is given back as it was."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from engine.cli.render import size
from engine.cli.top_order import Order
from engine.cli.top_view import HEAD, cells, summary, view
from engine.v1 import host_pb2, metrics_pb2, reports_pb2

from .conftest import Cleave, StubEngine

ROOT = Path(__file__).resolve().parents[3]
OK, THROTTLED, TIMEOUT = reports_pb2.OUTCOME_OK, reports_pb2.OUTCOME_THROTTLED, reports_pb2.OUTCOME_TIMEOUT
Ends = dict["reports_pb2.Outcome.ValueType", int]
WAIT_S = 30


def times(buckets: dict[int, int]) -> host_pb2.Distribution:
    found = [host_pb2.Bucket(at_most_us=most_us, count=count) for most_us, count in buckets.items()]
    return host_pb2.Distribution(count=sum(buckets.values()), max_us=max(buckets, default=0), buckets=found)


def function(name: str, ends: Ends, total: dict[int, int] | None = None, **more: Any) -> metrics_pb2.FunctionMetrics:
    invocations = [metrics_pb2.InvocationCount(outcome=outcome, count=count) for outcome, count in ends.items()]
    return metrics_pb2.FunctionMetrics(
        name=f"functions/{name}", invocations=invocations, total=times(total or {}), **more
    )


def moment(
    uptime_ms: int, *functions: metrics_pb2.FunctionMetrics, starts: Ends | None = None, throttled: int = 0, **more: Any
) -> metrics_pb2.Metrics:
    kinds = []
    if starts is not None:
        outcomes = [host_pb2.OutcomeCount(outcome=outcome, count=count) for outcome, count in starts.items()]
        total = times({100: sum(starts.values())})
        kinds = [host_pb2.StartStats(kind=reports_pb2.START_KIND_WARM, outcomes=outcomes, total=total)]
    return metrics_pb2.Metrics(
        uptime_ms=uptime_ms,
        engine_version="9.9",
        functions=functions,
        starts=kinds,
        throttles=[metrics_pb2.ThrottleCount(reason="TooMany", count=throttled)],
        **more,
    )


BEFORE = moment(
    10_000,
    function("a", {OK: 100, TIMEOUT: 1}, {100: 90, 50_000: 11}, cpu_us=1_000_000, memory_bytes=9),
    function("b", {OK: 5}, {100: 5}, memory_bytes=1),
    starts={OK: 105, TIMEOUT: 1},
    throttled=7,
)
AFTER = moment(
    12_000,
    function(
        "a",
        {OK: 120, TIMEOUT: 2, THROTTLED: 3},
        {100: 90, 200: 20, 50_000: 12},
        cpu_us=2_000_000,
        busy=2,
        starting=1,
        waiting=4,
        idle=3,
        memory_bytes=9,
    ),
    function("b", {OK: 105}, {100: 105}, memory_bytes=10),
    starts={OK: 225, TIMEOUT: 2},
    throttled=10,
    concurrency=7,
)


def test_what_is_shown_is_what_came_between_two_moments() -> None:
    found = view(AFTER, BEFORE, Order.NAME)
    a, b = found.functions
    assert (a.function, a.calls, a.calls_per_s, a.errors, a.throttled) == ("a", 24, 12.0, 1, 3)
    assert (a.p50_us, a.p99_us, a.cpu_cores, a.concurrency, a.waiting, a.idle) == (200, 50_000, 0.5, 7, 4, 3)
    assert (b.calls, b.p50_us, b.p99_us) == (100, 100, 100)
    assert (found.window_s, found.calls_per_s, found.errors) == (2.0, 62.0, 1)
    assert (found.throttled, found.starts, found.concurrency) == ({"TooMany": 3}, {"warm": 121}, 7)
    assert "counted since 2.0 s ago" in summary(found, "here")[0]


def test_concurrency_the_queue_throttles_by_reason_starts_by_kind_memory_and_cpu_are_all_shown() -> None:
    found = view(AFTER, BEFORE, Order.NAME)
    told = "\n".join(summary(found, "here"))
    for words in ("62.0/s, 7 of", "under way", "waiting; throttled: 3 TooMany; errors: 1", "Starts: 121 warm", "CPU: "):
        assert words in told
    assert told.count("sandboxes, ") == 2, "of CPU and of memory"
    shown = dict(zip(HEAD, cells(found.functions)[0], strict=True))
    assert {name: shown[name] for name in ("FUNCTION", "NOW", "WAIT", "IDLE", "THROTTLED", "CPU", "MEMORY")} == {
        "FUNCTION": "a",
        "NOW": "7",
        "WAIT": "4",
        "IDLE": "3",
        "THROTTLED": "3",
        "CPU": "0.50",
        "MEMORY": size(9),
    }


def test_at_first_all_that_was_counted_since_the_engine_started_is_shown() -> None:
    found = view(AFTER, None, Order.NAME)
    assert [(row.calls, row.p50_us) for row in found.functions] == [(125, 100), (105, 100)]
    assert (found.window_s, found.throttled) == (12.0, {"TooMany": 10})
    assert "counted since the start" in summary(found, "here")[0]


def test_a_function_that_was_created_anew_is_counted_anew() -> None:
    anew = moment(12_000, function("a", {OK: 2}, {100: 2}))
    (row,) = view(anew, BEFORE, Order.NAME).functions
    assert (row.calls, row.p50_us, row.cpu_cores) == (2, 100, 0)


@pytest.mark.parametrize(
    ("order", "first"),
    [
        (Order.CALLS, "b"),
        (Order.CONCURRENCY, "a"),
        (Order.P50, "a"),
        (Order.P99, "a"),
        (Order.ERRORS, "a"),
        (Order.THROTTLED, "a"),
        (Order.CPU, "a"),
        (Order.MEMORY, "b"),
        (Order.NAME, "a"),
    ],
)
def test_functions_are_sorted_by_what_was_asked_for(order: Order, first: str) -> None:
    assert view(AFTER, BEFORE, order).functions[0].function == first


def test_once_writes_a_table_without_a_terminal(cleave: Cleave, engine: StubEngine) -> None:
    engine.moments = [BEFORE, AFTER]
    ran = cleave("top", "--once", "--sort", "memory", "--lines", "1")
    assert (ran.code, ran.err) == (0, "")
    *_, head, row = ran.out.splitlines()
    assert head.split()[0] == "FUNCTION"
    assert row.split()[:2] == ["b", "105"]
    assert "\x1b" not in ran.out


@pytest.mark.parametrize("flags", [("--json",), ("-o", "json")])
def test_once_in_json_is_one_document(cleave: Cleave, engine: StubEngine, flags: tuple[str, ...]) -> None:
    engine.moments = [AFTER]
    document = cleave("top", "--once", *flags).document
    assert [(row["function"], row["calls"]) for row in document["functions"]] == [("a", 125), ("b", 105)]
    assert document["throttled"] == {"TooMany": 10}


def test_without_a_terminal_each_moment_is_written_below_the_last(cleave: Cleave, engine: StubEngine) -> None:
    engine.moments = [BEFORE, AFTER]
    ran = cleave("top", "--interval", "0.2")
    assert (ran.code, engine.interval_ms) == (0, 200)
    assert ran.out.count("FUNCTION") == 2
    documents = [json.loads(line) for line in cleave("top", "--json").out.splitlines()]
    assert [document["window_s"] for document in documents] == [10.0, 2.0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_is_filled_at_any_size_and_given_back_as_it_was(
    engine: StubEngine, address: str, number: signal.Signals
) -> None:
    engine.moments, engine.endless = [BEFORE, AFTER], True
    ours, theirs = pty.openpty()
    written = b""

    def until(text: bytes) -> None:
        nonlocal written
        end = time.monotonic() + WAIT_S
        while text not in written:
            assert select.select([ours], [], [], max(0.0, end - time.monotonic()))[0], written[-2_000:]
            written += os.read(ours, 65_536)

    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        before = termios.tcgetattr(theirs)
        command = [sys.executable, "-m", "engine.cli.main", "top", "--address", address]
        environment = {
            name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env=environment | {"TERM": "xterm"},
            start_new_session=True,
        )
        try:
            until(b"\x1b[?1049h")  # another screen
            until(b"FUNCTION")
            until(b"THROTTLED")
            written = b""
            # Too few columns for the lines above the table: they are cut.
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 7, 60, 0, 0))
            until("…".encode())
            process.send_signal(number)
            until(b"\x1b[?1049l")  # the first screen
            assert process.wait(WAIT_S) == 130
        finally:
            process.kill()
            process.wait()
        assert b"\x1b[?25h" in written  # the cursor
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)
