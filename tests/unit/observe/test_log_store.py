"""Logs on disk are within their bounds, survive their writer, and read back by what is asked of them."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from engine.model.invocation import LogBatch
from engine.observe.log_query import LogQuery
from engine.observe.log_reader import read
from engine.observe.log_store import Limits, LogStore

NEVER = threading.Event()
LARGE = Limits(1 << 30, 1 << 30, 1 << 50)
NOW_US = time.time_ns() // 1000


class Clock:
    """Microseconds since the epoch, as set."""

    def __init__(self) -> None:
        self.us = NOW_US

    def __call__(self) -> int:
        return self.us


def opened(
    folder: Path, limits: Limits = LARGE, functions: Iterable[str] = ("f", "g"), clock: Clock | None = None
) -> LogStore:
    store = LogStore(folder / "logs", limits, clock or Clock())
    store.open(set(functions))
    return store


def batch(*texts: str | bytes, request_id: str = "r1", time_us: int = NOW_US) -> LogBatch:
    return LogBatch(time_us, request_id, "s", [one.encode() if isinstance(one, str) else one for one in texts])


def texts(store: LogStore, name: str = "f", query: LogQuery | None = None) -> list[str]:
    return [line.text.decode() for lines in read(store.snapshot(name), query or LogQuery(), NEVER) for line in lines]


def noise(size: int) -> bytes:
    """Bytes that no compression makes smaller."""
    return os.urandom(size)


def on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.log"))


def test_what_one_engine_wrote_the_next_one_reads_and_adds_to(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write("f", [batch("1", "2"), batch("3")])
    store.write("g", [batch("other")])
    store.write("f", [batch("4")])
    assert texts(store) == ["1", "2", "3", "4"]
    store = opened(tmp_path)
    assert texts(store) == ["1", "2", "3", "4"]
    assert store.size == on_disk(tmp_path) > 0
    store.write("f", [batch("5")])
    assert texts(opened(tmp_path)) == ["1", "2", "3", "4", "5"]
    assert texts(store, "g") == ["other"]
    assert texts(store, "never was") == []


def test_the_log_of_a_function_that_is_gone_goes_when_the_engine_starts(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write("f", [batch("1")])
    store.write("g", [batch("2")])
    (tmp_path / "logs" / ".trash-1").mkdir()
    store = opened(tmp_path, functions=["g"])
    assert os.listdir(tmp_path / "logs") == ["g"]
    assert texts(store, "f") == []
    assert texts(store, "g") == ["2"]


def test_what_was_forgotten_is_gone_and_a_function_of_that_name_begins_anew(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write("f", [batch("old")])
    store.forget("f")
    store.forget("never was")
    assert store.size == on_disk(tmp_path) == 0
    assert os.listdir(tmp_path / "logs") == []
    store.write("f", [batch("new")])
    assert texts(store) == ["new"]


def test_a_functions_log_never_has_more_bytes_than_it_may_and_loses_its_oldest(tmp_path: Path) -> None:
    store = opened(tmp_path, Limits(80_000, 1 << 30, 1 << 50))
    for number in range(100):
        store.write("f", [batch(str(number), noise(3_000).hex())])
        assert on_disk(tmp_path) == store.size <= 80_000
    kept = [int(text) for text in texts(store) if len(text) < 4]
    assert kept == list(range(kept[0], 100))
    assert len(kept) > 80_000 // 8 // 6_000 * 5, "a segment at a time is removed, not the log"


def test_all_logs_together_keep_to_their_bound_and_the_largest_gives_way(tmp_path: Path) -> None:
    store = opened(tmp_path, Limits(1_000_000, 1_100_000, 1 << 50))
    store.write("g", [batch("quiet")])
    for _ in range(400):
        store.write("f", [batch(noise(4_000))])
        store.write("h", [batch(noise(4_000))])
        assert on_disk(tmp_path) == store.size <= 1_100_000
    assert texts(store, "g") == ["quiet"]


def test_a_bound_that_was_lowered_holds_when_the_engine_starts(tmp_path: Path) -> None:
    store = opened(tmp_path, Limits(800_000, 1 << 30, 1 << 50))
    for _ in range(50):
        store.write("f", [batch(noise(4_000))])
    opened(tmp_path, Limits(100_000, 1 << 30, 1 << 50))
    assert on_disk(tmp_path) <= 100_000
    opened(tmp_path, Limits(1 << 30, 50_000, 1 << 50))
    assert on_disk(tmp_path) <= 50_000


def test_a_block_that_is_larger_than_the_bound_is_lost_and_counted(tmp_path: Path) -> None:
    store = opened(tmp_path, Limits(10_000, 1 << 30, 1 << 50))
    assert store.write("f", [batch("before")]) == 0
    assert store.write("f", [batch(noise(20_000), b"x")]) == 2
    assert store.write("f", [batch("small")]) == 0
    assert texts(store) == ["before", "small"]


def test_lines_that_are_too_old_are_removed(tmp_path: Path) -> None:
    clock = Clock()
    store = opened(tmp_path, Limits(1 << 30, 1 << 30, 8_000_000), clock=clock)
    for number in range(20):
        store.write("f", [batch(str(number), time_us=clock.us)])
        clock.us += 1_000_000
    store.remove_old()
    assert texts(store) == [str(number) for number in range(12, 20)]
    clock.us += 10_000_000
    store.remove_old()
    assert on_disk(tmp_path) == 0


def test_lines_of_a_function_with_an_age_of_its_own_are_removed_earlier(tmp_path: Path) -> None:
    clock = Clock()
    store = opened(tmp_path, Limits(1 << 30, 1 << 30, 8_000_000), clock=clock)
    for number in range(8):
        for name in ("f", "g"):
            store.write(name, [batch(str(number), time_us=clock.us)])
        clock.us += 1_000_000
    store.remove_old({"g": 3_000_000, "f": 1 << 60})
    assert texts(store, "g") == [str(number) for number in range(5, 8)]
    assert len(texts(store)) == 8


def test_a_disk_that_is_full_loses_what_does_not_fit_and_nothing_else(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write("f", [batch("before")])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        assert store.write("f", [batch("x", noise(5_000)), batch("y")]) == 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    assert store.size == on_disk(tmp_path)
    store.write("f", [batch("after")])
    assert texts(store) == texts(opened(tmp_path)) == ["before", "after"]


def test_a_snapshot_has_nothing_that_comes_later(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write("f", [batch("1")])
    pieces = store.snapshot("f")
    store.write("f", [batch("2")])
    assert [line.text for lines in read(pieces, LogQuery(), NEVER) for line in lines] == [b"1"]


def test_a_snapshot_whose_oldest_lines_were_removed_since_has_the_rest(tmp_path: Path) -> None:
    store = opened(tmp_path, Limits(80_000, 1 << 30, 1 << 50))
    for number in range(20):
        store.write("f", [batch(str(number)), batch(noise(3_000).hex())])
    pieces = store.snapshot("f")
    os.unlink(pieces[0].path)
    assert list(read(pieces, LogQuery(), NEVER))


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    """300 lines of two invocations, a second apart, over several segments and lives."""
    limits = Limits(1 << 20, 1 << 30, 1 << 50)
    for life in range(3):
        one = opened(tmp_path, limits)
        for number in range(life * 100, life * 100 + 100):
            filler = noise(2_000).hex() if number % 10 == 0 else ""
            lines = [f"{number}a", f"{number}b" + filler]
            one.write("f", [batch(*lines, request_id=f"r{number % 2}", time_us=NOW_US + number)])
    assert len(one.snapshot("f")) >= 3
    return one


@pytest.mark.parametrize("limit", [1, 2, 3, 199, 200, 201, 599, 600, 10_000])
def test_a_limit_gives_the_newest_lines(store: LogStore, limit: int) -> None:
    everything = texts(store)
    assert len(everything) == 600
    assert texts(store, query=LogQuery(limit=limit)) == everything[-limit:]


@pytest.mark.parametrize("limit", [0, 1, 7, 100, 1_000])
def test_conditions_are_met_together(store: LogStore, limit: int) -> None:
    query = LogQuery(request_id="r1", since_us=NOW_US + 95, until_us=NOW_US + 206, contains=b"b", limit=limit)
    wanted = [f"{number}b" for number in range(95, 206) if number % 2]
    assert texts(store, query=query) == wanted[-limit:]


def test_the_end_of_a_range_is_not_in_it_and_its_beginning_is(store: LogStore) -> None:
    assert texts(store, query=LogQuery(since_us=NOW_US + 41, until_us=NOW_US + 42)) == ["41a", "41b"]
    assert texts(store, query=LogQuery(since_us=NOW_US + 300)) == []
    assert texts(store, query=LogQuery(until_us=NOW_US)) == []


def test_a_log_of_damaged_segments_gives_what_is_whole(store: LogStore) -> None:
    before = texts(store)
    first = store.snapshot("f")[0].path
    with open(first, "r+b") as file:
        file.truncate(os.path.getsize(first) - 1)
    after = texts(store)
    assert before[-200:] == after[-200:]
    assert len(after) == len(before) - 2


@pytest.mark.parametrize("query", [LogQuery(contains=b"nowhere"), LogQuery(contains=b"nowhere", limit=1)])
def test_a_search_that_nobody_waits_for_ends(store: LogStore, query: LogQuery) -> None:
    class Stop(threading.Event):
        asked = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.asked += 1
            self.set()
            return True

    stop = Stop()
    assert list(read(store.snapshot("f"), query, stop)) == []
    assert stop.asked <= 2
