"""`cleave bench NAME`: a load on a function of a running engine, as its user puts it there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import load as trace_load
from engine.cli.benching.processes import own_engine
from engine.cli.benching.traces import steady

HANDLERS = """
import os


def handler(event, context):
    return {"said": event["say"], "tier": os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "own": os.environ["OWN"]}


def fails(event, context):
    raise KeyError(event["say"])
"""


def cleave(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine.cli.main", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("functions")
    (folder / "app.py").write_text(HANDLERS)
    with own_engine() as own:
        address = own.grpc
        for handler in ("handler", "fails"):
            options = ("--handler", f"app.{handler}", "--memory", "256", "--env", "OWN=yes", "--address", address)
            deployed = cleave("deploy", str(folder), "--name", handler, *options)
            assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        yield address


def functions(address: str) -> list[dict[str, Any]]:
    listed = cleave("list", "--output", "json", "--address", address)
    return json.loads(listed.stdout)["functions"]  # type: ignore[no-any-return]


@pytest.mark.privileged
@pytest.mark.time_limit(120)
@pytest.mark.parametrize("load", [("--concurrency", "2"), ("--rate", "10")], ids=["closed", "open"])
def test_it_times_cold_starts_of_copies_and_warm_calls_and_leaves_the_function_as_it_was(
    address: str, load: tuple[str, str]
) -> None:
    before = functions(address)
    where = ("--duration", "1", "--output", "json", "--address", address)
    ran = cleave("bench", "handler", "-d", '{"say": "hello"}', *load, *where)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    cold, warm = json.loads(ran.stdout)["rows"]
    assert (cold["start"], warm["start"]) == ("cold", "warm")
    assert cold["kinds"].get("warm", 0) == 0
    assert warm["kinds"]["warm"] > 0
    for row in (cold, warm):
        assert row["function"] == "handler"
        assert row["memory_mb"] == 256
        assert row["load"]["loop"] == ("open" if load[0] == "--rate" else "closed")
        assert row["call_us"]["p50"] > row["engine_us"]["total"]["p50"] > 0
        assert row["failures"] == {}
    assert functions(address) == before


@pytest.mark.privileged
def test_a_function_that_fails_is_said_and_so_does_the_exit_code(address: str) -> None:
    ran = cleave("bench", "fails", "-d", '{"say": "no"}', "--start", "warm", "--duration", "0.5", "--address", address)
    assert ran.returncode == 3
    assert "KeyError" in ran.stderr
    assert "warm calls for 0.5 s" in ran.stderr


@pytest.mark.privileged
def test_a_function_that_is_not_there_is_said_with_the_nearest_name(address: str) -> None:
    ran = cleave("bench", "handle", "--address", address)
    assert ran.returncode == 1
    assert "did you mean handler?" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--rate", "5"), "--rate is for a load on a function"),
        (("name", "--rounds", "5"), "--rounds is for the bench without a function"),
        (("name", "--rate", "5", "--concurrency", "2"), "an open loop has a rate"),
        (("name", "--trace", "burst"), "--trace says how the calls of an open loop come"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...], why: str) -> None:
    ran = cleave("bench", *arguments)
    assert ran.returncode == 2
    assert why in ran.stderr


def test_an_engine_that_does_not_answer_is_said(tmp_path: Path) -> None:
    ran = cleave("bench", "name", "--output", "json", "--address", "127.0.0.1:1")
    assert ran.returncode == 4
    assert json.loads(ran.stdout)["error"]["reason"] == "ENGINE_UNREACHABLE"


@pytest.mark.privileged
def test_a_trace_is_put_on_functions_of_its_own_which_are_deleted(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("steady", "--functions", "2", "--rate", "20", "--duration", "0.5", "--seed", "3")
    assert trace_load.main([*arguments, "--address", address, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    trace = steady(20, 0.5, functions=2, seed=3)
    assert (row["name"], row["functions"], row["calls"]) == ("trace-steady", 2, len(trace))
    assert row["engine_us"]["handler"]["p50"] >= 10_000
    assert row["call_us"]["p50"] >= 10_000
    assert {function["name"] for function in functions(address)} == {"functions/handler", "functions/fails"}
