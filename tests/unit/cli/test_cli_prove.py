"""`cleave doctor --prove` against an engine whose sandboxes answer what a test says: what holds, what does not, and
that nothing is left."""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from engine.cli import prove_handlers
from engine.cli.prove_host import Host
from engine.cli.prove_probes import INTERNET, LARGEST_FILE_MB, LOOKS, MB, NO_NETWORK, NUMBERS, Probe
from engine.v1 import host_pb2, invocations_pb2, reports_pb2
from tests.unit.cli.conftest import Cleave, StubEngine

REFUSED = dict.fromkeys([*NUMBERS, "unshare user"], "EPERM")
NOBODY = {
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16),
    **dict.fromkeys(("Uid", "Gid"), "2000 2000 2000 2000"),
    "NoNewPrivs": "1",
    "Groups": "",
    "setuid": "EPERM",
}
ALONE = {
    "interfaces": ["lo", "tunl0"],
    "interfaces_6": ["lo"],
    "answers": {"127.0.0.1 port 1": "ECONNREFUSED", "an abstract socket": "ECONNREFUSED", "192.0.2.1": "ENETUNREACH"},
}
HOLDS: Mapping[str, Any] = {
    "tmp_bytes": [513 * MB, "ENOSPC"],
    "tmp_files": [32_800, "ENOSPC"],
    "processes": [1_024, "EAGAIN"],
    "open_files": [1_024, "EMFILE"],
    "core_dumps": [1, []],
    "file_size": ["", "EFBIG"],
    "locked_memory": "ENOMEM",
    "other_processes": [[1, 2], "ESRCH"],
    "host_files": [[], ["/tmp"]],
    "devices": [["null", "zero"], "EPERM"],
    "privileges": NOBODY,
    "system_calls": {"mode": "2", "answers": REFUSED},
    "descriptors": {"open": {"0": "/dev/null", "1": "pipe:[1]"}, "passed_on": []},
    "environment": ["AWS_REGION", "PATH", "_HANDLER"],
    "unreachable": ALONE,
    "cpu": [[1.0, 2.0]],
    "find": [],
}
"""What handlers answer where every limit holds, by their names."""
BROKEN = [
    ("tmp_bytes", [1_024 * MB, ""]),
    ("tmp_bytes", [100 * MB, "ENOSPC"]),
    ("tmp_files", [65_536, ""]),
    ("processes", [1_124, ""]),
    ("processes", [1_100, "EAGAIN"]),
    ("open_files", [4_096, "EMFILE"]),
    ("core_dumps", [1, ["core"]]),
    ("core_dumps", [-1, []]),
    ("file_size", ["", ""]),
    ("file_size", ["EFBIG", "EFBIG"]),
    ("locked_memory", ""),
    ("other_processes", [[1, 2, 3, 4], "ESRCH"]),
    ("other_processes", [[1, 2], "EPERM"]),
    ("host_files", [["/etc/shadow"], ["/tmp"]]),
    ("host_files", [[], ["/tmp", "/usr"]]),
    ("devices", [["null", "sda"], "EPERM"]),
    ("devices", [["null"], ""]),
    ("privileges", NOBODY | {"CapEff": "0000000000200000"}),
    ("privileges", NOBODY | {"Groups": "0"}),
    ("privileges", NOBODY | {"NoNewPrivs": "0"}),
    ("privileges", NOBODY | {"setuid": ""}),
    ("system_calls", {"mode": "0", "answers": REFUSED}),
    ("system_calls", {"mode": "2", "answers": REFUSED | {"io_uring_setup": "EINVAL"}}),
    ("system_calls", {"mode": "2", "answers": {}}),
    ("descriptors", {"open": {"0": "/dev/null", "7": "socket:[1]"}, "passed_on": []}),
    ("descriptors", {"open": {"0": "/dev/null", "3": "pipe:[1]"}, "passed_on": [3]}),
    ("environment", ["PATH", "SECRET"]),
    ("unreachable", ALONE | {"interfaces": ["lo", "eth1"]}),
    ("unreachable", ALONE | {"interfaces_6": ["lo", "eth0"]}),
    ("unreachable", ALONE | {"answers": ALONE["answers"] | {"192.0.2.1": "ECONNREFUSED"}}),  # type: ignore[operator]
    ("unreachable", ALONE | {"answers": ALONE["answers"] | {"127.0.0.1 port 1": ""}}),  # type: ignore[operator]
    ("unreachable", ALONE | {"answers": {}}),
]
PROBES = {probe.handler.__name__: probe for probe in (*LOOKS, NO_NETWORK)}


def judged(probe: Probe, answer: Any) -> bool:
    return probe.judge(answer, {**probe.event, "pid": 1, "neighbours": probe is INTERNET}).held


@pytest.mark.parametrize("name", PROBES)
def test_a_limit_that_holds_is_told_so(name: str) -> None:
    assert judged(PROBES[name], HOLDS[name])


@pytest.mark.parametrize(("name", "answer"), BROKEN)
def test_a_limit_that_is_broken_is_not_held(name: str, answer: Any) -> None:
    assert not judged(PROBES[name], answer)


def test_every_probe_has_a_reason_and_an_answer_that_breaks_it() -> None:
    assert {name for name, _ in BROKEN} == set(PROBES)
    assert all(len(probe.reason) > 20 for probe in PROBES.values())
    assert f"{LARGEST_FILE_MB:,} MB" == PROBES["file_size"].asked


@pytest.fixture
def answers(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What sandboxes answer, by the handlers' names; all hold until a test changes one. Ask for it before `cleave`,
    whose server takes the methods as they are."""
    answers = dict(HOLDS)
    outcomes = {"outlive": "TIMEOUT", "leave": "EXITED", None: "TIMEOUT"}

    def invoke(request: invocations_pb2.InvokeRequest, context: grpc.ServicerContext) -> Any:
        engine.invoked.append(request)
        if "signal" in answers:
            os.kill(os.getpid(), answers.pop("signal"))
        event = json.loads(request.payload)
        name = event.get("probe")
        outcome = outcomes.get(name, "OK")
        if name == "memory":
            outcome = "OUT_OF_MEMORY" if event["bytes"] > answers.get("memory", 126 * MB) else "OK"
        report = reports_pb2.Report(
            outcome=reports_pb2.Outcome.Value(f"OUTCOME_{outcome}"),
            handler_us=answers.get("timeout_us", 1_000_000),
            total_us=10_010_000,
            peak_memory_bytes=3 * MB,
        )
        response = invocations_pb2.InvokeResponse(report=report)
        if outcome == "OK":
            response.payload = json.dumps(answers.get(name)).encode()
        else:
            response.function_error.type = "Sandbox.Timedout"
        return response

    def add(self: Host, mark: str, done: Any) -> int:
        while not done():
            pass
        return 4

    def create(request: Any, context: grpc.ServicerContext) -> Any:
        if "refused" in answers:
            context.abort(grpc.StatusCode.INTERNAL, answers["refused"])
        return StubEngine.CreateFunction(engine, request, context)

    monkeypatch.setattr(engine, "Invoke", invoke)
    monkeypatch.setattr(engine, "CreateFunction", create)
    monkeypatch.setattr(Host, "watch", add)
    monkeypatch.setattr(Host, "sees_all", True)
    engine.checks = [host_pb2.Check(limit="tmp", enforced=True, mechanism="loop", detail="its own quota")]
    return answers


def verdicts(document: Any) -> dict[str, str]:
    return {finding["limit"]: finding["verdict"] for finding in document["proof"]}


def test_where_all_holds_the_table_says_so_and_nothing_is_left(
    answers: dict[str, Any], cleave: Cleave, engine: StubEngine
) -> None:
    ran = cleave("doctor", "--prove")
    assert ran.code == 0, ran.out
    assert "NOT HELD" not in ran.out
    assert "22 of 22 limits held" in ran.out
    assert engine.functions == {}
    assert {request.name.startswith("functions/cleave-prove-") for request in engine.invoked} == {True}


@pytest.mark.parametrize(
    ("limit", "name", "answer"),
    [
        ("devices", "devices", [["null", "sda"], "EPERM"]),
        ("CPU", "cpu", [[2.0, 2.0]]),
        ("memory", "memory", 1 << 40),
        ("timeout", "timeout_us", 3_500_000),
        ("/tmp of the next sandbox", "find", ["secret"]),
        ("environment", "environment", {"nonsense": 1}),
        ("privileges", "privileges", 7),
    ],
)
def test_one_that_is_broken_is_named_with_its_reason_and_the_exit_code_is_1(
    answers: dict[str, Any], cleave: Cleave, engine: StubEngine, limit: str, name: str, answer: Any
) -> None:
    answers[name] = answer
    ran = cleave("doctor", "--prove", "-o", "json")
    assert ran.code == 1
    assert ran.document["ok"] is False
    assert [limit for limit, verdict in verdicts(ran.document).items() if verdict != "held"] == [limit]
    finding = next(finding for finding in ran.document["proof"] if finding["limit"] == limit)
    assert (finding["verdict"], finding["held"]) == ("NOT HELD", False)
    assert finding["reason"]
    assert engine.functions == {}


def test_a_weaker_form_that_was_accepted_is_not_asked_for(
    answers: dict[str, Any], cleave: Cleave, engine: StubEngine
) -> None:
    answers["tmp_bytes"] = [1_024 * MB, ""]
    assert cleave("doctor", "--prove").code == 1
    engine.checks[0].detail = "the weaker form, accepted by the settings"
    ran = cleave("doctor", "--prove", "-o", "json")
    assert ran.code == 0
    assert verdicts(ran.document)["/tmp, bytes"] == "not asked of this host: weaker form accepted"
    assert verdicts(ran.document)["/tmp, files"] == "held"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_function(
    answers: dict[str, Any], cleave: Cleave, engine: StubEngine, number: signal.Signals
) -> None:
    answers["signal"] = number
    assert cleave("doctor", "--prove").code == 130
    assert engine.invoked
    assert engine.functions == {}


def test_an_engine_that_takes_no_function_is_a_problem_and_no_proof(answers: dict[str, Any], cleave: Cleave) -> None:
    answers["refused"] = "the store is full"
    ran = cleave("doctor", "--prove")
    assert (ran.code, ran.out) == (1, "")
    assert "cannot prove the limits" in ran.err
    assert "the store is full" in ran.err


def test_what_runs_inside_is_python_3_9_and_needs_the_standard_library_alone() -> None:
    tree = ast.parse(Path(prove_handlers.__file__).read_text(), feature_version=(3, 9))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | {"__future__"}
