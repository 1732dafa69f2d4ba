"""A registry and a code store in a folder of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.fabric.sqlite import Sqlite
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.registry.schema import MIGRATIONS, STORE_FILE
from tests.unit.registry.zips import ordinary, pieces

RUNTIMES = ("python3.11", "python3.12")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Sqlite]:
    store = await Sqlite.open(tmp_path / STORE_FILE, MIGRATIONS)
    yield store
    await store.close()


@pytest.fixture
async def code(tmp_path: Path) -> AsyncIterator[LocalCodeStore]:
    code = await LocalCodeStore.open(tmp_path / "code")
    yield code
    await code.close()


@pytest.fixture
async def registry(store: Sqlite, code: LocalCodeStore) -> FunctionRegistry:
    return await FunctionRegistry.open(store, code, runtimes=RUNTIMES, default_runtime="python3.11")


@pytest.fixture
async def sha256(code: LocalCodeStore) -> str:
    """Code that is in the store."""
    return (await code.add(pieces(ordinary({"app.py": "def handler(event, context): return event\n"})))).sha256
