"""init, list, get, logs, delete, doctor, version, and what is true of every command."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import __version__
from engine.cli.init import APP
from engine.v1 import host_pb2, reports_pb2

from .conftest import Cleave, StubEngine

ROOT = Path(__file__).resolve().parents[3]
MEMORY = host_pb2.Check(limit="memory", enforced=True, mechanism="cgroup v1 memory")
CPU = host_pb2.Check(limit="cpu", enforced=False, detail="no controller", fix="mount the cpu controller")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, held so that nobody else takes it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_init_writes_the_example_which_runs_and_names_the_next_command(run: Cleave, tmp_path: Path) -> None:
    ran = run("init", str(tmp_path / "hello"))
    assert ran.code == 0
    assert f"cleave deploy {tmp_path / 'hello'}" in ran.out
    text = (tmp_path / "hello" / "app.py").read_text()
    assert text == APP == (ROOT / "examples" / "hello" / "app.py").read_text()
    namespace: dict[str, object] = {}
    exec(compile(text, "app.py", "exec"), namespace)
    assert "handler" in namespace


def test_init_overwrites_nothing(run: Cleave, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine")
    ran = run("init", str(tmp_path))
    assert ran.code == 1
    assert "Fix: cleave init" in ran.err
    assert (tmp_path / "app.py").read_text() == "mine"


def test_list_walks_every_page(cleave: Cleave, engine: StubEngine) -> None:
    for name in ("a", "b", "c", "d", "e"):
        engine.add(name)
    assert [line.split()[0] for line in cleave("list").out.splitlines()] == ["NAME", "a", "b", "c", "d", "e"]
    assert len(cleave("list", "-o", "json").document["functions"]) == 5


def test_an_empty_list_says_how_to_begin(cleave: Cleave) -> None:
    ran = cleave("list")
    assert (ran.code, ran.out) == (0, "")
    assert "cleave init hello && cleave deploy hello" in ran.err
    assert cleave("list", "-o", "json").document == {"functions": []}


def test_get_shows_every_setting(cleave: Cleave, engine: StubEngine) -> None:
    engine.add("hello")
    out = cleave("get", "hello").out
    assert "config.memory_mb" in out
    assert "config.environment.A" in out
    function = cleave("get", "hello", "-o", "json").document["function"]
    assert function["config"]["environment"] == {"A": "b"}
    assert (function["state"], function["config"]["memory_mb"]) == ("active", 128)


def test_delete_deletes(cleave: Cleave, engine: StubEngine) -> None:
    engine.add("hello")
    assert cleave("delete", "hello", "--yes").code == 0
    assert engine.functions == {}


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"", 1)])
def test_delete_asks_on_a_terminal(engine: StubEngine, address: str, answer: bytes, code: int) -> None:
    engine.add("hello")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer or b"\x04")
        command = [sys.executable, "-m", "engine.cli.main", "delete", "hello", "--address", address]
        ran = subprocess.run(command, stdin=theirs, capture_output=True, text=True, cwd=ROOT, timeout=20)
    finally:
        os.close(ours)
        os.close(theirs)
    assert ran.returncode == code, ran.stderr
    assert "Delete hello" in ran.stderr
    assert bool(engine.functions) == (code == 1)


def test_logs_are_printed_as_they_are_kept(cleave: Cleave, engine: StubEngine) -> None:
    engine.add("hello")
    engine.log_lines = [b"one", "zwei \u00e4".encode()]
    ran = cleave("logs", "hello", "-n", "5", "--request-id", "r")
    assert [line.split(" ", 1)[1] for line in ran.out.splitlines()] == ["one", "zwei \u00e4"]
    (request,) = engine.tailed
    assert (request.limit, request.request_id, request.follow) == (5, "r", False)


def test_logs_are_asked_for_by_time_and_by_text(cleave: Cleave, engine: StubEngine) -> None:
    engine.add("hello")
    before = time.time()
    cleave("logs", "hello", "--since", "90m", "--until", "2030-01-31T13:00:00+01:00", "--filter", "wörd", "--tail")
    (request,) = engine.tailed
    assert before - 5_400 <= request.since.ToMicroseconds() / 1e6 + 0.001 <= time.time() - 5_399
    assert request.until.ToJsonString() == "2030-01-31T12:00:00Z"
    assert request.contains.decode() == "wörd"
    assert request.follow
    cleave("logs", "hello")
    assert not engine.tailed[1].HasField("since")
    assert not engine.tailed[1].HasField("until")


@pytest.mark.parametrize("when", ["yesterday", "10", "5w", "99999999999d", "2026-13-01"])
def test_a_time_that_is_none_is_named(cleave: Cleave, engine: StubEngine, when: str) -> None:
    ran = cleave("logs", "hello", "--since", when)
    assert ran.code == 2
    assert f"--since {when} is not a time" in ran.err


def test_logs_in_json_are_one_document_or_one_a_line_when_followed(cleave: Cleave, engine: StubEngine) -> None:
    engine.add("hello")
    engine.log_lines = [b"one", b"two"]
    lines = cleave("logs", "hello", "-o", "json").document["lines"]
    assert [line["text"] for line in lines] == ["one", "two"]
    followed = cleave("logs", "hello", "-f", "-o", "json").out.splitlines()
    assert [json.loads(line)["text"] for line in followed] == ["one", "two"]


def test_a_terminal_is_shown_control_characters_and_does_not_obey_them() -> None:
    from engine.cli.render import visible

    assert visible(b"\x1b[2Jhi\tthere\r\x07") == rb"\x1b[2Jhi" + b"\tthere\n" + rb"\x07"


def test_doctor_asks_the_engine_and_shows_mechanism_and_fix(cleave: Cleave, engine: StubEngine) -> None:
    engine.checks = [MEMORY, CPU]
    ran = cleave("doctor")
    assert ran.code == 1
    assert "cgroup v1 memory" in ran.out
    assert "mount the cpu controller" in ran.out
    assert "9.9.9" in ran.out
    document = cleave("doctor", "-o", "json").document
    assert (document["ok"], document["engine_running"]) == (False, True)
    assert document["host"]["memory_bytes"] > 0


def test_doctor_shows_what_the_engine_made_and_removed_and_what_befell(cleave: Cleave, engine: StubEngine) -> None:
    engine.checks = [MEMORY]
    assert "MADE" not in cleave("doctor").out
    engine.resources = [
        host_pb2.ResourceCount(kind="leaves", made=12, removed=9),
        host_pb2.ResourceCount(kind="networks"),
    ]
    engine.events = [host_pb2.EventCount(kind="timeouts", count=4), host_pb2.EventCount(kind="out_of_memory")]
    lines = cleave("doctor").out.splitlines()
    assert ["leaves", "12", "9", "3"] in [line.split() for line in lines]
    assert "Since the engine started: 4 timeouts" in lines
    assert not any("networks" in line for line in lines)
    assert cleave("doctor", "-o", "json").document["resources"][1] == {"kind": "networks", "made": 0, "removed": 0}


def test_doctor_shows_how_many_starts_of_each_kind_there_were_and_what_they_took(
    cleave: Cleave, engine: StubEngine
) -> None:
    engine.checks = [MEMORY]
    assert "START " not in cleave("doctor").out

    def times(count: int, p50_us: int, p99_us: int) -> host_pb2.Distribution:
        return host_pb2.Distribution(count=count, p50_us=p50_us, p99_us=p99_us)

    engine.starts = [
        host_pb2.StartStats(kind=reports_pb2.START_KIND_WARM, handler=times(90, 50, 900), total=times(90, 80, 1_000)),
        host_pb2.StartStats(
            kind=reports_pb2.START_KIND_PARKED,
            outcomes=[
                host_pb2.OutcomeCount(outcome=reports_pb2.OUTCOME_OK, count=7),
                host_pb2.OutcomeCount(outcome=reports_pb2.OUTCOME_TIMEOUT, count=1),
            ],
            start=times(8, 300, 400),
            init=times(8, 500, 600),
            handler=times(8, 10, 20),
            total=times(8, 1_200, 3_456),
        ),
    ]
    lines = [line.split() for line in cleave("doctor").out.splitlines()]
    assert ["warm", "90", "0", "-", "-", "0.05", "/", "0.90", "0.08", "/", "1.00"] in lines
    row = ["parked", "8", "7", "0.30", "/", "0.40", "0.50", "/", "0.60", "0.01", "/", "0.02", "1.20", "/", "3.46"]
    assert row in lines
    document = cleave("doctor", "-o", "json").document
    assert [one["kind"] for one in document["starts"]] == ["warm", "parked"]
    assert document["starts"][1]["total"]["p99_us"] == 3_456


def test_doctor_exits_with_0_when_every_limit_is_enforced(cleave: Cleave, engine: StubEngine) -> None:
    engine.checks = [MEMORY]
    assert cleave("doctor").code == 0


def test_doctor_probes_the_host_itself_where_no_engine_runs(
    run: Cleave, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import ModuleType

    from engine.config import Settings
    from engine.model.host import Check, HostReport

    async def probe_host(settings: Settings) -> HostReport:
        return HostReport((Check("memory", True, "cgroup v2 memory"),), "1", ("python3.11",))

    service = ModuleType("engine.service")
    service.probe_host = probe_host  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "engine.service", service)
    ran = run("doctor", "--address", f"127.0.0.1:{closed_port}")
    assert ran.code == 0
    assert "cgroup v2 memory" in ran.out
    assert "none answers" in ran.out
    assert "cleave serve" in ran.out


def test_version_is_the_packages(run: Cleave) -> None:
    assert run("version").out.startswith(f"cleave {__version__} ")
    assert run("--version").out == f"cleave {__version__}\n"
    assert run("version", "-o", "json").document["version"] == __version__


@pytest.mark.parametrize("command", ["invoke", "get", "logs", "delete"])
def test_an_unknown_function_is_refused_with_the_nearest_name(cleave: Cleave, engine: StubEngine, command: str) -> None:
    engine.add("hello")
    ran = cleave(command, "helo")
    assert (ran.code, ran.out) == (1, "")
    assert "Why: no function functions/helo\n" in ran.err
    assert "Fix: cleave list; did you mean hello?" in ran.err
    error = cleave(command, "helo", "--output", "json").document["error"]
    assert (error["code"], error["reason"], error["exit_code"]) == ("NOT_FOUND", "NOT_FOUND", 1)
    assert "cleave list" in error["fix"]


COMMANDS = [
    ["list"], ["get", "hello"], ["invoke", "hello"], ["logs", "hello"], ["delete", "hello"], ["deploy", "hello"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_an_engine_that_does_not_answer_exits_with_4_and_says_how_to_start_one(
    run: Cleave, closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "app.py").write_text("")
    address = ("--address", f"127.0.0.1:{closed_port}")
    ran = run(*command, *address)
    assert (ran.code, ran.out) == (4, "")
    assert f"no engine answers at 127.0.0.1:{closed_port}" in ran.err
    assert "Fix: cleave serve" in ran.err
    error = run(*command, *address, "--output", "json").document["error"]
    assert (error["reason"], error["exit_code"]) == ("ENGINE_UNREACHABLE", 4)


@pytest.mark.parametrize(
    "arguments",
    [["invoke"], ["frobnicate"], ["list", "--bogus"], ["invoke", "a b"], ["list", "--address", "nowhere"],
     ["list", "--address", "127.0.0.1:0"], ["serve", "--address", "127.0.0.1:1"], ["logs", "x", "-n", "-1"]],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_command_line_names_a_command_that_helps(run: Cleave, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert "Why:" in ran.err
    assert "Fix:" in ran.err
    assert run(*arguments, "--output", "json").document["error"]["exit_code"] == 2


def test_a_port_that_speaks_http_is_told_apart(run: Cleave) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Quiet) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever)
        ran = run("list", "--address", f"127.0.0.1:{server.server_port}")
        server.shutdown()
    assert ran.code == 4
    assert "Fix:" in ran.err


def test_help_loads_nothing_heavy_and_is_quick() -> None:
    check = (
        "import sys; from engine.cli.main import main; main(['--help']);"
        "print(sorted({'grpc', 'rich', 'pydantic', 'asyncio', 'google.protobuf'} & set(sys.modules)), file=sys.stderr);"
        "print(len(sys.modules), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy, modules = ran.stderr.split("\n")[:2]
    assert heavy == "[]"
    assert "Exit codes:" in ran.stdout
    assert int(modules) < 240  # what it takes is in proportion: some 205 are 0.15 s on an idle machine


def test_no_command_shows_the_help(run: Cleave) -> None:
    ran = run()
    assert ran.code == 2
    assert "Commands:" in ran.out
