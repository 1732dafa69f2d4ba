"""`cleave doctor --prove` on this host: every limit holds, in an engine that runs and in one of the command's own, and
nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.v1 import functions_pb2
from tests.engines import Served, served

pytestmark = pytest.mark.privileged

INIT_TIMEOUT_MS = 4_000
NOT_ASKED_HERE = {"network, internet"}  # hosts of tests need not forward packets


def command(folder: Path, port: int, **settings: str) -> subprocess.Popen[str]:
    """The command with the settings of a test's engine, looking for one at this port."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLEAVE_")}
    environment |= {
        "CLEAVE_CONFIG": os.devnull,
        "CLEAVE_INIT_TIMEOUT_MS": str(INIT_TIMEOUT_MS),
        "TMPDIR": str(folder),
        "PROVED_SECRET": "of whoever asks",
    }
    environment |= {f"CLEAVE_{name.upper()}": value for name, value in settings.items()}
    words = ["doctor", "--prove", "-o", "json", "--address", f"127.0.0.1:{port}"]
    return subprocess.Popen(
        [sys.executable, "-m", "engine.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it wrote."""
    try:
        return process.communicate(timeout=100)
    finally:
        process.kill()


def check(process: subprocess.Popen[str]) -> Any:
    """Its document, in which every limit that this host was asked for holds."""
    out, err = ended(process)
    assert out, err
    document = json.loads(out)
    proof = document["proof"]
    broken = {finding["limit"]: finding["found"] for finding in proof if finding["held"] is False}
    assert broken == {}
    assert {finding["limit"] for finding in proof if finding["held"] is None} <= NOT_ASKED_HERE
    assert len(proof) >= 22
    assert (process.returncode, document["ok"]) == (0, True)
    return document


async def functions(engine: Served) -> list[str]:
    response = await engine.grpc.functions.ListFunctions(functions_pb2.ListFunctionsRequest())
    return [function.name for function in response.functions]


@pytest.mark.time_limit(180)
async def test_every_limit_holds_in_a_running_engine_which_keeps_no_function_of_it(tmp_path: Path) -> None:
    async with served(tmp_path / "data", flags={"init_timeout_ms": INIT_TIMEOUT_MS}) as engine:
        process = command(tmp_path, engine.grpc_port)
        document = await asyncio.to_thread(check, process)
        assert document["engine_running"] is True
        assert await functions(engine) == []
        await engine.stopped()


@pytest.mark.time_limit(180)
def test_every_limit_holds_where_no_engine_runs_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        document = check(command(tmp_path, closed.getsockname()[1]))
    assert document["engine_running"] is False
    assert list(tmp_path.iterdir()) == []


@pytest.mark.time_limit(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_in_the_middle_leaves_no_function(tmp_path: Path, number: signal.Signals) -> None:
    async with served(tmp_path / "data") as engine:
        process = command(tmp_path, engine.grpc_port)
        while not await functions(engine):
            await asyncio.sleep(0.01)
        process.send_signal(number)
        said = await asyncio.to_thread(ended, process)
        assert process.returncode == 130, said
        assert await functions(engine) == []
        await engine.stopped()
