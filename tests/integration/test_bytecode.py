"""Modules are compiled once, in a sandbox, when the code arrives: seen through whole engines."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.registry.api import LayerContent
from tests.doors import zip_of
from tests.engines import engine
from tests.integration.test_engine_parked import PARKS, some_parked
from tests.remains import nothing_left, until

pytestmark = pytest.mark.privileged

FILES = {
    "app.py": "from pkg import mod\ndef handler(event, context):\n    return mod.TEXT, 'fresh', __cached__\n",
    "pkg/__init__.py": "",
    "pkg/mod.py": "TEXT = 'module'\n",
    "broken.py": "def of another Python\n",
    "readme.txt": "no module",
}


def bytecode(data_dir: Path) -> dict[str, Path]:
    """What was compiled for this Python, by the path in the code."""
    suffix = f".{sys.implementation.cache_tag}.pyc"
    found: dict[str, Path] = {}
    for task in (data_dir / "code" / "blobs").glob("*/task"):
        found |= {str(path.relative_to(task)): path for path in task.rglob(f"*{suffix}")}
    return {name.removesuffix(suffix).replace("__pycache__/", ""): path for name, path in found.items()}


def gone_through(data_dir: Path) -> list[Path]:
    """The marks of code of which no more bytecode will come."""
    return sorted((data_dir / "code" / "blobs").glob("*/bytecode-*"))


async def compiled(data_dir: Path, codes: int = 1) -> None:
    """Wait until the engine has been through so many."""
    await until(lambda: len(gone_through(data_dir)) == codes, within_s=30, what=f"{codes} are compiled")


async def test_cold_starts_run_what_was_compiled_when_the_code_came(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with engine(data, compile_ahead=True) as running:
        await running.grpc.create("f", zip_of(FILES))
        await compiled(data)
        found = bytecode(data)
        assert sorted(found) == ["app", "pkg/__init__", "pkg/mod"]
        # The source stays what it is, so that only bytecode can say this.
        found["app"].write_bytes(found["app"].read_bytes().replace(b"fresh", b"cache"))
        found["pkg/mod"].write_bytes(found["pkg/mod"].read_bytes().replace(b"module", b"CACHED"))
        answer = await running.grpc.invoke("f")
        assert answer.json() == ["CACHED", "cache", f"/var/task/__pycache__/app.{sys.implementation.cache_tag}.pyc"]
    await nothing_left(data)


async def test_compiling_runs_none_of_the_code_and_takes_nobody_s_parked_sandbox(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with engine(data, compile_ahead=True, **PARKS) as running:
        await some_parked(running.grpc, 2)
        await running.grpc.create("f", zip_of({"app.py": "while True:\n    pass\n", "os.py": "raise SystemExit\n"}))
        await compiled(data)
        assert sorted(bytecode(data)) == ["app", "os"]
        host = await running.grpc.counts()
        parked = next(one for one in host.resources if one.kind == "parked")
        assert parked.removed == 0
    await nothing_left(data)


async def test_code_is_compiled_once_for_all_its_functions_and_for_good(tmp_path: Path) -> None:
    data = tmp_path / "data"
    code = zip_of(FILES)
    async with engine(data) as running:  # which compiles nothing
        await running.grpc.create("first", code)
    assert gone_through(data) == []
    async with engine(data, compile_ahead=True) as running:
        await compiled(data)
        before = {path: path.stat().st_mtime_ns for path in bytecode(data).values()}
        await running.grpc.create("second", code)
        await running.grpc.create("other", zip_of("def handler(event, context):\n    return 1\n"))
        await compiled(data, 2)
    async with engine(data, compile_ahead=True) as running:
        await running.grpc.create("last", zip_of("def handler(event, context):\n    return 2\n"))
        await compiled(data, 3)
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert (await running.grpc.invoke("second")).json()[0] == "module"


async def test_an_engine_that_stops_meanwhile_leaves_nothing_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    many = {f"m{number}.py": "x = [" + "1 + 2j, " * 2_000 + "]\n" for number in range(100)}
    async with engine(data, compile_ahead=True) as running:
        await running.grpc.create("f", zip_of(many | FILES))
    await nothing_left(data)
    assert list((data / "code" / "tmp").iterdir()) == []
    async with engine(data, compile_ahead=True) as running:
        await compiled(data)
        assert len(bytecode(data)) == 103
        assert (await running.grpc.invoke("f")).json()[:2] == ["module", "fresh"]


async def test_what_cannot_be_compiled_is_run_as_it_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    # Deeper than any compiler goes; some end by a crash.
    source = "def handler(event, context):\n    return 1\nif 0:\n    x = " + "-" * 500_000 + "1\n"
    async with engine(data, compile_ahead=True) as running:
        await running.grpc.create("deep", zip_of({"app.py": "def handler(e, c):\n    return 1\n", "deep.py": source}))
        await running.grpc.create("next", zip_of(FILES))
        await until(lambda: "pkg/mod" in bytecode(data), within_s=30, what="the next code is compiled")
        assert (await running.grpc.invoke("deep")).json() == 1
    await nothing_left(data)


async def test_modules_of_layers_are_compiled_too_and_never_taken_for_another_layers(tmp_path: Path) -> None:
    data = tmp_path / "data"
    app = "import both, own\ndef handler(event, context):\n    return [both.x, own.x, own.__cached__]\n"
    async with engine(data, compile_ahead=True) as running:
        registry, store = running.service.parts.registry, running.service.parts.code
        layers = []
        for name, files in (
            ("base", {"python/both.py": "x = 'base'\n", "python/own.py": "x = 'fresh'\n"}),
            ("more", {"python/both.py": "x = 'more'\n"}),
        ):
            blob = await store.add(whole(zip_of(files)))
            layers.append((await registry.layers.publish(name, LayerContent(blob.sha256))).ref.resource_name())
        await running.grpc.create("f", zip_of(app), layers=layers)
        await compiled(data, 3)
        found = bytecode(data)
        assert sorted(found) == ["app", "python/both", "python/own"]
        found["python/own"].write_bytes(found["python/own"].read_bytes().replace(b"fresh", b"cache"))
        # As if the later layer had no bytecode yet: what the earlier one has is there in its place.
        for path in (data / "code" / "blobs").glob("*/task/python/__pycache__/both.*"):
            if b"more" in path.read_bytes():
                path.unlink()
        await running.grpc.update("f", memory_mb=256)
        cached = f"/opt/python/__pycache__/own.{sys.implementation.cache_tag}.pyc"
        assert (await running.grpc.invoke("f")).json() == ["more", "cache", cached]
    await nothing_left(data)


async def whole(data: bytes) -> AsyncIterator[bytes]:
    yield data
