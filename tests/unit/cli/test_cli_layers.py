"""`cleave layers` and `cleave deploy --layer` against a real registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from engine.model.layer import LayerRef
from engine.model.names import FunctionRef
from tests.registries import Served, served

from .conftest import Cleave, Ran

Command = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as it:
        yield it


@pytest.fixture
def command(it: Served, run: Cleave, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in a thread, for the engine's front is on this event loop."""
    monkeypatch.setenv("CLEAVE_GRPC_ADDRESS", it.address)
    return lambda *arguments: asyncio.to_thread(run, *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "deps" / "python").mkdir(parents=True)
    (tmp_path / "deps" / "python" / "dep.py").write_text("x = 1")
    return str(tmp_path / "deps")


async def test_a_layer_is_published_listed_shown_and_deleted(command: Command, folder: str) -> None:
    assert "cleave layers publish deps FOLDER" in (await command("layers", "list")).err
    ran = await command("layers", "publish", "deps", folder, "--runtime", "python3.11", "--license", "MIT")
    assert ran.out.startswith("Published deps:1, ")
    assert ran.out.endswith("cleave deploy FOLDER --layer deps:1\n")
    made = (await command("layers", "publish", "deps", folder, "--description", "d", "-o", "json")).document
    assert (made["layer_version"]["name"], made["layer_version"]["description"]) == ("layers/deps/versions/2", "d")
    rows = (await command("layers", "list", "deps")).out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["deps:2", "deps:1"]
    assert [row.split()[0] for row in (await command("layers", "list")).out.splitlines()[1:]] == ["deps:2"]
    found = (await command("layers", "list", "--runtime", "python3.11", "-o", "json")).document["layer_versions"]
    assert [one["name"] for one in found] == ["layers/deps/versions/1"]
    shown = (await command("layers", "get", "deps:1")).out
    assert "arn:aws:lambda:us-east-1:000000000000:layer:deps:1" in shown
    assert "license: MIT" in shown
    same = (await command("layers", "get", "layers/deps/versions/2", "-o", "json")).document
    assert same == made
    assert "deps:1 is there no more" in (await command("layers", "delete", "deps:1")).out
    gone = await command("layers", "get", "deps:1")
    assert gone.code != 0
    assert "does not exist" in gone.err


async def test_a_function_is_deployed_with_layers_and_without(
    command: Command, it: Served, folder: str, tmp_path: Path
) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "app.py").write_text("def handler(event, context): pass")
    code = str(tmp_path / "f")

    def layers() -> list[LayerRef]:
        return [layer.ref for layer in it.registry.get(FunctionRef("f")).config.layers]

    for name in ("base", "more"):
        await command("layers", "publish", name, folder)
    assert (await command("deploy", code, "--layer", "base:1", "--layer", "more:1")).code == 0
    assert layers() == [("base", 1), ("more", 1)]
    ran = await command("get", "f", "-o", "json")
    assert [one["name"] for one in ran.document["function"]["layers"]] == [
        "layers/base/versions/1",
        "layers/more/versions/1",
    ]
    await command("deploy", code)
    assert layers() == [("base", 1), ("more", 1)]
    missing = await command("deploy", code, "--layer", "base:9")
    assert "Layer version layers/base/versions/9 does not exist." in missing.err
    assert "NAME:VERSION" in (await command("deploy", code, "--layer", "base")).err
    await command("deploy", code, "--no-layers")
    assert layers() == []


async def test_permissions_are_added_shown_and_removed(command: Command, folder: str) -> None:
    await command("layers", "publish", "deps", folder)
    ran = await command("layers", "permissions", "add", "deps:1", "all", "--principal", "*", "-o", "json")
    assert ran.document["statement"]["Action"] == "lambda:GetLayerVersion"
    assert '"Sid": "all"' in (await command("layers", "permissions", "get", "deps:1")).out
    etag = (await command("layers", "permissions", "get", "deps:1", "-o", "json")).document["etag"]
    assert "Added one" in (await command("layers", "permissions", "add", "deps:1", "one", "--principal", "*")).out
    stale = await command("layers", "permissions", "remove", "deps:1", "all", "--etag", etag)
    assert stale.code != 0
    assert "Removed all" in (await command("layers", "permissions", "remove", "deps:1", "all")).out
    ran = await command("layers", "permissions", "remove", "deps:1", "one", "-o", "json")
    assert ran.document == {"statement_id": "one"}
    assert "No policy is associated" in (await command("layers", "permissions", "get", "deps:1")).err
