"""A large payload in the engine: what of it is in memory at a time."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.sandbox.link import Ends, GuestLink
from engine.sandbox.messages import event_frame
from tests.sandboxes import Collected, event, real_pool, spec, write_code

pytestmark = pytest.mark.privileged

SIZE = 4_000_000
ECHO = "def handler(event, context):\n    return event\n"


def test_an_event_s_payload_is_sent_as_the_client_s_bytes_themselves() -> None:
    asked = replace(event(), payload=b"x" * 100)
    assert event_frame(asked)[1] is asked.payload


async def test_a_large_event_that_waits_for_its_guest_waits_uncopied() -> None:
    body = b"x" * SIZE
    answers, answers_in = os.pipe()
    events_out, events = os.pipe()
    link = GuestLink(asyncio.get_running_loop(), Ends(answers, events), {}, lambda *_: None, lambda _: None)
    tracemalloc.start()
    try:
        assert link.send(b"head", body)
        assert tracemalloc.get_traced_memory()[1] < 0.1 * SIZE
    finally:
        tracemalloc.stop()
        link.close()
        os.close(events_out)
        os.close(answers_in)


async def test_the_engine_has_a_large_result_twice_at_most_and_copies_no_event(tmp_path: Path) -> None:
    asked = replace(event(), payload=b"\xff" * SIZE, raw=True)
    async with real_pool(tmp_path) as pool:
        sandbox = await pool.start(spec(write_code(tmp_path / "code", ECHO)))
        try:
            await sandbox.run(asked, Collected())
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            try:
                ending = await sandbox.run(asked, Collected())
                now, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert ending.payload == asked.payload
            assert now - before < 1.1 * SIZE
            assert peak - before < 2.1 * SIZE, "as it was read, and as the front gets it"
        finally:
            await sandbox.close()
