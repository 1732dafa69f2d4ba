"""A scenario over real gRPC servers on loopback: what it calls, in which turns, what it counts, and the document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest

from bench.figures import markdown
from engine.cli.benching import scenarios
from engine.cli.benching.bed import Bed
from engine.cli.benching.callers import SyncCaller
from engine.cli.benching.processes import echo_server
from engine.cli.benching.run import FORMAT, document, measure
from engine.cli.benching.scenarios import EVENT, SCENARIOS, Scenario, trial
from engine.cli.client import Engine
from engine.cli.problems import Problem
from engine.v1 import (
    functions_pb2,
    functions_pb2_grpc,
    invocations_pb2,
    invocations_pb2_grpc,
    reports_pb2,
    resources_pb2,
)

WARM = Scenario("warm", "warm", 128, "sync", calls=3, echoes=2)
COLD = replace(WARM, name="cold", start="cold", calls=1)


@dataclass
class SmallEngine(functions_pb2_grpc.FunctionServiceServicer, invocations_pb2_grpc.InvocationServiceServicer):
    """Warm after the first call until the function changes; notes what it is asked."""

    calls: list[str] = field(default_factory=list)
    invoked: list[str] = field(default_factory=list)  # of each such call, the function
    always: reports_pb2.StartKind.ValueType = reports_pb2.START_KIND_UNSPECIFIED
    answer: bytes = EVENT
    parked: int = 0  # so many of the next starts find one
    kinds: Iterator[reports_pb2.StartKind.ValueType] | None = None
    warm: bool = False

    def UploadCode(self, request_iterator: Any, context: Any) -> Any:
        header = next(request_iterator).header
        assert sum(len(frame.chunk) for frame in request_iterator) == header.size_bytes
        return functions_pb2.UploadCodeResponse(code_blob=f"blobs/{header.sha256}")

    def CreateFunction(self, request: Any, context: Any) -> Any:
        self.calls.append("create")
        function = resources_pb2.Function(name=f"functions/{request.function_id}")
        return functions_pb2.CreateFunctionResponse(function=function)

    def UpdateFunction(self, request: Any, context: Any) -> Any:
        self.calls.append("update")
        self.warm = False
        return functions_pb2.UpdateFunctionResponse(function=request.function)

    def DeleteFunction(self, request: Any, context: Any) -> Any:
        self.calls.append("delete")
        return functions_pb2.DeleteFunctionResponse()

    def Invoke(self, request: Any, context: Any) -> Any:
        kind = self.always or (reports_pb2.START_KIND_WARM if self.warm else reports_pb2.START_KIND_FORK)
        if self.kinds is not None:
            kind = next(self.kinds)
        elif kind == reports_pb2.START_KIND_FORK and self.parked > 0:
            kind, self.parked = reports_pb2.START_KIND_PARKED, self.parked - 1
        self.warm = True
        self.calls.append("invoke")
        self.invoked.append(request.name)
        report = reports_pb2.Report(start_kind=kind, handler_us=2, total_us=5)
        return invocations_pb2.InvokeResponse(payload=self.answer, report=report)


@pytest.fixture
def engine() -> SmallEngine:
    return SmallEngine()  # type: ignore[abstract]


@pytest.fixture
def bed(engine: SmallEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    for pause in ("SETTLE_S", "PARK_S", "REFILL_S"):
        monkeypatch.setattr(scenarios, pause, 0)
    server = grpc.server(ThreadPoolExecutor(2))
    functions_pb2_grpc.add_FunctionServiceServicer_to_server(engine, server)
    invocations_pb2_grpc.add_InvocationServiceServicer_to_server(engine, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    # The reference is an engine's equal here: what it answers does not matter.
    with grpc.insecure_channel(address) as channel:
        yield Bed(address, address, Engine(channel))
    server.stop(0).wait()


@pytest.mark.parametrize("client", ["sync", "aio"])
def test_each_round_is_a_block_of_echoes_and_a_block_of_calls_with_one_ahead_of_each_that_does_not_count(
    engine: SmallEngine, bed: Bed, client: str
) -> None:
    row = measure(replace(WARM, client=client), bed, rounds=4)
    assert engine.calls == ["create", "invoke", *["invoke"] * (1 + 2 + 1 + 3) * 4]
    assert (row["rounds"], row["calls"], row["echoes"]) == (4, 12, 8)
    assert row["kinds"] == {"warm": 12}
    assert row["engine_us"]["total"]["p50"] == 5
    assert row["call_us"]["p50"] == pytest.approx(row["engine_us"]["outside"]["p50"] + 5, abs=0.2)


def test_every_cold_call_follows_a_change_of_the_function(engine: SmallEngine, bed: Bed) -> None:
    bed.function(COLD.memory_mb)
    with trial(COLD, bed) as running:
        engine.calls.clear()
        running.before()
        assert engine.calls[0] == "update"
        engine.warm = False  # the echoes went to the same server
        running.call()
        assert running.row([1.0])["kinds"] == {"fork": 1}


@pytest.mark.parametrize(
    ("scenario", "always"), [(WARM, reports_pb2.START_KIND_FORK), (COLD, reports_pb2.START_KIND_WARM)]
)
def test_a_call_of_the_wrong_kind_ends_the_run(
    engine: SmallEngine,
    bed: Bed,
    scenario: Scenario,
    always: reports_pb2.StartKind.ValueType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scenarios, "FIRST_WITHIN_S", 0)
    engine.always = always
    with pytest.raises(Problem, match=f"had to be {scenario.start}"):
        measure(scenario, bed, rounds=2)


def test_a_start_of_another_kind_is_left_out_with_its_echoes_and_counted(engine: SmallEngine, bed: Bed) -> None:
    scenario = replace(COLD, start="parked")
    bed.function(scenario.memory_mb)
    engine.parked = 2  # for those ahead of the first turn, which are not counted
    with trial(scenario, bed) as running:
        for found in (1, 0, 1):
            running.before()
            engine.warm, engine.parked = False, found  # the echoes went to the same server
            running.call()
        row = running.row([1.0, 100.0, 3.0])
    assert row["kinds"] == {"parked": 2, "fork": 1}
    assert (row["calls"], row["left_out"], row["rounds"], row["echoes"]) == (2, 1, 2, 4)
    assert row["call_us"]["max"] == 3.0


def test_starts_back_to_back_are_of_a_function_each_with_a_warm_call_of_another_ahead(
    engine: SmallEngine, bed: Bed
) -> None:
    engine.always = reports_pb2.START_KIND_PARKED
    row = measure(replace(COLD, start="parked", calls=3, functions=3), bed, rounds=2)
    assert (row["rounds"], row["calls"], row["kinds"]) == (2, 6, {"parked": 6})
    waker, _, *others = engine.invoked[:5]  # what goes ahead of the first round
    assert len({waker, *others}) == 4
    echoes = [others[0]] * 3
    assert engine.invoked[5:] == [*echoes, waker, *others] * 2
    assert engine.calls.count("update") == 3 * 3


def test_where_most_starts_are_of_another_kind_the_run_ends(
    engine: SmallEngine, bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios, "FIRST_WITHIN_S", 0)
    engine.always = reports_pb2.START_KIND_FORK
    with pytest.raises(Problem, match="had to be parked"):
        measure(replace(COLD, start="parked"), bed, rounds=2)


def test_a_scenario_begins_once_it_starts_as_it_is_asked_to(engine: SmallEngine, bed: Bed) -> None:
    engine.kinds = iter([reports_pb2.START_KIND_FORK] * 5 + [reports_pb2.START_KIND_PARKED])
    with trial(replace(COLD, start="parked"), bed):
        assert engine.calls.count("invoke") == 6


def test_a_call_that_does_not_return_its_event_ends_the_run(engine: SmallEngine, bed: Bed) -> None:
    engine.answer = b"null"
    with pytest.raises(Problem, match="calls failed"):
        measure(WARM, bed, rounds=2)


def test_functions_are_deleted_and_made_once(engine: SmallEngine, bed: Bed) -> None:
    assert bed.function(128) == bed.function(128) != bed.function(1769)
    bed.clear()
    bed.clear()
    assert engine.calls == ["create", "create", "delete", "delete"]


def test_the_document_says_what_where_and_when_and_is_json(bed: Bed) -> None:
    result = json.loads(json.dumps(document([measure(WARM, bed, rounds=3)])))
    assert result["format"] == FORMAT
    told = ("date", "commit", "kernel", "cpu", "cpus", "python", "grpcio", "protobuf", "clock_resolution_ns", "load_1m")
    assert all(result[fact] not in ("", 0) or fact == "load_1m" for fact in told)
    (row,) = result["rows"]
    assert {"name", "start", "kinds", "memory_mb", "client", "event_bytes", "rounds"} <= row.keys()
    for times in (row["call_us"], row["echo_us"], *row["engine_us"].values()):
        assert times.keys() == {"p50", "p90", "p99", "p99_9", "max", "mean"}
    assert row["above_echo_us"].keys() == {"p50", "p90", "p99", "p50_of_blocks", "resolution"}


def test_the_readmes_table_has_echo_warm_and_cold(bed: Bed) -> None:
    row = measure(WARM, bed, rounds=2)
    table = markdown(document([{**row, "name": "warm-1769"}, {**row, "name": "parked-1769"}]))
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:5]] == [
        "bare grpc.aio echo",
        "warm invocation",
        "cold start, from a parked sandbox",
    ]


def test_scenarios_have_names_of_their_own() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.time_limit(10)
def test_the_echo_server_returns_the_event_and_ends_with_whoever_started_it() -> None:
    request = invocations_pb2.InvokeRequest(name="functions/any", payload=EVENT)
    with echo_server() as address, SyncCaller(address) as caller:
        assert caller.call(request).payload == EVENT
    with SyncCaller(address) as caller, pytest.raises(grpc.RpcError):
        caller.call(request)
