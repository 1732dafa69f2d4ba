"""The dispatch loop: a plain call is the loop's from its decision to its answer, and its owner's once it is odd."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from engine.guest import wire
from engine.sandbox import box
from engine.sandbox.api import Event
from engine.sandbox.messages import event_frame
from engine.scheduler import core as native
from tests.native.loops import ANSWER, ARN, EVENT, Bed, Caller, Guest


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    assert made.core.check() == ""
    made.close()


def begun(bed: Bed) -> tuple[Guest, Caller]:
    """One sandbox with one call."""
    target = bed.target()
    guest, caller = bed.warm(target), Caller()
    assert bed.submit(bed.line(target), caller) == box.TAKEN
    return guest, caller


def test_an_event_reaches_its_guest_as_the_long_way_would_write_it(bed: Bed) -> None:
    guest, caller = begun(bed)
    meta, payload = guest.hears()
    assert payload == EVENT
    digits = caller.request_id.replace("-", "").lower()
    wall_s = caller.begun_ns // 1_000_000_000
    trace = f"Root=1-{wall_s:08x}-{digits[:24]};Parent={digits[16:]};Sampled=0"
    head, _ = event_frame(Event(caller.request_id, EVENT, 60_000, ARN, trace_id=trace))
    (size,) = wire.META.unpack_from(head, wire.HEADER.size)
    expected = json.loads(head[12 : 12 + size])
    for name in ("request_id", "timeout_ms", "function_arn", "trace_id"):
        assert meta[name] == expected[name], name
    assert meta["deadline_ms"] == caller.begun_ns // 1_000_000 + 60_000
    assert caller.head()[: wire.HEADER.size] == wire.HEADER.pack(
        len(caller.head()) - wire.HEADER.size + len(EVENT), wire.EVENT
    )


def test_its_answer_ends_it_once_and_its_sandbox_is_free_again(bed: Bed) -> None:
    guest, caller = begun(bed)
    assert bed.core.busy(guest.sandbox) == 1
    assert caller.under_way
    guest.says(ANSWER)
    bed.turn()
    assert caller.told == [b'{"a":1}']
    assert not caller.under_way
    assert caller.payload is None
    assert (bed.core.busy(guest.sandbox), bed.core.concurrency) == (0, 0)
    assert caller.accepted_ns <= caller.started_ns <= caller.answered_ns <= time.monotonic_ns()
    assert bed.given_back == 1
    assert bed.lane.counts == (1, 1, 0)
    assert guest.seat.last_call() is caller
    assert guest.seat.last_call() is None


def test_a_call_made_as_another_is_answered_runs_in_the_same_sandbox(bed: Bed) -> None:
    guest, caller = begun(bed)
    line, follower = caller.line, Caller()
    caller.then = lambda: bed.submit(line, follower)
    guest.says(ANSWER)
    bed.turn()
    assert follower.sandbox_id == guest.sandbox
    guest.hears()
    guest.hears()
    guest.says(ANSWER)
    bed.turn()
    assert (caller.told, follower.told) == ([b'{"a":1}'], [b'{"a":1}'])


ODD = {
    "a piece of a header": ANSWER[:3],
    "half a frame": ANSWER[:-1],
    "too much": ANSWER + b"x",
    "two": ANSWER + ANSWER,
    "an error": wire.frame(wire.ERROR, b"{}"),
    "another before": wire.frame(wire.FAREWELL) + ANSWER,
    "a length": wire.HEADER.pack(2**32 - 1, wire.RESULT),
    "zeros": b"\0" * 8,
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("sent", ODD.values(), ids=ODD.keys())
def test_what_is_no_whole_answer_is_its_owners_as_it_came_with_the_lease(bed: Bed, sent: bytes) -> None:
    guest, caller = begun(bed)
    guest.says(sent)
    bed.turn()
    assert caller.told == ["handed"]
    assert guest.data == [sent]
    assert bed.core.busy(guest.sandbox) == 1
    guest.says(ANSWER)
    assert bed.lane.turn() == 1
    assert caller.told == ["handed"], "the loop knows it no more"
    bed.core.finished(caller.call_id, False, time.monotonic_ns())


def test_a_sandbox_that_ends_under_a_call_hands_it_over(bed: Bed) -> None:
    guest, caller = begun(bed)
    guest.leaves()
    bed.lane.turn()
    assert caller.told == ["handed"]
    assert guest.data == [b""]
    bed.core.cancel(caller.call_id, time.monotonic_ns())


def test_an_answer_after_something_was_written_is_its_owners_whole(bed: Bed) -> None:
    guest, caller = begun(bed)
    os.write(guest.log, b"line\n")
    guest.says(ANSWER)
    bed.turn()
    assert caller.told == ["handed"]
    assert guest.answered == [(b'{"a":1}', True)]


def test_an_answer_over_the_limit_of_results_is_its_owners_to_refuse(bed: Bed) -> None:
    guest, caller = begun(bed)
    guest.says(wire.frame(wire.RESULT, b"x" * 10_001))
    bed.turn()
    assert caller.told == ["handed"]
    assert [len(body) for body, _ in guest.answered] == [10_001]


def test_a_sandbox_that_is_not_offered_is_lent(bed: Bed) -> None:
    target = bed.target()
    guest, caller = bed.warm(target, offered=False), Caller()
    assert bed.submit(bed.line(target), caller) == box.LENT
    assert caller.sandbox_id == guest.sandbox
    assert not caller.under_way
    assert bed.core.busy(guest.sandbox) == 1
    bed.core.finished(caller.call_id, True, time.monotonic_ns())
    guest.seat.offer(0, 0, 0, 0)
    assert guest.seat.take()
    assert not guest.seat.take()
    assert bed.submit(bed.line(target), Caller()) == box.LENT


def test_a_pipe_that_takes_nothing_makes_it_lent_and_one_that_takes_a_part_hands_over_the_rest(bed: Bed) -> None:
    target = bed.target()
    guest, lent, handed = bed.warm(target), Caller(), Caller()
    bed.timeout_ms = 1_000
    full = guest.own[3]
    os.write(full, b"x" * 65_536)
    assert bed.submit(bed.line(target), lent) == box.LENT
    bed.core.finished(lent.call_id, True, time.monotonic_ns())
    os.read(guest.events, 4_096)
    assert bed.submit(bed.line(target), handed, b'"' + b"x" * 20_000 + b'"') == box.TAKEN
    assert handed.told == ["handed"]
    assert 0 < handed.sent < len(handed.head()) + 20_002


def test_a_guest_that_reads_no_more_and_an_event_larger_than_a_pipe_are_lent(bed: Bed) -> None:
    target = bed.target()
    guest = bed.warm(target)
    large, unread = Caller(), Caller()
    assert bed.submit(bed.line(target), large, b'"' + b"x" * 70_000 + b'"') == box.LENT
    bed.core.finished(large.call_id, True, time.monotonic_ns())
    guest.leaves()
    assert bed.submit(bed.line(target), unread) == box.LENT
    assert unread.told == []


def test_without_a_warm_sandbox_or_with_a_target_that_is_gone_nothing_changes(bed: Bed) -> None:
    target = bed.target()
    before = bed.core.counts()
    assert bed.submit(bed.line(target), Caller()) == box.ELSEWHERE
    assert bed.core.counts() == before
    bed.warm(target)
    bed.core.target_retire(target, time.monotonic_ns())
    assert bed.submit(bed.line(target), Caller()) == box.ELSEWHERE
    assert bed.submit(bed.line(0), Caller()) == box.ELSEWHERE
    bed.lane.close()
    assert bed.submit(bed.line(target), Caller()) == box.ELSEWHERE


def test_a_target_that_is_retired_under_a_call_closes_its_sandbox_after_the_answer(bed: Bed) -> None:
    guest, caller = begun(bed)
    bed.core.target_retire(caller.line.target, time.monotonic_ns())
    assert bed.core.next() is None
    guest.says(ANSWER)
    bed.turn()
    assert caller.told == [b'{"a":1}']
    assert bed.given_back == 1, "so that it is asked what is to be done"
    action = bed.core.next()
    assert action is not None
    assert action[0] == native.DO_CLOSE
    assert action[2] == guest.sandbox


def test_at_its_deadline_a_call_is_its_owners_and_no_other_one(bed: Bed) -> None:
    target, patient = bed.target(), bed.target()
    first, waits = Caller(), Caller()
    bed.warm(target)
    bed.warm(patient)
    assert bed.submit(bed.line(patient), waits) == box.TAKEN
    bed.timeout_ms = 20
    assert bed.submit(bed.line(target), first) == box.TAKEN
    assert not first.told
    assert bed.ready(30), "the deadline makes its descriptor readable"
    bed.lane.turn()
    assert time.monotonic_ns() - first.started_ns >= 20_000_000
    assert (first.told, waits.told) == (["handed"], [])
    assert not bed.ready(), "and nothing is due before the other one's"


def test_a_deadline_of_a_call_that_ended_before_disturbs_nobody(bed: Bed) -> None:
    bed.timeout_ms = 20
    guest, caller = begun(bed)
    guest.says(ANSWER)
    bed.turn()
    second = Caller()
    bed.timeout_ms = 60_000
    assert bed.submit(bed.line(caller.line.target), second) == box.TAKEN
    assert bed.ready(30)
    bed.lane.turn()
    assert second.told == []
    assert not bed.ready()


def test_a_cancelled_call_is_handed_over_once_and_its_late_answer_is_the_owners(bed: Bed) -> None:
    guest, caller = begun(bed)
    bed.lane.cancel(caller)
    bed.lane.cancel(caller)
    assert caller.told == ["handed"]
    guest.says(ANSWER)
    bed.turn()
    assert caller.told == ["handed"]
    assert guest.answered == [(b'{"a":1}', False)]


def test_a_sandbox_that_is_taken_back_hands_its_call_over(bed: Bed) -> None:
    guest, caller = begun(bed)
    assert guest.seat.take()
    assert caller.told == ["handed"]


def test_a_seat_that_is_closed_or_offered_again_under_a_call_loses_none(bed: Bed) -> None:
    guest, caller = begun(bed)
    guest.seat.offer(0, 0, 0, 0)
    assert caller.told == []
    guest.seat.close()
    assert caller.told == ["handed"]


def test_what_a_caller_raises_is_told_to_itself_and_the_next_is_answered(bed: Bed) -> None:
    target = bed.target()
    guests = [bed.warm(target)]
    first, second = Caller(), Caller()
    assert bed.submit(bed.line(target), first) == box.TAKEN
    guests.append(bed.warm(target))
    assert bed.submit(bed.line(target), second) == box.TAKEN
    first.then = lambda: 1 / 0
    for guest in guests:
        guest.says(ANSWER)
    bed.turn()
    assert [type(what) for what in first.told] == [bytes, ZeroDivisionError]
    assert second.told == [b'{"a":1}']
    assert bed.core.concurrency == 0


def test_a_call_is_submitted_once_under_a_uuid_and_a_line_has_an_arn_that_needs_no_escape(bed: Bed) -> None:
    _, caller = begun(bed)
    with pytest.raises(ValueError, match="not a new call"):
        bed.submit(caller.line, caller)
    with pytest.raises(ValueError, match="UUID"):
        bed.lane.submit(Caller(), caller.line, b"{}", "no id", 0)
    for arn in ('a"b', "a\\b", "a\nb", "é"):
        with pytest.raises(ValueError, match="escaped"):
            box.Line(1, 1, 1, arn, None)
    endless = Caller()
    assert bed.submit(box.Line(caller.line.target, 1, 1, "a" * 2_000, None), endless) == box.ELSEWHERE


def test_many_at_once_are_answered_handed_over_or_cancelled_each_for_itself(bed: Bed) -> None:
    target = bed.target()
    line = bed.line(target)
    guests, callers = [], []
    for _ in range(300):
        guests.append(bed.warm(target))
        callers.append(Caller())
        assert bed.submit(line, callers[-1]) == box.TAKEN
    for number, guest in enumerate(guests):
        guest.hears()
        if number % 3 == 0:
            guest.says(wire.frame(wire.RESULT, b"%d" % number))
        elif number % 3 == 1:
            guest.says(b"noise")
        else:
            bed.lane.cancel(callers[number])
    bed.turn()
    for number, caller in enumerate(callers):
        assert caller.told == ([b"%d" % number] if number % 3 == 0 else ["handed"])
    for caller in callers:
        if caller.told == ["handed"]:
            bed.core.cancel(caller.call_id, time.monotonic_ns())
    assert bed.core.concurrency == 0
    assert bed.lane.counts == (300, 100, 200)
