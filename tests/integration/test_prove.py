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
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from engine.cli import holder
from engine.v1 import functions_pb2
from tests.doors import zip_of
from tests.engines import Served, served
from tests.remains import cgroups_of, instance_of, until

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
    return [function.name.removeprefix("functions/") for function in response.functions]


@dataclass(frozen=True)
class Proofs:
    """What the command said in each case, and what it left: functions of the engine, files of its own."""

    running: Any
    functions: list[str]
    alone: Any
    files: list[Path]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proofs(tmp_path_factory: pytest.TempPathFactory) -> Proofs:
    """Both at the same time: each waits most of its own for limits to be reached."""
    beside, alone = tmp_path_factory.mktemp("beside"), tmp_path_factory.mktemp("alone")
    async with served(beside / "data", flags={"init_timeout_ms": INIT_TIMEOUT_MS}) as engine:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            commands = command(beside, engine.grpc_port), command(alone, closed.getsockname()[1])
            found = await asyncio.gather(*(asyncio.to_thread(check, process) for process in commands))
        left = await functions(engine)
        await engine.stopped()
    return Proofs(found[0], left, found[1], list(alone.iterdir()))


def test_every_limit_holds_in_a_running_engine_which_keeps_no_function_of_it(proofs: Proofs) -> None:
    assert proofs.running["engine_running"] is True
    assert proofs.functions == []


def test_every_limit_holds_where_no_engine_runs_and_nothing_of_it_is_left(proofs: Proofs) -> None:
    assert proofs.alone["engine_running"] is False
    assert proofs.files == []


@pytest.mark.time_limit(120)
async def test_what_a_killed_run_left_goes_with_the_next_which_leaves_alone_what_another_uses(tmp_path: Path) -> None:
    kept = {f"cleave-prove-{holder.mark()}-memory", "cleave-prove-by-hand"}
    async with served(tmp_path / "data") as engine:
        for name in kept:
            await engine.grpc.create(name, zip_of("def handler(event, context):\n    return 1\n"))
        killed = command(tmp_path, engine.grpc_port)
        while len(left := set(await functions(engine)) - kept) < 2:
            await asyncio.sleep(0.01)
        killed.kill()
        await asyncio.to_thread(ended, killed)
        following = command(tmp_path, engine.grpc_port)
        while left & set(await functions(engine)):
            assert following.poll() is None, following.communicate()
            await asyncio.sleep(0.01)
        following.send_signal(signal.SIGINT)
        await asyncio.to_thread(ended, following)
        assert set(await functions(engine)) == kept
        await engine.stopped()


@pytest.mark.time_limit(120)
async def test_an_engine_of_its_own_ends_with_a_killed_run_and_the_next_removes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        killed = command(tmp_path, closed.getsockname()[1])
    await until(lambda: list(tmp_path.glob("cleave-own-*/data/ports.json")), within_s=60, what="its engine serves")
    (folder,) = tmp_path.glob("cleave-own-*")
    instance = instance_of(folder / "data")
    killed.kill()
    await asyncio.to_thread(killed.wait)
    await until(lambda: not (folder / "data" / "ports.json").exists(), within_s=60, what="its engine stops")
    await until(lambda: cgroups_of(instance) == [] and not speaks_of(folder), within_s=60, what="its engine has ended")
    await asyncio.to_thread(ended, killed)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with holder.own_folder("cleave-own-"):
        assert not folder.exists()
    assert list(tmp_path.glob("cleave-own-*")) == []


def speaks_of(folder: Path) -> list[int]:
    """The processes that were started with a path in it."""
    found = psutil.process_iter(["cmdline"])
    return [process.pid for process in found if any(str(folder) in part for part in process.info["cmdline"] or ())]


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
