"""Stored logs are searched in pages that together have each event once, in the order of their times."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from engine.model.invocation import LogBatch
from engine.observe import log_search
from engine.observe.function_logs import FunctionLogs
from engine.observe.log_search import Page, Search, StoredEvent

NOW_US = time.time_ns() // 1_000
MINUTE_US = 60_000_000
BOTH = ("f", "g")


@pytest.fixture
async def logs(tmp_path: Path) -> AsyncIterator[FunctionLogs]:
    logs = await opened(tmp_path)
    yield logs
    await logs.close()


async def opened(folder: Path) -> FunctionLogs:
    return await FunctionLogs.open(
        folder / "logs", set(BOTH), keep_days=1, keep_mb=64, total_mb=64, mb_per_s=100, wall_us=lambda: NOW_US
    )


def batch(at_us: int, *texts: str, stream: str = "s1") -> LogBatch:
    return LogBatch(NOW_US - at_us, "r", stream, [text.encode() for text in texts])


async def pages(logs: FunctionLogs, query: Search, names: Collection[str] = ("f",)) -> list[Page]:
    found = []
    while True:
        page = await logs.search(names, query)
        found.append(page)
        if page.beyond is None:
            return found
        query = Search(**{**{name: getattr(query, name) for name in query.__struct_fields__}, "beyond": page.beyond})


def events(some: list[Page]) -> list[StoredEvent]:
    return [event for page in some for event in page.events]


def texts(some: list[Page]) -> list[str]:
    return [event.text.decode() for event in events(some)]


async def written(logs: FunctionLogs, name: str, *batches: LogBatch) -> None:
    """As a block of its own."""
    for one in batches:
        logs.append(name, one)
    await logs.sizes()


async def test_pages_have_each_event_once_by_time_whatever_the_order_it_was_stored_in(logs: FunctionLogs) -> None:
    draws = random.Random(7)
    expected = {name: [] for name in BOTH}  # type: dict[str, list[tuple[int, str]]]
    for block in range(12):
        for name in BOTH:
            late = [draws.randrange(30) * MINUTE_US + draws.randrange(MINUTE_US) for _ in range(3)]
            await written(logs, name, *(batch(at, f"{name}{block}.{n}", "more") for n, at in enumerate(late)))
            expected[name] += [(NOW_US - at, f"{name}{block}.{n}") for n, at in enumerate(late)]
    for names in (("f",), BOTH):
        by_time = [text for _, text in sorted(one for name in names for one in expected[name])]
        for newest_first in (False, True):
            some = await pages(logs, Search(7, 1 << 20, newest_first=newest_first), names)
            found = [text for text in texts(some) if text != "more"]
            assert found == (by_time[::-1] if newest_first else by_time)
            assert all(len(page.events) == 7 for page in some[:-1])
            ids = [event.id for event in events(some)]
            assert ids == sorted(set(ids), reverse=newest_first)
            assert all(len(f"{event.id:056d}") == 56 for event in events(some))


async def test_an_event_keeps_its_id_through_a_restart_and_has_a_time_at_which_it_was_stored(tmp_path: Path) -> None:
    before = await opened(tmp_path)
    await written(before, "f", batch(9_000, "a", "b"), batch(9_000, "b"), batch(5_000, "c"))
    first = events(await pages(before, Search(10, 1 << 20)))
    await before.close()
    after = await opened(tmp_path)
    await written(after, "f", batch(0, "d"))
    again = events(await pages(after, Search(10, 1 << 20)))
    assert again[:4] == first
    assert [event.text for event in again] == [b"a", b"b", b"b", b"c", b"d"]
    assert len({event.id for event in again}) == 5
    assert [event.stored_us - event.time_us for event in first] == [4_000, 4_000, 4_000, 0]
    await after.close()


async def test_times_streams_and_texts_are_chosen(logs: FunctionLogs) -> None:
    await written(logs, "f", batch(3_000_000, "a1", "b1"), batch(2_000_000, "a2", stream="s2"))
    await written(logs, "f", batch(1_000_000, "b2"), batch(0, "a3"))
    now_ms = NOW_US // 1_000
    for query, expected in (
        (Search(9, 1 << 20, since_ms=now_ms - 2_000), ["a2", "b2", "a3"]),
        (Search(9, 1 << 20, until_ms=now_ms - 1_000), ["a1", "b1", "a2"]),
        (Search(9, 1 << 20, wants_stream=lambda name: name == "s2"), ["a2"]),
        (Search(9, 1 << 20, wants_stream=lambda name: name == "s3"), []),
        (Search(9, 1 << 20, matches=lambda line: line.startswith(b"a")), ["a1", "a2", "a3"]),
        (Search(2, 1 << 20, newest_first=True), ["a3", "b2", "a2", "b1", "a1"]),
        (Search(9, 1), ["a1", "b1", "a2", "b2", "a3"]),
    ):
        assert texts(await pages(logs, query)) == expected
    assert [len(page.events) for page in await pages(logs, Search(9, 2 * (2 + log_search.EVENT_COST_BYTES)))] == [
        2,
        2,
        1,
    ]


async def test_a_search_that_finds_little_ends_after_what_a_page_may_read_and_goes_on_from_there(
    logs: FunctionLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_search, "SCAN_BYTES", 100)
    # Each block reaches back to the first: what a page has read already must not be all that the next one reads.
    for n in range(8):
        await written(
            logs, "f", batch((100 - n) * MINUTE_US, f"old{n}"), batch(MINUTE_US - n // 2 * 2_000, "needle", "hay" * 50)
        )
    for newest_first in (False, True):
        some = await pages(logs, Search(99, 1 << 20, newest_first=newest_first, matches=lambda line: line == b"needle"))
        assert 2 <= len(some) <= 10
        assert texts(some) == ["needle"] * 8


async def test_streams_have_the_times_of_their_lines_also_those_that_come_later(logs: FunctionLogs) -> None:
    assert await logs.streams(BOTH) == {}
    await written(logs, "f", batch(9_000, "a"), batch(8_000, "b", stream="s2"))
    spans = await logs.streams(BOTH)
    assert {name: (NOW_US - span.first_us, NOW_US - span.last_us) for name, span in spans.items()} == {
        "s1": (9_000, 9_000),
        "s2": (8_000, 8_000),
    }
    await written(logs, "f", batch(7_000, "c"))
    await written(logs, "g", batch(1, "d", stream="s3"))
    spans = await logs.streams(BOTH)
    assert (NOW_US - spans["s1"].first_us, NOW_US - spans["s1"].last_us) == (9_000, 7_000)
    assert NOW_US - spans["s1"].stored_us == 7_000
    assert set(spans) == {"s1", "s2", "s3"}
    assert set(await logs.sizes()) == set(BOTH)
    logs.forget("f")
    # The file of the next life has the name of the first one's.
    await written(logs, "f", batch(0, "e", stream="s9"))
    assert set(await logs.streams(["f"])) == {"s9"}
    logs.forget("f")
    assert set(await logs.streams(BOTH)) == {"s3"}
    assert set(await logs.sizes()) == {"g"}


async def test_lines_that_are_too_old_are_in_no_page_and_no_stream(logs: FunctionLogs) -> None:
    await written(logs, "f", batch(25 * 60 * MINUTE_US, "old", stream="s0"), batch(0, "young"))
    assert texts(await pages(logs, Search(9, 1 << 20))) == ["young"]
    assert set(await logs.streams(["f"])) == {"s1"}
