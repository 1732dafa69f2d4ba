"""The init phase ahead of any event: PREPARE in the place of the first EVENT."""

from __future__ import annotations

import json
import time

from engine.guest import wire
from tests.unit.guest.driver import Guest

SOURCE = """
import os
print("module code", os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"])
calls = 0
def handler(event, context):
    global calls
    calls += 1
    return [calls, event, context.aws_request_id, context.get_remaining_time_in_millis()]
"""
TYPE = {"AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"}
PREPARE = wire.frame(wire.PREPARE)


def test_the_init_phase_runs_once_and_ahead_and_the_first_event_has_its_own_deadline(any_guest: Guest) -> None:
    any_guest.code(SOURCE)
    any_guest.specify(environment=TYPE)
    any_guest.send(PREPARE)
    assert any_guest.frame() == (wire.READY, b"")
    assert any_guest.log == b"module code provisioned-concurrency\n"
    deadline_ms = int(time.time() * 1000) + 500_000  # not its timeout from then on, which is that of the engine's clock
    calls, event, request_id, left_ms = any_guest.call({"a": 1}, request_id="r7", deadline_ms=deadline_ms)
    assert (calls, event, request_id) == (1, {"a": 1}, "r7")
    assert 400_000 < left_ms <= 500_000
    assert any_guest.call()[0] == 2
    assert any_guest.end() == 0


def test_its_failure_is_told_without_an_event_and_ends_the_guest(any_guest: Guest) -> None:
    any_guest.code("raise ValueError('no')")
    any_guest.specify()
    any_guest.send(PREPARE)
    document = any_guest.error(wire.INIT_ERROR)
    assert (document["errorType"], document["errorMessage"], document["requestId"]) == ("ValueError", "no", "")
    assert any_guest.ended() == 1


def test_an_exit_of_module_code_has_its_status(guest: Guest) -> None:
    guest.code("import sys; sys.exit(3)")
    guest.specify()
    guest.send(PREPARE)
    assert guest.ended() == 3


def test_one_that_is_never_given_an_event_ends_well(guest: Guest) -> None:
    guest.code(SOURCE)
    guest.specify(environment=TYPE)
    guest.send(PREPARE)
    assert guest.frame() == (wire.READY, b"")
    assert guest.end() == 0


def test_one_that_registered_for_its_end_says_so_before_it_is_ready_and_hears_of_it(guest: Guest) -> None:
    guest.code("import atexit\natexit.register(print, 'farewell')\n" + SOURCE)
    guest.specify(environment=TYPE)
    guest.send(PREPARE)
    assert guest.frame() == (wire.READY, b"")
    assert guest.farewells == 1
    guest.send(wire.frame(wire.LEAVE))
    assert guest.ended() == 0
    assert guest.log.endswith(b"farewell\n")


def test_a_second_one_breaks_the_protocol(guest: Guest) -> None:
    guest.code(SOURCE)
    guest.specify(environment=TYPE)
    guest.send(PREPARE)
    assert guest.frame() == (wire.READY, b"")
    guest.send(PREPARE)
    assert guest.ended() == 70
    assert b"frame kind 6" in guest.log


def test_the_frame_has_no_body(guest: Guest) -> None:
    guest.code(SOURCE)
    guest.specify(environment=TYPE)
    guest.send(wire.frame(wire.PREPARE, json.dumps({}).encode()))
    assert guest.ended() == 70
