"""A large payload in the guest: what of it is in memory at a time, and that its memory is not taken anew each time."""

from __future__ import annotations

import json
from typing import Any

from engine.guest import wire
from tests.unit.guest.driver import Guest

MB = 1_000_000
TEXT = b'"' + b"x" * (MB - 2) + b'"'

TRACED = """
import tracemalloc
def handler(event, context):
    if event == "begin":
        tracemalloc.start()
        return tracemalloc.get_traced_memory()
    if event == "now":
        return tracemalloc.get_traced_memory()
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    answers.append([now, peak])
    return event if event else answers
answers = []
"""


def begin(guest: Guest) -> int:
    """Serve one large event, then trace; returns the bytes that Python has then."""
    guest.start(TRACED, "x" * MB)
    guest.frame()
    return int(guest.call("begin")[0])


def traced(guest: Guest, payload: bytes, **meta: Any) -> list[int]:
    """Bytes that Python has when the handler is called with this payload, and their peak until then; and the peak
    until after its answer, which is the payload."""
    guest.event(raw=payload, **meta)
    kind, body = guest.frame()
    assert (kind, len(body)) == (wire.RESULT, len(payload))
    guest.event(raw=b"null")
    (now, peak), (_, after) = json.loads(guest.frame()[1])[-2:]
    return [now, peak, after]


def test_raw_bytes_are_in_memory_twice_at_most_and_once_while_the_handler_runs(guest: Guest) -> None:
    begin(guest)
    now, peak, after = traced(guest, b"\xff" * MB, raw_payload=True)
    assert now < 1.2 * MB
    assert peak < 2.2 * MB, "as it was read, and as the handler has it"
    assert after < 1.2 * MB, "it leaves as it is"


def test_a_json_text_is_in_memory_three_times_at_most_and_once_while_the_handler_runs(guest: Guest) -> None:
    begin(guest)
    now, peak, after = traced(guest, TEXT)
    assert now < 1.2 * MB
    assert peak < 3.2 * MB, "as it was read, as text, and as the handler has it"
    assert after < 3.2 * MB, "the value, its JSON, and that in UTF-8"


def test_nothing_of_a_payload_is_kept_until_the_next_event(guest: Guest) -> None:
    before = begin(guest)
    guest.event(raw=TEXT)
    guest.frame()
    assert guest.call("now")[0] - before < 0.2 * MB


def test_the_memory_of_large_payloads_is_taken_once(guest: Guest) -> None:
    guest.start(
        "import resource\ndef handler(event, context):\n    return [resource.getrusage(0).ru_minflt, event]\n", 1
    )
    guest.result()
    faults = [guest.call("x" * MB)[0] for _ in range(8)]
    # A megabyte has 244 pages, and each payload several copies.
    assert faults[-1] - faults[3] < 4 * 100, faults
