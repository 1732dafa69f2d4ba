"""Who is next among the events that wait: order, shares, backoff, bounds. Without a clock and without a disk."""

from __future__ import annotations

import pytest

from engine.errors import QueueFull
from engine.events.line import BACKOFFS, Line, Waiting

S = 1_000_000


def line(*, most_events: int = 1_000, most_bytes: int = 1_000_000) -> Line:
    return Line(most_events=most_events, most_bytes=most_bytes, backoff_us=S)


def put(it: Line, name: str, *ids: int, size_bytes: int = 1, due_us: int = 0) -> list[Waiting]:
    events = [Waiting(id, it.function(name, 1), f"r{id}", "$LATEST", 0, size_bytes, due_us=due_us) for id in ids]
    for event in events:
        it.add(event, 0)
    return events


def take(it: Line, most: int = 100) -> list[int]:
    """The ids of all that may run now, in their order."""
    found = []
    while (event := it.take(most)) is not None:
        found.append(event.id)
    return found


def test_of_one_function_the_oldest_is_next() -> None:
    it = line()
    put(it, "f", 3, 1, 2)
    assert take(it) == [1, 2, 3]


def test_functions_take_turns() -> None:
    it = line()
    put(it, "f", 1, 2, 3, 4)
    put(it, "g", 5, 6)
    assert take(it) == [1, 5, 2, 6, 3, 4]


def test_no_more_run_than_may() -> None:
    it = line()
    first, *_ = put(it, "f", *range(1, 20))
    put(it, "g", *range(20, 30))
    assert len(take(it, 10)) == it.running <= 10
    assert take(it, 10) == []
    it.forget(first)
    assert len(take(it, 10)) == 1
    assert it.take(0) is None


def test_a_function_alone_leaves_a_fifth_to_who_comes_later() -> None:
    it = line()
    put(it, "f", *range(1, 50))
    assert take(it, 10) == list(range(1, 9))
    put(it, "g", 50)
    assert take(it, 10) == [50]


def test_what_is_not_due_waits_and_holds_up_nobody() -> None:
    it = line()
    put(it, "f", 1, due_us=5 * S)
    put(it, "f", 2)
    assert take(it) == [2]
    assert it.wake(4 * S) == 5 * S
    assert take(it) == []
    assert it.wake(5 * S) == 0
    assert take(it) == [1]


def test_a_retry_comes_before_what_is_younger() -> None:
    it = line()
    first, _ = put(it, "f", 1, 2)
    assert it.take(1) is first
    it.again(first, S, 0)
    it.wake(S)
    assert take(it) == [1, 2]


def test_what_came_to_no_run_waits_twice_as_long_each_time_up_to_a_bound() -> None:
    it = line()
    (event,) = put(it, "f", 1)
    now, waits = 0, []
    for _ in range(12):
        assert it.take(1) is event
        it.later(event, now)
        waits.append(it.wake(now) - now)
        now += waits[-1]
        it.wake(now)
    assert waits == [S << n for n in range(9)] + 3 * [BACKOFFS * S]
    assert it.take(1) is event
    it.ran(event)
    it.later(event, now)
    assert it.wake(now) - now == S


def test_a_throttled_function_gets_no_more_than_ran_beside_it_then_slowly_more() -> None:
    it = line()
    events = put(it, "f", *range(1, 10))
    assert take(it, 4) == [1, 2, 3, 4]
    it.throttled(events[3], 0)
    assert take(it) == []
    it.ran(events[0])
    it.forget(events[0])
    assert take(it) == [4, 5][:1]
    for event in events[1:4]:
        it.ran(event)
        it.forget(event)
    assert len(take(it)) == 4


def test_a_function_that_is_throttled_alone_pauses_and_others_go_on() -> None:
    it = line()
    (event, _) = put(it, "f", 1, 2)
    put(it, "g", 3)
    assert it.take(1) is event
    it.throttled(event, 0)
    assert take(it) == [3]
    assert it.wake(S) == 0
    assert take(it) == [1]
    it.throttled(event, S)
    assert it.wake(S) == S + 2 * S


def test_a_deleted_function_takes_its_events_along() -> None:
    it = line()
    running, *_ = put(it, "f", 1, 2, 3)
    put(it, "f", 4, due_us=S)
    assert it.take(1) is running
    born_us, gone = it.delete("f")
    assert (born_us, [event.id for event in gone]) == (1, [1, 2, 3, 4])
    assert (it.events, it.bytes) == (0, 0)
    assert take(it) == []
    assert it.wake(2 * S) == 0
    it.forget(running)
    assert (it.running, it.events) == (0, 0)
    it.function("f", 2)
    assert take(it) == []


def test_room_that_is_kept_counts_until_it_is_used_or_given_up() -> None:
    it = line(most_events=20, most_bytes=100)
    it.admit("f", 80)
    with pytest.raises(QueueFull, match="100 bytes"):
        it.admit("f", 21)
    it.arrived("f", 80)
    it.admit("f", 21)
    it.arrived("f", 21)
    assert (it.events, it.bytes) == (0, 0)


def test_a_full_queue_keeps_its_last_tenth_for_functions_with_little_in_it() -> None:
    it = line(most_events=20)
    put(it, "f", *range(1, 19))
    with pytest.raises(QueueFull, match="20 events") as full:
        it.admit("f", 1)
    assert "async_queue_events" in full.value.fix
    for _ in range(2):
        it.admit("g", 1)
    with pytest.raises(QueueFull):
        it.admit("h", 1)
