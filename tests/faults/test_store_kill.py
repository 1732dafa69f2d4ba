"""kill -9 of a writer at any instant: what was acknowledged is there, what was half-made is not."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine.fabric.datadir import DataDir
from engine.fabric.sqlite import Sqlite
from engine.model.function import Function
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.registry.schema import MIGRATIONS, STORE_FILE

ROOT = Path(__file__).resolve().parents[2]
STEPS_OF_A_ROUND = 272  # operations on the file system until the writer has created, changed, deleted and swept


class Model:
    """What there has to be: for each function, version and layer the SHA-256 of its code, for each alias its version,
    for each reservation its size; "" for none, and two where a write was cut off."""

    def __init__(self) -> None:
        self.allowed: dict[str, set[str]] = {}

    def take(self, lines: bytes) -> bool:
        """Learn from what a writer said; return whether it got as far as opening the store."""
        opened = False
        for line in lines.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                continue
            what, name, sha256 = json.loads(line)
            opened = opened or what == "open"
            if what == "try":
                self.allowed.setdefault(name, {""}).add(sha256)
            elif what == "done":
                self.allowed[name] = {sha256}
        return opened

    def settle(self, there: Mapping[str, str]) -> None:
        """Compare, and remember which way the write that was cut off went."""
        assert there.keys() <= self.allowed.keys()
        for name, allowed in self.allowed.items():
            found = there.get(name, "")
            assert found in allowed, name
            self.allowed[name] = {found}


def start(path: Path, run: int, step: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.store_writer", str(path), str(run), str(step)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )


async def check(path: Path, model: Model) -> None:
    with DataDir.open(path) as data:
        store = await Sqlite.open(data.path / STORE_FILE, MIGRATIONS)
        code = await LocalCodeStore.open(data.path / "code")
        registry = await FunctionRegistry.open(store, code, runtimes=["python3.11"])
        functions, more = registry.list(limit=1_000_000)
        assert not more
        layers, _ = registry.layers.list(limit=1_000_000)
        there = {f"{layer.ref.name} layer": layer.code_sha256 for layer in layers}
        model.settle(there | dict(pair for function in functions for pair in found(registry, function)))
        for function in registry.everything():
            await check_code(code, function.code_sha256)
            (layer,) = function.config.layers
            await check_code(code, layer.code_sha256)
        assert os.listdir(path / "code" / "tmp") == []
        for sha256 in os.listdir(path / "code" / "blobs"):
            await check_code(code, sha256)
        await code.sweep(registry.referenced_code(), 0)
        assert set(os.listdir(path / "code" / "blobs")) == registry.referenced_code()
        await code.close()
        await store.close()


def found(registry: FunctionRegistry, function: Function) -> Iterator[tuple[str, str]]:
    """A function and what belongs to it, as the model has them."""
    name = function.name
    yield name, function.code_sha256
    for version in registry.versions.list(name, limit=10)[0]:
        yield f"{name}:{version.version}", version.code_sha256
    for alias in registry.aliases.list(name, limit=10)[0]:
        yield f"{name}:{alias.name}", alias.version
    if registry.concurrency.reserved(name) is not None:
        yield f"{name} reserved", str(registry.concurrency.reserved(name))


async def check_code(code: LocalCodeStore, sha256: str) -> None:
    """The zip is the one that was uploaded, and what is mounted is all that is in it and nothing else."""
    data = b"".join([piece async for piece in code.read_zip(sha256)])
    assert hashlib.sha256(data).hexdigest() == sha256
    task = Path(code.get(sha256).path)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        wanted = {name: archive.read(name) for name in archive.namelist()}
    found = {}
    for file in task.rglob("*"):
        if file.is_symlink():
            found[str(file.relative_to(task))] = os.readlink(file).encode()
        elif file.is_file():
            found[str(file.relative_to(task))] = file.read_bytes()
    assert found == wanted


@pytest.mark.time_limit(300)
async def test_a_writer_killed_before_any_operation_on_the_files_loses_and_leaves_nothing(
    tmp_path: Path, counts: Mapping[str, int]
) -> None:
    model = Model()
    kills = counts["kills"]
    for run in range(kills):
        step = 1 + run * STEPS_OF_A_ROUND // kills if kills < STEPS_OF_A_ROUND else 1 + run % STEPS_OF_A_ROUND
        with start(tmp_path, run, step) as writer:
            said, _ = writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        assert model.take(said)
        await check(tmp_path, model)
    assert any(sha256 for allowed in model.allowed.values() for sha256 in allowed), "nothing was ever acknowledged"


@pytest.mark.time_limit(300)
async def test_a_writer_killed_at_random_instants_loses_and_leaves_nothing(
    tmp_path: Path, counts: Mapping[str, int]
) -> None:
    chance = random.Random(4)
    model = Model()
    for run in range(counts["kills"] // 2):
        with start(tmp_path, run) as writer:
            assert writer.stdout is not None
            said = b"".join(writer.stdout.readline() for _ in range(chance.randrange(1, 12)))
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(chance.random() * 0.02)
            writer.kill()
            said += writer.stdout.read()
        assert model.take(said)
        await check(tmp_path, model)
