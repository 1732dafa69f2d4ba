"""`cleave runtimes`, and what the command says of interpreters and of modules that are imported ahead."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.v1 import host_pb2

from .conftest import Cleave, StubEngine

PYTHON = host_pb2.Interpreter(runtime="python3.11", version="3.11.2", path="/usr/bin/python3.11")
ZYGOTES = [
    host_pb2.Zygote(runtime="python3.11", pid=7, forks=12, age_ms=5_000),
    host_pb2.Zygote(runtime="python3.11", preload=["json", "numpy"], pid=8, forks=3, preload_memory_bytes=30 << 20),
    host_pb2.Zygote(runtime="python3.12", preload=["antigravity"], trouble="antigravity started a process"),
]


def test_runtimes_lists_each_python_with_its_version_and_path(cleave: Cleave, engine: StubEngine) -> None:
    assert "cleave runtimes add" in cleave("runtimes", "list").err
    engine.interpreters = [PYTHON]
    lines = cleave("runtimes", "list").out.splitlines()
    assert lines[1].split() == ["python3.11", "3.11.2", "/usr/bin/python3.11"]
    document = cleave("runtimes", "list", "-o", "json").document
    found = {"runtime": "python3.11", "version": "3.11.2", "path": "/usr/bin/python3.11"}
    assert document == {"engine_running": True, "interpreters": [found]}


def test_without_an_engine_runtimes_lists_those_that_one_would_find(run: Cleave, tmp_path: Path) -> None:
    document = run("runtimes", "list", "--address", "127.0.0.1:1", "-o", "json").document
    assert not document["engine_running"]
    assert document["interpreters"]


@pytest.mark.parametrize("verb", ["add", "remove"])
def test_what_cannot_be_added_or_removed_is_told_with_a_fix(run: Cleave, tmp_path: Path, verb: str) -> None:
    ran = run("runtimes", verb, str(tmp_path / "python"), "--data-dir", str(tmp_path / "data"))
    assert ran.code == 1
    assert f"cannot {verb} {tmp_path / 'python'}" in ran.err
    assert "Fix:" in ran.err


def test_doctor_shows_what_sandboxes_are_forked_from_and_why_something_is_not(
    cleave: Cleave, engine: StubEngine
) -> None:
    engine.interpreters, engine.zygotes = [PYTHON], ZYGOTES
    out = cleave("doctor").out
    assert "Pythons  3.11.2" in out
    table = [line.split() for line in out.splitlines() if line.startswith("python3.1")]
    assert table[0] == ["python3.11", "-", "-", "12", "5", "s", "old"]
    assert table[1][:5] == ["python3.11", "json,", "numpy", "30.0", "MiB"]
    assert table[2][-4:] == ["antigravity", "started", "a", "process"]


@pytest.mark.parametrize(("given", "sent"), [("json,xml.sax", ["json", "xml.sax"]), (" json , ", ["json"]), ("", [])])
def test_deploy_names_what_is_to_be_imported_ahead(
    cleave: Cleave, engine: StubEngine, tmp_path: Path, given: str, sent: list[str]
) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context): pass\n")
    engine.add("hello")
    assert cleave("deploy", str(tmp_path), "--name", "hello", "--preload", given, "--own-layout").code == 0
    config = engine.functions["functions/hello"].config
    assert (list(config.preload), config.own_layout) == (sent, True)
    assert engine.masks == [["code_blob", "config.own_layout", "config.preload"]]
