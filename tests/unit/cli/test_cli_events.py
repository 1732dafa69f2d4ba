"""`cleave events` and `cleave invoke --async` against a real registry and a real queue."""

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
    async with served(tmp_path, async_concurrency=0) as it:
        yield it


@pytest.fixture
def command(it: Served, run: Cleave, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in a thread, for the engine's front is on this event loop."""
    monkeypatch.setenv("CLEAVE_GRPC_ADDRESS", it.address)
    return lambda *arguments: asyncio.to_thread(run, *arguments)


async def test_an_event_is_sent_and_shown_until_it_is_done_with(command: Command) -> None:
    assert (await command("events", "queue")).err == "None waits.\n"
    sent = await command("invoke", "f", "--async", "-d", '{"a": 1}')
    request_id = sent.out.strip()
    assert "cleave logs f" in sent.err
    row = (await command("events", "queue", "f")).out.splitlines()[1].split()
    assert (row[0], row[1], row[3:]) == ("f", request_id, ["0", "next"])
    second = (await command("invoke", "f", "--async", "-o", "json")).document["request_id"]
    shown = (await command("events", "queue", "-o", "json")).document
    assert [event["request_id"] for event in shown["events"]] == [request_id, second]
    assert shown["more"] is False
    cut = await command("events", "queue", "--limit", "1")
    assert "There are more" in cut.err


async def test_nobody_waits_for_a_log_or_a_stream_of_an_event_that_runs_later(command: Command, it: Served) -> None:
    for flag in ("--stream", "--log", "--timeline"):
        ran = await command("invoke", "f", "--async", flag)
        assert ran.code == 2
    assert it.events.queued(limit=1) == ([], 0)


async def test_configurations_are_put_shown_changed_listed_and_removed(command: Command) -> None:
    assert "cleave events put f" in (await command("events", "list", "f")).err
    topic = "arn:aws:sns:us-east-1:000000000000:t"
    put = (await command("events", "put", "f", "--retries", "0", "--on-failure", topic, "-o", "json")).document[
        "config"
    ]
    assert (put["maximum_retry_attempts"], put["on_failure"]) == (0, topic)
    shown = (await command("events", "update", "f", "--max-age", "60", "--on-failure", "")).out
    assert shown == "retries: 0\nmaximum age: 60 s\n"
    assert (await command("events", "get", "f")).out == shown
    assert (await command("events", "list", "f")).out.splitlines()[1].split() == ["f", "0", "60", "s"]
    assert (await command("events", "delete", "f")).out == "f has no configuration of its events any more.\n"
    ran = await command("events", "get", "f")
    assert ran.code == 1
    assert "no event-invoke configuration" in ran.err
    wrong = await command("events", "put", "f", "--retries", "3")
    assert "maximum_retry_attempts" in wrong.err
