"""A removal is carried out in order and until it is done, and nobody waits for another's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from engine.errors import SandboxFault
from engine.sandbox.counts import Counts, Happening, Resource
from engine.sandbox.janitor import Janitor


def retried(counts: Counts) -> int:
    return next(event.count for event in counts.events() if event.kind == Happening.REMOVAL_RETRIED.value)


def failing(times: int, then: Callable[[], None], error: Exception) -> Callable[[], None]:
    """A step that fails so often first."""
    left = [times]

    def step() -> None:
        if left[0]:
            left[0] -= 1
            raise error
        then()

    return step


@pytest.mark.parametrize(
    "error", [OSError(16, "busy"), SandboxFault("cgroup", 16, "busy"), ValueError("a bug")], ids=lambda e: str(type(e))
)
def test_a_step_that_fails_is_tried_again_and_those_after_it_wait_for_it(error: Exception) -> None:
    counts = Counts()
    janitor = Janitor(counts)
    done = threading.Event()
    seen: list[str] = []
    steps = [
        lambda: seen.append("first"),
        failing(3, lambda: seen.append("second"), error),
        lambda: seen.append("third"),
    ]
    janitor.take_away(steps, done.set)
    assert done.wait(10)
    assert seen == ["first", "second", "third"]
    assert retried(counts) == 3
    assert janitor.close(1) == 0


def test_a_removal_that_hangs_keeps_no_other_waiting_and_no_stop_for_long() -> None:
    janitor = Janitor(Counts(), threads=2)
    let_go = threading.Event()
    hung = threading.Event()
    janitor.take_away([hung.set, lambda: let_go.wait(30)], lambda: None)
    assert hung.wait(10)
    others = [threading.Event() for _ in range(20)]
    for other in others:
        janitor.take_away([lambda: None], other.set)
    assert all(other.wait(10) for other in others)
    began = time.monotonic()
    assert janitor.close(0.05) == 1
    assert time.monotonic() - began < 5
    let_go.set()


def test_removals_that_hang_at_once_have_a_thread_each() -> None:
    janitor = Janitor(Counts(), threads=4)
    together = threading.Barrier(4, timeout=10)
    done = [threading.Event() for _ in range(4)]
    for each in done:
        janitor.take_away([together.wait], each.set)
    assert all(each.wait(10) for each in done)
    assert janitor.close(1) == 0


def test_what_never_succeeds_is_left_and_counted_when_the_engine_stops() -> None:
    counts = Counts()
    janitor = Janitor(counts)
    done = threading.Event()
    janitor.take_away([failing(1_000_000, lambda: None, OSError(16, "busy"))], done.set)
    while retried(counts) < 2:
        time.sleep(0.001)
    assert janitor.pending == 1
    assert janitor.close(0.05) == 1
    assert not done.is_set()


def test_a_stop_gives_what_waits_for_another_try_one_more() -> None:
    counts = Counts()
    janitor = Janitor(counts, monotonic=lambda: 0.0)  # a pause is never over by itself
    busy = threading.Event()
    busy.set()

    def step() -> None:
        if busy.is_set():
            raise OSError(16, "busy")

    janitor.take_away([step], lambda: None)
    while not retried(counts):
        time.sleep(0.001)
    busy.clear()
    closing = threading.Thread(target=janitor.close, args=(10,))
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    assert janitor.pending == 0


def test_after_a_stop_what_comes_is_done_at_once() -> None:
    janitor = Janitor(Counts())
    janitor.close(0)
    seen: list[str] = []
    janitor.take_away([lambda: seen.append("step")], lambda: seen.append("done"))
    assert seen == ["step", "done"]


def test_counts_say_what_is_there() -> None:
    counts = Counts()
    for _ in range(3):
        counts.made(Resource.LEAVES)
    counts.removed(Resource.LEAVES)
    assert counts.alive(Resource.LEAVES) == 2
    assert {count.kind: (count.made, count.removed) for count in counts.resources() if count.made} == {"leaves": (3, 1)}
    assert {count.kind for count in counts.events()} == {kind.value for kind in Happening}
