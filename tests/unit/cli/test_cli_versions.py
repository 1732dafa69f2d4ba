"""`cleave versions`, `aliases` and `concurrency` against a real registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from engine.registry.api import ConfigChange
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


async def test_versions_are_published_listed_and_deleted(command: Command, it: Served) -> None:
    assert "cleave versions publish f" in (await command("versions", "list", "f")).err
    ran = await command("versions", "publish", "f", "--description", "the first")
    assert ran.out.startswith("Version 1 of f.")
    assert "cleave invoke f:1" in ran.out
    again = await command("versions", "publish", "f", "-o", "json")
    assert again.document["version"]["version"] == "1", "nothing has changed"
    latest = await it.registry.update("f", ConfigChange(memory_mb=256))
    ran = await command(
        "versions", "publish", "f", "--etag", latest.etag, "--code-sha256", latest.code_sha256, "-o", "json"
    )
    assert ran.document["version"]["name"] == "functions/f/versions/2"
    table = (await command("versions", "list", "f")).out.splitlines()
    assert [line.split()[0] for line in table] == ["VERSION", "1", "2"]
    assert "the first" in table[1]
    assert (await command("get", "f:1", "-o", "json")).document["function"]["version"] == "1"
    assert (await command("versions", "delete", "f:1")).out == "Deleted version 1 of f.\n"
    listed = (await command("versions", "list", "f", "-o", "json")).document["versions"]
    assert [version["version"] for version in listed] == ["2"]


async def test_what_is_refused_says_what_to_do(command: Command) -> None:
    await command("versions", "publish", "f")
    await command("aliases", "create", "f", "live", "1")
    for arguments, code, why, fix in (
        (("versions", "delete", "f"), 2, "names no version", "f:1"),
        (("versions", "delete", "f:live"), 2, "names no version", "f:1"),
        (("versions", "delete", "f:1"), 1, "the following aliases reference it: [live]", "point them"),
        (("versions", "delete", "f:7"), 1, "Function not found: f:7", "cleave versions list f"),
        (("versions", "publish", "g"), 1, "Function not found: g", "cleave list"),
        (("versions", "publish", "f", "--etag", "x"), 1, "changed by somebody else", "cleave get f"),
        (("delete", "f:1", "--yes"), 2, "a part of one", "cleave versions delete f:1"),
        (("delete", "f:live", "--yes"), 2, "a part of one", "cleave aliases delete f live"),
        (("aliases", "create", "f", "live", "1"), 1, "Alias already exists: f:live", "cleave aliases update f live"),
        (("aliases", "create", "f", "x", "1", "--weight", "2"), 2, "no VERSION=SHARE", "2=0.1"),
        (("aliases", "update", "f", "live"), 2, "nothing is to be changed", "--version"),
        (("aliases", "update", "f", "live", "--weight", "1=0.5"), 1, "already included", "weights"),
        (("aliases", "update", "f", "live", "--weight", "2=0.5", "--no-weights"), 2, "exclude", "one of them"),
        (("aliases", "create", "f", "x", "9"), 1, "Function not found: f:9", "cleave versions list f"),
        (("aliases", "create", "f", "x", "1", "--weight", "9=0.5"), 1, "not found: f:9", "cleave versions list f"),
        (("aliases", "create", "f", "x", "1", "--weight", "1=1.5"), 1, "shares of 0 to 1", "correct weights"),
        (("concurrency", "provision", "f:$LATEST", "1"), 2, "not published", "f:1"),
        (("aliases", "get", "f", "no"), 1, "Cannot find alias: f:no", "cleave aliases list f"),
        (("concurrency", "reserve", "f", "901"), 1, "below its minimum value of [100]", "reserve less"),
        (("concurrency", "provision", "f", "1"), 2, "not published", "f:1"),
        (("concurrency", "provision", "f:9", "1"), 1, "Function not found: f:9", "cleave versions list f"),
    ):
        ran = await command(*arguments)
        assert ran.code == code, arguments
        told, advice = ran.err.split("\n  Fix: ")
        assert why in told
        assert fix in advice


async def test_aliases_are_created_shown_changed_and_deleted(command: Command, it: Served) -> None:
    await command("versions", "publish", "f")
    await it.registry.update("f", ConfigChange(memory_mb=256))
    await command("versions", "publish", "f")
    assert "cleave aliases create f live 1" in (await command("aliases", "list", "f")).err
    ran = await command("aliases", "create", "f", "live", "1", "--weight", "2=0.25", "--description", "used")
    assert "0.25" in ran.out
    table = (await command("aliases", "list", "f")).out.splitlines()
    assert table[0].split()[:3] == ["ALIAS", "VERSION", "SHARES"]
    assert table[1].split()[:3] == ["live", "1", "2=0.25"]
    shown = (await command("aliases", "get", "f", "live", "-o", "json")).document["alias"]
    assert (shown["weights"], shown["description"]) == ({"2": 0.25}, "used")
    ran = await command("aliases", "update", "f", "live", "--version", "2", "--no-weights", "--etag", shown["etag"])
    assert ran.code == 0
    changed = it.registry.aliases.get("f", "live")
    assert (changed.version, changed.weights, changed.description) == ("2", (), "used")
    assert not (await command("aliases", "list", "f", "--version", "1", "-o", "json")).document["aliases"]
    assert (await command("aliases", "delete", "f", "live", "--etag", shown["etag"])).code == 1
    assert (await command("aliases", "delete", "f", "live")).out == "Deleted alias live of f.\n"
    assert it.registry.aliases.list("f", limit=9) == ([], "")


async def test_concurrency_is_reserved_provisioned_shown_and_given_back(command: Command, it: Served) -> None:
    await command("versions", "publish", "f")
    assert (await command("concurrency", "get", "f")).out == "Reserved: nothing of its own\n"
    assert (await command("concurrency", "reserve", "f", "5")).out == "Reserved 5 for f.\n"
    ran = await command("concurrency", "provision", "f:1", "2")
    assert ran.out.startswith("Asked for 2 of f:1; failed: ")
    reserved, head, row = (await command("concurrency", "get", "f")).out.splitlines()
    assert reserved == "Reserved: 5"
    assert head.split()[0] == "PROVISIONED"
    assert row.split()[:5] == ["1", "2", "0", "0", "failed"]
    document = (await command("concurrency", "get", "f", "-o", "json")).document
    assert document["reserved_concurrent_executions"] == 5
    assert document["provisioned"][0]["requested"] == 2
    account = (await command("concurrency", "account", "-o", "json")).document
    assert (account["concurrent_executions"], account["unreserved_concurrent_executions"]) == (1_000, 995)
    assert (await command("concurrency", "unprovision", "f:1")).code == 0
    assert (await command("concurrency", "unreserve", "f")).code == 0
    assert it.registry.concurrency.reserved("f") is None
    assert it.registry.concurrency.list_provisioned("f", limit=9) == ([], "")
