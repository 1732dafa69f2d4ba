"""A function that is not ready is refused at once, by both doors, as AWS Lambda refuses it: nothing waits for it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from engine.registry.schema import STORE_FILE
from tests.doors import Refused, zip_of
from tests.engines import engine
from tests.remains import leaves_of

pytestmark = pytest.mark.privileged

SAYS = (
    "The operation cannot be performed at this time. The function is currently in the following state: Pending: making"
)


def put_state(data_dir: Path, state: str, reason: str) -> None:
    """Nothing in this release takes so long that a function would be Pending: write it down as if it had."""
    with contextlib.closing(sqlite3.connect(data_dir / STORE_FILE)) as store, store:
        store.execute("UPDATE functions SET state = ?, state_reason = ?", (state, reason))


async def test_a_pending_function_is_refused_and_serves_once_it_is_active(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with engine(data_dir) as running:
        await running.grpc.create("late", zip_of("def handler(event, context):\n    return 'here'\n"))
    put_state(data_dir, "pending", "making")
    async with engine(data_dir) as running:
        with pytest.raises(Refused) as by_grpc:
            await running.grpc.invoke("late")
        with pytest.raises(Refused) as by_http:
            await running.http.invoke("late")
        assert leaves_of(running.instance) == []
    assert (by_grpc.value.code, by_grpc.value.kind) == ("FAILED_PRECONDITION", "NOT_INVOCABLE")
    assert (by_http.value.code, by_http.value.kind) == (409, "ResourceConflictException")
    assert by_grpc.value.message.startswith(SAYS)
    assert by_http.value.message.startswith(SAYS)
    put_state(data_dir, "active", "")
    async with engine(data_dir) as running:
        assert (await running.grpc.invoke("late")).json() == "here"
        assert (await running.http.invoke("late")).json() == "here"
