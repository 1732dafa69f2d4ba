"""Where a guest's time went: told with the answer to an event that asks, and only then."""

from __future__ import annotations

import json
import time

from engine.guest import wire
from tests.unit.guest.driver import Guest

ECHO = "def handler(event, context):\n    return event\n"
TOUCHES = """
import mmap
def handler(event, context):
    kept = mmap.mmap(-1, 8 << 20)
    kept.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, len(kept), 4096):
        kept[at] = 1
    return len(kept)
"""


def moments(guest: Guest) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The five moments and the six counts of the TIMELINE that is due."""
    kind, body = guest.frame()
    assert kind == wire.TIMELINE, (kind, body, guest.log)
    found = wire.MOMENTS.unpack(body)
    return found[:5], found[5:]


def start(guest: Guest, source: str) -> None:
    guest.code(source)
    guest.specify()
    guest.event(1, timeline=True)


def test_the_first_event_has_every_moment_in_order_within_its_run(any_guest: Guest) -> None:
    began = time.monotonic_ns()
    start(any_guest, ECHO)
    assert any_guest.frame() == (wire.READY, b"")
    found, counts = moments(any_guest)
    all_moments = [began, *found, time.monotonic_ns()]
    assert all_moments == sorted(all_moments)
    assert min(counts[::2]) > 0
    assert any_guest.result() == 1


def test_a_later_event_has_when_it_was_read_and_answered(guest: Guest) -> None:
    guest.start(ECHO)
    guest.result()
    guest.event(2, timeline=True)
    (read, *init, answered), _ = moments(guest)
    assert 0 < read < answered
    assert init == [0, 0, 0]
    assert guest.result() == 2


def test_page_faults_of_the_handler_are_counted_as_its_own(guest: Guest) -> None:
    start(guest, TOUCHES)
    assert guest.frame() == (wire.READY, b"")
    _, (read, _, ready, _, answered, _) = moments(guest)
    assert answered - ready >= 2_000
    assert ready - read < 2_000
    assert guest.result() == 8 << 20


def test_who_does_not_ask_gets_none(guest: Guest) -> None:
    guest.start(ECHO, 1)
    assert guest.result() == 1
    guest.event(2, timeline=True)
    moments(guest)
    assert guest.result() == 2
    assert guest.call(3) == 3


def test_an_error_and_an_init_phase_that_fails_have_theirs_too(guest: Guest) -> None:
    start(guest, "def handler(event, context):\n    raise ValueError\n")
    assert guest.frame() == (wire.READY, b"")
    assert all(moments(guest)[0])
    assert guest.error()["errorType"] == "ValueError"


def test_of_an_init_phase_that_fails_it_is_told_how_far_it_came(guest: Guest) -> None:
    start(guest, "raise ValueError\n")
    (read, prepared, imported, ready, answered), _ = moments(guest)
    assert 0 < read < prepared < answered
    assert (imported, ready) == (0, 0)
    kind, body = guest.frame()
    assert (kind, json.loads(body)["errorType"]) == (wire.INIT_ERROR, "ValueError")


def test_what_is_streamed_comes_before_them_and_its_end_after(guest: Guest) -> None:
    guest.code("def handler(event, context):\n    yield b'a'\n    yield b'b'\n")
    guest.specify()
    guest.event(timeline=True, stream_limit_bytes=100)
    kinds: list[int] = []
    while not kinds or kinds[-1] != wire.RESULT:
        kinds.append(guest.frame()[0])
    assert kinds[0] == wire.READY
    assert kinds[-2] == wire.TIMELINE
    assert wire.CHUNK in kinds[:-2]
