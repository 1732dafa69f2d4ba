"""Plain calls for which there is no room yet: they wait in the loop, and go on as the scheduler decides."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from engine.sandbox import box
from engine.scheduler import core as native
from tests.native.loops import ANSWER, EVENT, Bed, Caller, Guest


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    assert made.core.check() == ""
    made.close()


def full(bed: Bed, sandboxes: int = 1) -> tuple[box.Line, list[Guest], list[Caller]]:
    """A function that has all the room there is, and a call in each sandbox."""
    target = bed.target()
    line, guests = bed.line(target), []
    for _ in range(sandboxes):
        guests.append(bed.warm(target))
        hold = Caller()
        bed.submit(line, hold)
        guests[-1].caller = hold
    bed.core.configure(time.monotonic_ns(), room=sandboxes)
    running = [guest.caller for guest in guests if guest.caller is not None]
    for guest in guests:
        guest.hears()
    return line, guests, running


def waiting(bed: Bed, line: box.Line, count: int = 1) -> list[Caller]:
    callers = [Caller() for _ in range(count)]
    for caller in callers:
        assert bed.submit(line, caller) == box.TAKEN
        assert (caller.under_way, caller.sandbox_id, caller.started_ns) == (True, 0, 0)
        assert caller.waits_ns > 0
    return callers


def test_a_call_that_finds_no_room_waits_and_has_the_sandbox_in_the_turn_in_which_it_is_free(bed: Bed) -> None:
    line, (guest,), (first,) = full(bed)
    (second,) = waiting(bed, line)
    assert (bed.lane.waiting, bed.core.counts()["waiting"]) == (1, 1)
    guest.says(ANSWER)
    bed.turn()
    assert (first.told, second.told, bed.lane.waiting) == ([b'{"a":1}'], [], 0)
    meta, payload = guest.hears()
    assert (meta["request_id"], payload) == (second.request_id, EVENT)
    assert meta["deadline_ms"] == second.begun_ns // 1_000_000 + 60_000, "its time is counted from there"
    assert first.waits_ns == 0
    assert second.accepted_ns <= second.waits_ns < second.started_ns
    assert second.sandbox_id == guest.sandbox
    guest.says(ANSWER)
    bed.turn()
    assert second.told == [b'{"a":1}']
    assert bed.lane.counts == (2, 2, 0)


def test_calls_that_wait_are_served_in_the_order_in_which_they_came(bed: Bed) -> None:
    line, guests, _ = full(bed, 2)
    callers = waiting(bed, line, 6)
    served = []
    for turn in range(6):
        guest = guests[turn % 2]
        guest.says(ANSWER)
        bed.turn()
        served.append(guest.hears()[0]["request_id"])
    assert served == [caller.request_id for caller in callers]


def test_it_has_its_next_call_before_the_caller_of_the_last_is_told(bed: Bed) -> None:
    line, (guest,), (first,) = full(bed)
    (second,) = waiting(bed, line)
    seen: list[str] = []
    first.then = lambda: seen.append(guest.hears()[0]["request_id"])
    guest.says(ANSWER)
    bed.turn()
    assert seen == [second.request_id]


def test_a_sandbox_that_others_freed_or_that_has_just_come_goes_to_the_loops_call(bed: Bed) -> None:
    line, (guest,), (first,) = full(bed)
    bed.lane.cancel(first)  # it is its owner's, and so is its end
    now = time.monotonic_ns()
    bed.core.configure(now, room=2)
    bed.core.set_provisioned(line.target, 1, now)
    starts = bed.core.next()
    assert starts is not None
    assert starts[:2] == (native.DO_START, 0)
    callers = waiting(bed, line, 2)
    guest.seat.offer(0, 0, 0, 0)
    bed.core.finished(first.call_id, True, now)
    bed.lane.act()
    assert guest.hears()[0]["request_id"] == callers[0].request_id
    another = bed.sits(starts[2])
    another.seat.offer(0, 0, 0, 0)
    bed.core.started(another.sandbox, now, another.seat.id)
    bed.lane.act()
    assert another.hears()[0]["request_id"] == callers[1].request_id
    assert [caller.told for caller in callers] == [[], []]


@pytest.mark.parametrize("how", ["crashed", "not offered", "too large"])
def test_a_sandbox_that_does_not_take_it_makes_the_call_its_owners_with_its_place(bed: Bed, how: str) -> None:
    line, (guest,), (first,) = full(bed)
    (caller,) = [Caller()]
    payload = b'"' + b"x" * 70_000 + b'"' if how == "too large" else EVENT
    assert bed.submit(line, caller, payload) == box.TAKEN
    if how != "too large":
        bed.lane.cancel(first)
        if how == "crashed":
            guest.leaves()
            guest.seat.watch(False)
            guest.seat.offer(0, 0, 0, 0)
        bed.core.finished(first.call_id, True, time.monotonic_ns())
        bed.lane.act()
    else:
        guest.says(ANSWER)
        bed.turn()
    assert (caller.told, caller.stands, caller.sandbox_id) == (["handed"], box.CHOSEN, guest.sandbox)
    assert not caller.under_way
    assert bed.core.busy(guest.sandbox) == 1, "it has its place"
    assert bed.core.again(caller.call_id, native.WHY_DEAD, time.monotonic_ns()) == native.WAIT
    assert bed.core.next_claimed() is None, "and from there on it is like any other"


def test_one_for_which_a_sandbox_is_to_be_started_is_handed_over_for_that(bed: Bed) -> None:
    line, (guest,), (first,) = full(bed)
    first_waits, then_waits = waiting(bed, line, 2)
    bed.core.target_retire(line.target, time.monotonic_ns())
    guest.says(ANSWER)
    bed.turn()
    assert first.told == [b'{"a":1}']
    assert (first_waits.told, bed.given_back) == ([], 1), "its room is free once that is closed"
    assert bed.core.next() == (native.DO_CLOSE, 0, guest.sandbox, line.target)
    hurry = bed.core.next()
    assert hurry is not None
    assert hurry[0] == native.DO_HURRY
    bed.core.closed(guest.sandbox, time.monotonic_ns())
    bed.lane.act()
    assert (first_waits.told, first_waits.stands) == (["handed"], box.STARTS), "of the version that it asked for"
    assert then_waits.told == []
    started = bed.core.started(first_waits.sandbox_id, time.monotonic_ns())
    assert (started, bed.core.call) == (native.RUN, first_waits.call_id)


def test_a_drain_lets_them_wait_and_a_kill_refuses_each_once(bed: Bed) -> None:
    line, (guest,), _ = full(bed)
    callers = waiting(bed, line, 3)
    bed.core.drain(time.monotonic_ns())
    guest.says(ANSWER)
    bed.turn()
    assert guest.hears()[0]["request_id"] == callers[0].request_id
    assert bed.submit(line, Caller()) == box.ELSEWHERE
    bed.core.kill(time.monotonic_ns())
    bed.lane.act()
    assert [caller.told for caller in callers] == [[], ["handed"], ["handed"]]
    assert [caller.stands for caller in callers[1:]] == [box.REFUSED] * 2
    assert bed.core.concurrency == 1


def test_what_would_be_throttled_or_started_changes_nothing(bed: Bed) -> None:
    line, _, _ = full(bed)
    now = time.monotonic_ns()
    waiting(bed, line, 2)
    for setting in ({"account_limit": 3}, {"account_limit": 10, "room": 4}, {"rate_factor": 1, "account_limit": 0}):
        bed.core.configure(now, **setting)
        before = bed.core.counts()
        assert bed.submit(line, Caller()) == box.ELSEWHERE
        assert bed.core.counts() == before
        while bed.core.next() is not None:
            pass
        bed.lane.act()


def test_a_cancelled_one_leaves_the_queue_and_the_others_stay(bed: Bed) -> None:
    line, (guest,), _ = full(bed)
    first, second, third = waiting(bed, line, 3)
    bed.lane.cancel(second)
    bed.lane.cancel(second)
    assert (second.told, second.stands, second.under_way) == (["handed"], box.LEFT, False)
    assert bed.core.counts()["waiting"] == 2
    for caller in (first, third):
        guest.says(ANSWER)
        bed.turn()
        assert guest.hears()[0]["request_id"] == caller.request_id
    guest.says(ANSWER)
    bed.turn()
    assert second.told == ["handed"]
    assert bed.core.concurrency == 0


def test_one_that_is_cancelled_as_the_sandbox_becomes_its_own_is_handed_over_running(bed: Bed) -> None:
    line, (guest,), (first,) = full(bed)
    (caller,) = waiting(bed, line)
    bed.lane.cancel(first)
    guest.seat.offer(0, 0, 0, 0)
    bed.core.finished(first.call_id, True, time.monotonic_ns())
    bed.lane.cancel(caller)  # the loop has not been told yet
    assert (caller.told, caller.stands) == (["handed"], box.RUNS)
    assert guest.hears()[0]["request_id"] == caller.request_id


def test_a_hundred_thousand_that_wait_and_are_cancelled_at_once_disturb_nobody() -> None:
    limits = {"calls": 100_010, "account_limit": 100_010, "sandboxes": 100_010, "room": 100_010}
    bed = Bed(native.Core(rate_factor=0, burst=0, **limits))
    line, (guest,), (first,) = full(bed)
    callers = waiting(bed, line, 100_000)
    others = waiting(bed, line, 2)
    given_back = bed.given_back
    for caller in callers:
        bed.lane.cancel(caller)
    assert bed.given_back == given_back, "no step of it is anybody else's"
    assert all(caller.told == ["handed"] for caller in callers)
    assert (bed.core.concurrency, bed.core.counts()["waiting"], bed.lane.waiting) == (3, 2, 2)
    for caller in others:
        guest.says(ANSWER)
        bed.turn()
        assert guest.hears()[0]["request_id"] == caller.request_id
    assert first.told == [b'{"a":1}']
    assert bed.core.check() == ""
    bed.close()


def test_functions_that_wait_take_turns(bed: Bed) -> None:
    flood, guests, _ = full(bed, 2)
    quiet = bed.line(bed.target())
    flooding = waiting(bed, flood, 20)
    (alone,) = waiting(bed, quiet)
    guests[0].says(ANSWER)
    bed.turn()
    closed = bed.core.next()
    assert closed is not None
    assert (closed[0], closed[2]) == (native.DO_CLOSE, guests[0].sandbox), "it makes room, though its own calls wait"
    bed.core.closed(guests[0].sandbox, time.monotonic_ns())
    bed.lane.act()
    handed = [caller for caller in (*flooding, alone) if caller.told]
    assert [caller.stands for caller in handed] == [box.STARTS]
    assert bed.core.counts()["waiting"] == 20


class Standing(Caller):
    """For a native call that is handed over."""

    def leave(self) -> None:
        self.told.append("left")


class Echo:
    """Native callers, and guests that answer all that they have read."""

    def __init__(self, bed: Bed, callers: int, sandboxes: int) -> None:
        self.bed = bed
        line, self.guests, _ = full(bed, sandboxes)
        for guest in self.guests:
            guest.says(ANSWER)
        bed.turn()
        self.ended: list[Any] = []
        self.standing: list[Standing] = []
        self.left: list[str] = []
        bed.lane.timed = True
        self.over = False
        door = box.Door(box.NativeOwner(self.stands, self.standing.append, self.ended.extend, self.leaves), 65_536)
        door.open("f", bed.lane, line)
        self.callers = box.Callers(door, line, b'{"a":1}', callers, self.is_over)

    def stands(self, about: object) -> Standing:
        return Standing()

    def leaves(self, about: object, request_id: str, accepted_ns: int, waits_ns: int) -> None:
        assert 0 < accepted_ns <= waits_ns
        self.left.append(request_id)

    def is_over(self) -> None:
        self.over = True

    def answer(self) -> None:
        for guest in self.guests:
            if self.bed.core.busy(guest.sandbox) == 1:
                guest.hears()
                guest.says(ANSWER)


def test_no_python_runs_between_the_answer_to_one_call_and_the_start_of_one_that_waited() -> None:
    bed = Bed()
    echo = Echo(bed, callers=64, sandboxes=8)
    echo.callers.start(0, 1 << 62)
    entered: Counter[str] = Counter()

    def count(frame: Any, event: str, arg: object) -> None:
        if event == "call":
            entered[frame.f_code.co_name] += 1

    assert bed.lane.waiting == 56
    for _ in range(10):
        echo.answer()
        assert bed.ready()
        sys.setprofile(count)
        bed.lane.turn()
        sys.setprofile(None)
    assert echo.callers.answered == 80
    assert bed.lane.counts == (152, 88, 0)
    assert not entered, "a turn tells what has ended by one call, of a list's"
    assert len(echo.ended) == 80
    waited = [record for record in echo.ended if record[9]]
    assert len(waited) == 72, "all but the first eight"
    assert all(record[2] <= record[9] <= record[3] for record in waited)
    entered.clear()
    echo.callers.cancel()
    assert (len(echo.left), len(set(echo.left))) == (56, 56)
    assert [(one.stands, one.told) for one in echo.standing] == [(box.RUNS, ["handed", "left"])] * 8
    assert echo.over
    assert bed.core.counts()["waiting"] == 0
    bed.close()
