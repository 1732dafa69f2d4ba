"""The lane: whole answers are taken natively, everything else is its owner's, and nobody's news reaches another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from engine.errors import SandboxFault
from engine.guest import wire
from engine.sandbox import box

ANSWER = wire.frame(wire.RESULT, b'{"a":1}')


@dataclass
class Guest:
    """A seat, the guest's ends of its pipes, and what was told of it."""

    lane: box.Lane
    log: int
    log_write: int
    answers: int
    answers_write: int
    events: int
    events_read: int
    answered: list[tuple[bytes, bool]] = field(default_factory=list)
    data: list[bytes | None] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)

    def sit(self) -> box.Seat:
        seat = box.Seat(
            self.lane,
            self.answers,
            self.events,
            self.log,
            None,
            None,
            lambda body, at_ns, logged, *used: self.answered.append((body, logged)),
            self.data.append,
            self.faults.append,
        )
        seat.watch(True)
        return seat

    def says(self, data: bytes) -> None:
        os.write(self.answers_write, data)


class Guests:
    def __init__(self) -> None:
        self.lane = box.Lane()
        self.fds: list[int] = []

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.fds += ends
        return ends

    def guest(self) -> Guest:
        (log, log_write), (answers, answers_write), (events_read, events) = self.pipe(), self.pipe(), self.pipe()
        return Guest(self.lane, log, log_write, answers, answers_write, events, events_read)


@pytest.fixture
def guests() -> Iterator[Guests]:
    made = Guests()
    yield made
    made.lane.close()
    for fd in made.fds:
        os.close(fd)


@pytest.fixture
def guest(guests: Guests) -> Guest:
    return guests.guest()


def test_an_event_goes_out_and_its_whole_answer_comes_back_as_its_body(guest: Guest) -> None:
    seat = guest.sit()
    assert seat.call(b"head", b"payload") == 11
    assert os.read(guest.events_read, 100) == b"headpayload"
    guest.says(ANSWER)
    assert guest.lane.turn() == 1
    assert guest.answered == [(b'{"a":1}', False)]
    assert guest.data == []


def test_it_says_whether_something_was_written_to_the_log_before_the_answer(guest: Guest) -> None:
    seat = guest.sit()
    seat.call(b"head", b"")
    os.write(guest.log_write, b"line\n")
    guest.says(ANSWER)
    guest.lane.turn()
    assert guest.answered == [(b'{"a":1}', True)]


@pytest.mark.parametrize(
    "sent",
    [
        ANSWER[:3],
        ANSWER[:-1],
        ANSWER + b"x",
        ANSWER + ANSWER,
        wire.frame(wire.FAREWELL) + ANSWER,
        wire.frame(wire.ERROR, b"{}"),
        wire.HEADER.pack(2**32 - 1, wire.RESULT),
        b"\0" * 8,
        os.urandom(300),
    ],
    ids=[
        "a piece of a header",
        "no end",
        "too much",
        "two",
        "another before",
        "an error",
        "a length",
        "nothing",
        "noise",
    ],
)
def test_anything_else_is_handed_over_as_it_came_and_so_is_what_follows(guest: Guest, sent: bytes) -> None:
    seat = guest.sit()
    seat.call(b"head", b"")
    guest.says(sent)
    guest.lane.turn()
    assert guest.data == [sent]
    guest.says(ANSWER)
    guest.lane.turn()
    assert guest.data == [sent, None], "to be read by the owner, who follows the stream"
    assert guest.answered == []


def test_what_comes_while_nothing_was_asked_is_not_read(guest: Guest) -> None:
    seat = guest.sit()
    guest.says(ANSWER)
    assert guest.lane.turn() == 1
    assert guest.data == [None]
    seat.close()
    assert os.read(guest.answers, 100) == ANSWER


def test_an_answer_that_nobody_waits_for_any_more_is_not_read(guest: Guest) -> None:
    seat = guest.sit()
    seat.call(b"head", b"")
    seat.leave()
    guest.says(ANSWER)
    guest.lane.turn()
    assert guest.data == [None]
    assert guest.answered == []


def test_an_event_that_the_pipe_does_not_take_whole_is_not_waited_for(guest: Guest) -> None:
    seat = guest.sit()
    assert seat.call(b"head", b"x" * 1_000_000) == 65_536
    guest.says(ANSWER)
    guest.lane.turn()
    assert guest.data == [None]
    assert seat.call(b"head", b"") == 0, "full"


def test_a_guest_that_is_gone_is_told_as_an_end_and_takes_no_event(guests: Guests) -> None:
    guest = guests.guest()
    seat = guest.sit()
    seat.call(b"head", b"")
    for fd in (guest.answers_write, guest.events_read):
        guests.fds.remove(fd)
        os.close(fd)
    guest.lane.turn()
    assert guest.data == [b""]
    assert seat.call(b"head", b"") == -1


def test_a_turn_with_no_news_tells_nobody(guest: Guest) -> None:
    seat = guest.sit()
    seat.call(b"head", b"")
    assert guest.lane.turn() == 0
    seat.close()
    assert guest.lane.turn() == 0


def test_what_a_listener_raises_is_its_seats_fault_and_the_others_are_told(guests: Guests) -> None:
    first, second = guests.guest(), guests.guest()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    failing = box.Seat(first.lane, first.answers, first.events, first.log, None, None, fail, fail, first.faults.append)
    failing.watch(True)
    other = second.sit()
    for guest, seat in ((first, failing), (second, other)):
        seat.call(b"head", b"")
        guest.says(ANSWER)
    assert first.lane.turn() == 2
    assert [type(error) for error in first.faults] == [ZeroDivisionError]
    assert second.answered == [(b'{"a":1}', False)]


def test_a_seat_that_another_one_closes_in_the_same_turn_is_not_told(guests: Guests) -> None:
    first, second = guests.guest(), guests.guest()
    seats: list[box.Seat] = []

    def close_both(*_: object) -> None:
        for seat in seats:
            seat.close()

    for guest in (first, second):
        seat = box.Seat(
            guest.lane, guest.answers, guest.events, guest.log, None, None, close_both, close_both, guest.faults.append
        )
        seat.watch(True)
        seat.call(b"head", b"")
        seats.append(seat)
    # Whoever takes the place of one that was closed hears nothing of what came for it.
    first.says(ANSWER)
    second.says(ANSWER)
    assert guests.lane.turn() == 1
    assert guests.lane.turn() == 0
    assert first.faults == second.faults == []


def test_a_place_that_is_taken_again_hears_nothing_of_the_one_before(guests: Guests) -> None:
    first = guests.guest()
    seat = first.sit()
    seat.call(b"head", b"")
    seat.close()
    second = guests.guest()
    taken = second.sit()
    taken.call(b"head", b"")
    first.says(ANSWER)
    assert guests.lane.turn() == 0
    assert seat.call(b"head", b"") == -1
    with pytest.raises(SandboxFault):
        seat.watch(True)
    assert not second.answered
    assert not second.data


def test_a_hundred_seats_taken_ten_times_hear_their_own(guests: Guests) -> None:
    everybody = [guests.guest() for _ in range(100)]
    for _ in range(10):
        seats = [guest.sit() for guest in everybody]
        for guest, seat in zip(everybody, seats, strict=True):
            seat.call(b"head", b"")
            guest.says(wire.frame(wire.RESULT, str(guest.answers).encode()))
        while guests.lane.turn():
            pass
        for seat in seats:
            seat.close()
    assert all(guest.answered == [(str(guest.answers).encode(), False)] * 10 for guest in everybody)


async def test_its_descriptor_is_readable_when_there_is_news(guest: Guest) -> None:
    seat = guest.sit()
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def turn() -> None:
        guest.lane.turn()
        told.set()

    loop.add_reader(guest.lane.fileno(), turn)
    seat.call(b"head", b"")
    guest.says(ANSWER)
    await asyncio.wait_for(told.wait(), 30)
    loop.remove_reader(guest.lane.fileno())
    assert guest.answered == [(b'{"a":1}', False)]
