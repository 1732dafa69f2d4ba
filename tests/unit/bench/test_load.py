"""Loads over real gRPC on loopback: when calls are due, from when they are timed, and what becomes of each."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from bench.loops import LOOPS
from engine.cli.benching import load as loads
from engine.cli.benching.load import Load, Tally, load_client
from engine.cli.benching.loads import HEAD, failures, row, table
from engine.cli.benching.targets import Cold, Target, Warm, renewer
from engine.cli.benching.traces import burst, steady
from engine.cli.problems import Problem
from engine.v1 import functions_pb2, functions_pb2_grpc, invocations_pb2, invocations_pb2_grpc, reports_pb2

EVENT = b"{}"


@dataclass
class Server(functions_pb2_grpc.FunctionServiceServicer, invocations_pb2_grpc.InvocationServiceServicer):
    """Answers while its gate is open; notes what it is asked, and how many calls were under way at most. A closed gate
    opens when `opens_at` calls are under way, or so many seconds after the first."""

    address: str = ""
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str]] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    opens_at: int = 0
    opens_after_s: float = 0
    failing: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def Invoke(self, request: Any, context: Any) -> Any:
        with self.lock:
            self.asked.append(("invoke", request.name))
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            if self.under_way == self.opens_at:
                self.gate.set()
            if self.opens_after_s:
                threading.Timer(self.opens_after_s, self.gate.set).start()
                self.opens_after_s = 0
        self.gate.wait(30)
        with self.lock:
            self.under_way -= 1
        if self.failing == "function":
            error = invocations_pb2.FunctionError(document=b'{"errorType": "KeyError"}')
            return invocations_pb2.InvokeResponse(function_error=error)
        if self.failing:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
        report = reports_pb2.Report(start_kind=reports_pb2.START_KIND_WARM, handler_us=2, total_us=5)
        return invocations_pb2.InvokeResponse(payload=request.payload, report=report)

    def UpdateFunction(self, request: Any, context: Any) -> Any:
        if self.failing:
            context.abort(grpc.StatusCode.ABORTED, "someone else wrote")
        with self.lock:
            self.asked.append(("update", request.function.name))
        return functions_pb2.UpdateFunctionResponse(function=request.function)


@pytest.fixture
def server() -> Iterator[Server]:
    servicer = Server()  # type: ignore[abstract]
    servicer.gate.set()
    grpc_server = grpc.server(ThreadPoolExecutor(8))
    functions_pb2_grpc.add_FunctionServiceServicer_to_server(servicer, grpc_server)
    invocations_pb2_grpc.add_InvocationServiceServicer_to_server(servicer, grpc_server)
    servicer.address = f"127.0.0.1:{grpc_server.add_insecure_port('127.0.0.1:0')}"
    grpc_server.start()
    yield servicer
    servicer.gate.set()
    grpc_server.stop(0).wait()


async def run(server: Server, load: Load, target: Target | None = None) -> Tally:
    async with load_client(server.address) as client:
        return await client.run(load, target or Warm("functions/one"), EVENT)


async def test_a_call_counts_from_when_it_was_due_and_so_does_what_waited_behind_a_slow_one(server: Server) -> None:
    load = Load(0.5, rate=100)
    server.gate.clear()
    server.opens_after_s = 1.0  # the server stalls for longer than the load lasts
    tally = await run(server, load)
    due_s = list(load.due_s(loads.SEED))
    assert len(tally.took_us) == len(due_s) > 20
    # Answered a second after the first was due, however many of them the server took at a time. A closed loop has one
    # slow call there.
    took_us = sorted(tally.took_us, reverse=True)
    assert all(took >= (due_s[0] + 1.0 - due) * 1e6 - 1 for took, due in zip(took_us, due_s, strict=True))


async def test_a_call_that_the_client_sent_late_counts_from_when_it_was_due(server: Server) -> None:
    class HeldUp(Warm):
        calls = 0

        def take_now(self) -> str | None:
            self.calls += 1
            if self.calls == 2:
                threading.Event().wait(0.3)  # the client is held up
            return super().take_now()

    tally = await run(server, Load(0.5, rate=100), HeldUp("functions/one"))
    assert max(tally.sent_late_us) >= 0.25e6
    assert all(took >= late for took, late in zip(tally.took_us, tally.sent_late_us, strict=True))


async def test_a_closed_loop_has_its_callers_under_way_and_no_more(server: Server) -> None:
    server.gate.clear()
    server.opens_at = 3
    tally = await run(server, Load(0.5, concurrency=3))
    assert server.most == 3
    assert len(tally.took_us) == tally.due == len(server.asked) >= 3


def test_calls_are_due_at_random_at_the_rate_and_at_the_same_moments_each_time() -> None:
    load = Load(100, rate=50)
    due_s = list(load.due_s(7))
    assert due_s == list(load.due_s(7)) != list(load.due_s(8))
    assert len(due_s) == pytest.approx(5_000, rel=0.1)
    assert due_s == sorted(due_s)
    gaps = [after - before for before, after in itertools.pairwise(due_s)]
    assert sum(gap > 1 / 50 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.05)  # 1/e of a Poisson process


async def test_the_calls_of_a_load_with_a_trace_are_due_when_the_trace_has_them(server: Server) -> None:
    load = Load(0.5, rate=40, trace="burst")
    due = list(load.due_s(seed=3))
    assert due == [time_ns / 1e9 for time_ns in burst(40, 0.5, seed=3).time_ns]
    assert (await run(server, load)).due == len(list(load.due_s(loads.SEED)))


async def test_a_trace_is_replayed_call_for_call_each_timed_from_when_it_was_due(server: Server) -> None:
    trace = steady(200, 0.3, functions=4, duration_s=0.005, seed=2)
    server.gate.clear()
    server.opens_after_s = 0.5
    names = ["functions/a", "functions/b", "functions/c"]
    async with load_client(server.address) as client:
        tally = await client.replay(trace, names, lambda duration_ns: b"%d" % duration_ns)
    assert tally.due == len(tally.took_us) == len(trace)
    expected = Counter(names[number % 3] for number in trace.function)
    assert Counter(name for _, name in server.asked) == expected
    # Those that came before the gate opened have waited for it, though none was sent while eight were under way.
    assert max(tally.took_us) >= 0.45e6


async def test_what_is_too_much_is_not_sent_and_counted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "IN_FLIGHT", 2)
    server.gate.clear()
    server.opens_after_s = 1.0
    load = Load(0.5, rate=100)
    tally = await run(server, load)
    assert server.most == 2
    assert len(tally.took_us) == len(server.asked)
    assert tally.unsent == len(list(load.due_s(loads.SEED))) - len(server.asked) > 0
    assert failures({"rows": [row("x", 128, load, [tally])]}) == [
        f"{tally.unsent} × not sent: the engine did not keep up"
    ]


@pytest.mark.parametrize(("failing", "said"), [("function", "KeyError"), ("engine", "RESOURCE_EXHAUSTED: too many")])
async def test_what_fails_is_counted_by_what_it_was_and_never_timed(server: Server, failing: str, said: str) -> None:
    server.failing = failing
    tally = await run(server, Load(0.2, concurrency=2))
    assert tally.took_us == []
    assert tally.failures.total() == len(server.asked) == tally.due > 0
    assert all(said in what for what in tally.failures)
    assert tally.function_errors == (tally.due if failing == "function" else 0)
    result = {"rows": [row("x", 128, Load(0.2), [tally])]}
    assert said in failures(result)[0]
    assert len(table(result)[0]) == len(HEAD)


@pytest.mark.parametrize("load", [Load(0.5, concurrency=2), Load(0.5, rate=50)], ids=["closed", "open"])
async def test_a_function_is_changed_between_two_cold_calls(server: Server, load: Load) -> None:
    names = [f"functions/copy-{number}" for number in range(3)]
    async with renewer(server.address) as renew:
        tally = await run(server, load, Cold(names, renew))
    assert len(tally.took_us) > 0
    for name in names:
        assert [what for what, whose in server.asked if whose == name] == ["invoke", "update"] * (
            sum(asked == ("invoke", name) for asked in server.asked)
        )


async def test_a_cold_call_for_which_no_function_is_ready_is_not_sent_in_an_open_loop(server: Server) -> None:
    load = Load(0.5, rate=100)
    all_due = asyncio.Event()

    class Counted(Cold):
        left = len(list(load.due_s(loads.SEED)))

        def take_now(self) -> str | None:
            self.left -= 1
            if self.left == 0:
                all_due.set()
            return super().take_now()

    async def renew(name: str) -> None:
        await all_due.wait()

    tally = await run(server, load, Counted(["functions/only"], renew))
    assert len(tally.took_us) == 1
    assert tally.unsent == tally.due - 1 > 0


@pytest.mark.time_limit(30)
async def test_a_function_that_cannot_be_changed_ends_the_run(server: Server) -> None:
    server.failing = "engine"
    async with renewer(server.address) as renew:
        with pytest.raises(Problem, match="could not be changed: ABORTED: someone else wrote"):
            await run(server, Load(0.2), Cold(["functions/one"], renew))


async def test_a_row_has_the_rate_the_percentiles_and_the_difference_from_the_echo(server: Server) -> None:
    load = Load(0.2, concurrency=2)
    begun = time.monotonic()
    tallies = [await run(server, load) for _ in range(4)]
    lasted_s = time.monotonic() - begun
    found = row("closed-2", 256, load, tallies[::2], tallies[1::2], samples=True)
    assert found["calls"] == found["due"] == sum(len(tally.took_us) for tally in tallies[::2])
    assert found["calls_per_s"] > found["calls"] / lasted_s
    assert found["kinds"] == {"warm": found["calls"]}
    assert found["engine_us"]["total"]["p50"] == 5
    assert found["above_echo_us"].keys() >= {"p50", "p99", "resolution"}
    assert len(found["samples_us"]["call"]) == found["calls"]
    (line,) = table({"rows": [found, {"name": "another"}]})
    assert len(line) == len(HEAD)
    assert line[:4] == ("closed-2", "256", str(found["calls"]), "0")
    assert failures({"rows": [found]}) == []


def test_the_benchs_loops_have_names_of_their_own_and_both_loops_are_cold_and_warm() -> None:
    assert len({loop.name for loop in LOOPS}) == len(LOOPS)
    assert {(loop.cold, loop.load.rate > 0) for loop in LOOPS} == set(itertools.product((False, True), repeat=2))
