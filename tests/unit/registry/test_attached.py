"""What is kept beside functions, and when it ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from engine.errors import NotFound
from engine.fabric.sqlite import Sqlite
from engine.model.names import FunctionRef
from engine.registry.api import AliasChange, ConfigChange
from engine.registry.attached import MIGRATIONS, STORE_FILE, Attached, Document
from tests.compat.stub_rooms import CREATED, StubCodeStore, StubRegistry, make_zip


class Things:
    """A registry with functions, and what is attached to them, at a place on the disk."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STORE_FILE
        code = StubCodeStore()
        code.zips["0" * 64] = make_zip()
        self.registry = StubRegistry(code)

    async def create(self, name: str) -> None:
        await self.registry.create(name, ConfigChange(runtime="python3.11", handler="app.handler"), "0" * 64)

    async def open(self) -> Attached:
        self.registry.listeners.clear()
        self.registry.shelf._observers.clear()
        return await Attached.open(self.path, self.registry)


@pytest.fixture
async def things(tmp_path: Path) -> Things:
    things = Things(tmp_path)
    await things.create("f")
    await things.create("g")
    return things


def everything(attached: Attached) -> set[tuple[str, str, str]]:
    return {(kind, owner, key) for kind in ("tags", "url") for owner, key, _ in attached.all(kind)}


async def test_a_document_is_read_back_also_after_a_restart(things: Things) -> None:
    attached = await things.open()
    document = {"a": ["é", 1, {"b": None}], "c": 1.5}
    await attached.put("tags", "f", "", document)
    await attached.put("url", "", "id", {"own": "resource"})
    assert attached.get("tags", "f") == document
    await attached.close()
    again = await things.open()
    assert (again.get("tags", "f"), again.get("url", "", "id")) == (document, {"own": "resource"})
    assert again.get("tags", "g") is None
    await again.close()


async def test_a_deleted_document_is_gone_also_after_a_restart(things: Things) -> None:
    attached = await things.open()
    await attached.put("tags", "f", "", {"a": "b"})
    assert await attached.delete("tags", "f") is True
    assert await attached.delete("tags", "f") is False
    await attached.close()
    again = await things.open()
    assert everything(again) == set()
    await again.close()


async def test_documents_end_with_their_function_and_no_others_do(things: Things) -> None:
    attached = await things.open()
    for owner, key in (("f", ""), ("f", "live"), ("g", ""), ("", "id")):
        await attached.put("tags", owner, key, {"a": "b"})
        await attached.put("url", owner, key, {"a": "b"})
    left = {(kind, owner, key) for kind in ("tags", "url") for owner, key in (("g", ""), ("", "id"))}
    await things.registry.delete("f")
    assert everything(attached) == left
    await attached.close()
    again = await things.open()
    assert everything(again) == left
    await again.close()


async def test_what_a_killed_engine_left_of_a_deleted_function_is_no_later_ones(things: Things) -> None:
    attached = await things.open()
    await attached.put("tags", "f", "", {"a": "b"})
    await attached.put("tags", "g", "", {"a": "b"})
    things.registry.listeners.clear()  # killed before it heard of it
    await things.registry.delete("f")
    await things.registry.delete("g")
    await things.create("g")
    entries = things.registry.shelf.entries
    earlier = entries["g"].function
    entries["g"].function = replace(earlier, create_time=earlier.create_time + timedelta(microseconds=1))
    await attached.close()
    again = await things.open()
    assert everything(again) == set()
    await again.close()
    entries["f"] = entries["g"]
    last = await things.open()
    assert everything(last) == set()
    await last.close()


async def test_a_document_of_a_function_that_goes_meanwhile_is_refused_and_leaves_nothing(things: Things) -> None:
    attached = await things.open()
    writing = asyncio.ensure_future(attached.put("tags", "f", "", {"a": "b"}))
    await asyncio.sleep(0)
    await things.registry.delete("f")
    with pytest.raises(NotFound):
        await writing
    with pytest.raises(NotFound):
        await attached.put("tags", "f", "", {"a": "b"})
    await attached.close()
    await things.create("f")
    again = await things.open()
    assert everything(again) == set()
    await again.close()


async def test_changes_of_one_document_happen_one_after_another(things: Things) -> None:
    attached = await things.open()

    def add(number: int) -> Any:
        def change(before: Document | None) -> Document:
            return {"numbers": [*(before or {"numbers": []})["numbers"], number]}

        return attached.change("tags", "f", "", change)

    await asyncio.gather(*(add(number) for number in range(20)))
    assert attached.get("tags", "f") == {"numbers": list(range(20))}
    await attached.close()


async def test_a_change_that_raises_changes_nothing(things: Things) -> None:
    attached = await things.open()
    await attached.put("tags", "f", "", {"a": "b"})

    def refuse(before: Document | None) -> Document:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await attached.change("tags", "f", "", refuse)
    assert attached.get("tags", "f") == {"a": "b"}
    await attached.close()


async def test_a_write_of_a_caller_that_goes_away_is_finished(things: Things) -> None:
    attached = await things.open()
    writing = asyncio.ensure_future(attached.put("tags", "f", "", {"a": "b"}))
    await asyncio.sleep(0)
    writing.cancel()
    await attached.close()
    assert attached.get("tags", "f") == {"a": "b"}
    again = await things.open()
    assert again.get("tags", "f") == {"a": "b"}
    await again.close()
    assert things.registry.get(FunctionRef("f")).name == "f"


async def alias(things: Things, name: str) -> None:
    version = (await things.registry.versions.publish("f")).version
    await things.registry.aliases.create("f", name, AliasChange(version=version))


async def test_documents_end_with_their_alias_or_version_and_no_others_do(things: Things) -> None:
    attached = await things.open()
    await alias(things, "live")
    await alias(things, "next")
    for key in ("", "$LATEST", "live", "next", "1"):
        await attached.put("tags", "f", key, {"a": "b"})
        await attached.put("url", "f", key, {"a": "b"})
    await things.registry.aliases.delete("f", "live")
    assert {key for _, _, key in everything(attached)} == {"", "$LATEST", "next", "1"}
    await alias(things, "live")
    assert (attached.get("url", "f", "live"), attached.get("tags", "f", "live")) == (None, None)
    for name in ("live", "next"):
        await things.registry.aliases.delete("f", name)
    await things.registry.versions.delete("f", "1")
    left = {(kind, "f", key) for kind in ("tags", "url") for key in ("", "$LATEST")}
    assert everything(attached) == left
    await attached.close()
    again = await things.open()
    assert everything(again) == left
    await again.close()


async def test_what_a_killed_engine_left_of_a_deleted_alias_or_version_is_no_later_ones(things: Things) -> None:
    attached = await things.open()
    await alias(things, "live")
    for key in ("live", "1", "id"):
        await attached.put("url", "f", key, {"a": "b"})
    things.registry.shelf._observers.clear()  # killed before it heard of it
    await things.registry.aliases.delete("f", "live")
    await things.registry.versions.delete("f", "1")
    await alias(things, "live2")
    entry = things.registry.shelf.entries["f"]
    later = entry.aliases.pop("live2")
    entry.aliases["live"] = replace(later, name="live", create_time=later.create_time + timedelta(microseconds=1))
    await attached.close()
    for _ in range(2):
        again = await things.open()
        assert everything(again) == {("url", "f", "id")}
        await again.close()


async def test_a_document_of_an_alias_that_goes_meanwhile_is_refused_and_leaves_nothing(things: Things) -> None:
    attached = await things.open()
    await alias(things, "live")
    writing = asyncio.ensure_future(attached.put("url", "f", "live", {"a": "b"}))
    await asyncio.sleep(0)
    await things.registry.aliases.delete("f", "live")
    with pytest.raises(NotFound):
        await writing
    await attached.close()
    again = await things.open()
    assert everything(again) == set()
    await again.close()


async def test_what_an_earlier_release_kept_of_an_alias_that_is_gone_is_dropped(things: Things) -> None:
    await alias(things, "live")
    store = await Sqlite.open(things.path, MIGRATIONS[:1])
    born = int(CREATED.timestamp() * 1_000_000)

    def write(connection: apsw.Connection) -> None:
        for key in ("", "$LATEST", "live", "gone", "1", "7"):
            connection.execute("INSERT INTO attached VALUES ('url', 'f', ?, ?, '{}')", (key, born))

    await store.run(write)
    await store.close()
    attached = await things.open()
    assert {key for _, _, key in everything(attached)} == {"", "$LATEST", "live", "1"}
    await attached.put("tags", "f", "live", {"a": "b"})
    await things.registry.aliases.delete("f", "live")
    await alias(things, "live")
    await attached.close()
    again = await things.open()
    assert {key for _, _, key in everything(again)} == {"", "$LATEST", "1"}
    await again.close()
