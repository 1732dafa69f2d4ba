"""What is kept beside functions, and when it ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.errors import NotFound
from engine.model.names import FunctionRef
from engine.registry.api import ConfigChange
from engine.registry.attached import STORE_FILE, Attached, Document
from tests.compat.stub_rooms import StubCodeStore, StubRegistry, make_zip


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
