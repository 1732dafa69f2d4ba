"""`cleave tags`, `urls` and `permissions` against a real registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

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


async def test_tags_are_added_listed_and_removed(command: Command) -> None:
    assert "It has none." in (await command("tags", "list", "f")).err
    table = (await command("tags", "add", "f", "team=a", "note=x=y")).out.splitlines()
    assert [line.split() for line in table] == [["TAG", "VALUE"], ["note", "x=y"], ["team", "a"]]
    assert (await command("tags", "remove", "f", "note", "-o", "json")).document == {"tags": {"team": "a"}}
    assert (await command("tags", "list", "f", "-o", "json")).document == {"tags": {"team": "a"}}


async def test_urls_are_made_changed_listed_and_removed(command: Command) -> None:
    assert "cleave urls create f" in (await command("urls", "list", "f")).err
    made = (await command("urls", "create", "f", "--mode", "stream", "-o", "json")).document["url"]
    assert (made["invoke_mode"], made["auth_type"]) == ("response_stream", "none")
    shown = (await command("urls", "get", "f")).out
    assert made["host"] in shown
    assert made["path"] in shown
    ran = await command(
        "urls", "update", "f", "--mode", "buffered", "--allow-origin", "https://a.example", "-o", "json"
    )
    changed = ran.document["url"]
    assert (changed["invoke_mode"], changed["cors"]["allow_origins"]) == ("buffered", ["https://a.example"])
    assert (await command("urls", "list", "f")).out.splitlines()[1].split()[:2] == ["f", made["host"]]
    assert (await command("urls", "delete", "f")).out == "f has no URL any more.\n"
    assert (await command("urls", "list", "f", "-o", "json")).document == {"urls": []}


async def test_permissions_are_added_shown_and_removed(command: Command) -> None:
    ran = await command("permissions", "add", "f", "s3", "--principal", "s3.amazonaws.com", "-o", "json")
    assert ran.document["statement"]["Principal"] == {"Service": "s3.amazonaws.com"}
    assert '"Sid": "s3"' in (await command("permissions", "get", "f")).out
    etag = (await command("permissions", "get", "f", "-o", "json")).document["etag"]
    assert etag == ran.document["etag"]
    ran = await command("permissions", "remove", "f", "s3", "--etag", etag)
    assert ran.out == "Removed s3 from the policy of f.\n"
    assert (await command("permissions", "get", "f")).code == 1


async def test_a_policy_is_put_and_removed_as_a_whole(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"Statement": {"Sid": "all", "Effect": "Deny", "Principal": "*", "Action": "*"}}')
    put = (await command("permissions", "put", "f", str(file), "-o", "json")).document
    assert [one["Sid"] for one in put["policy"]["Statement"]] == ["all"]
    assert (await command("permissions", "put", "f", str(file), "--etag", "x")).code == 1
    assert (await command("permissions", "delete", "f")).out == "f has no policy any more.\n"
    assert (await command("permissions", "delete", "f")).code == 1


async def test_what_is_refused_says_what_to_do(command: Command) -> None:
    await command("urls", "create", "f")
    for arguments, code, why, fix in (
        (("tags", "add", "f", "team"), 2, "'team' is no tag", "NAME=VALUE"),
        (("tags", "add", "f", "aws:a=b"), 1, "not allowed for external use", ""),
        (("tags", "list", "g"), 1, "Function not found: g", "cleave list"),
        (("urls", "create", "f"), 1, "functions/f has a URL", "delete it first"),
        (("urls", "get", "f:live"), 1, "Function not found: f:live", ""),
        (("urls", "update", "f"), 2, "nothing is to be changed", "--mode"),
        (("permissions", "add", "f", "s", "--principal", "nobody"), 1, "The provided principal was invalid", ""),
        (("permissions", "add", "f", "s"), 2, "--principal", ""),
        (("permissions", "remove", "f", "s"), 1, "No policy is associated", ""),
        (("urls", "create", "f", "--mode", "x"), 2, "'x' is not one of", ""),
    ):
        ran = await command(*arguments)
        assert (ran.code, why in ran.err, fix in ran.err) == (code, True, True), ran.err
