"""Which preloads a function may have, and what the registry says of a function that cannot be started as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import InvalidArgument, NotInvocable
from engine.fabric.sqlite import Sqlite
from engine.model.function import FunctionConfig, FunctionState
from engine.model.names import FunctionRef
from engine.registry.api import ConfigChange
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.registry.validate import PRELOAD_LIMIT, wrong_fields

GOOD = FunctionConfig("python3.11", "app.handler")


@pytest.mark.parametrize("name", ["json", "xml.sax", "_private", "a1.b2.c3", "x" * 255])
def test_a_modules_name_may_be_preloaded(name: str) -> None:
    assert wrong_fields(replace(GOOD, preload=(name,))) == {}


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "json.",
        ".json",
        "a..b",
        "1a",
        "a-b",
        "a b",
        "a,b",
        "a:b",
        "a\n",
        "é",
        "x" * 256,
        "test.__main__",
        "__main__",
    ],
)
def test_what_is_no_modules_name_is_refused(name: str) -> None:
    assert list(wrong_fields(replace(GOOD, preload=("json", name)))) == ["config.preload"]


def test_there_are_so_many_at_most() -> None:
    names = tuple(f"m{number}" for number in range(PRELOAD_LIMIT + 1))
    assert wrong_fields(replace(GOOD, preload=names[:-1])) == {}
    assert list(wrong_fields(replace(GOOD, preload=names))) == ["config.preload"]


async def test_what_cannot_be_prepared_is_not_stored(store: Sqlite, code: LocalCodeStore, sha256: str) -> None:
    asked: list[tuple[str, ...]] = []

    async def prepare(config: FunctionConfig) -> None:
        asked.append(config.preload)
        if "bad" in config.preload:
            raise NotInvocable("bad prints when it is imported", fix="leave it out")

    registry = await FunctionRegistry.open(store, code, runtimes=("python3.11",), prepare=prepare)
    with pytest.raises(InvalidArgument, match="bad prints") as refused:
        await registry.create("f", ConfigChange(runtime="python3.11", preload=("bad",)), sha256)
    assert list(refused.value.fields) == ["config.preload"]
    assert registry.list(limit=9) == ([], "")
    await registry.create("f", ConfigChange(runtime="python3.11", preload=("good",)), sha256)
    with pytest.raises(InvalidArgument):
        await registry.update("f", ConfigChange(preload=("good", "bad")))
    assert registry.get(FunctionRef("f")).config.preload == ("good",)
    # Neither what has none, nor a change of something else, has anything prepared.
    await registry.update("f", ConfigChange(description="d"))
    await registry.update("f", ConfigChange(preload=()))
    assert asked == [("bad",), ("good",), ("good", "bad")]
    await registry.close()


async def test_what_is_known_against_a_function_is_said_and_not_stored(
    store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    trouble = ""
    registry = await FunctionRegistry.open(store, code, runtimes=("python3.11",), trouble=lambda _: trouble)
    await registry.create("f", ConfigChange(runtime="python3.11"), sha256)
    trouble = "there is no python3.11 on this host any more"
    for function in (registry.get(FunctionRef("f")), registry.list(limit=9)[0][0]):
        assert (function.state, function.state_reason) == (FunctionState.FAILED, trouble)
    changed = await registry.update("f", ConfigChange(description="d"))
    assert changed.config.description == "d"
    trouble = ""
    assert registry.get(FunctionRef("f")).state is FunctionState.ACTIVE
    await registry.close()
