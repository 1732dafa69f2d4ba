"""Inputs that are read while the answer is made: `event.stream`."""

from __future__ import annotations

import json

import pytest

from engine.guest import wire
from tests.unit.guest.driver import Guest

LIMIT = 100_000_000


def talk(guest: Guest, payload: object = None) -> None:
    """Begin a conversation."""
    guest.event(payload if payload is not None else {}, stream_limit_bytes=LIMIT, input=True)


def say(guest: Guest, *chunks: bytes, end: bool = False) -> None:
    """Send chunks, and perhaps the input's end."""
    frames = [wire.frame(wire.INPUT, chunk) for chunk in chunks]
    guest.send(b"".join(frames) + (wire.frame(wire.INPUT_END) if end else b""))


def begun(guest: Guest, code: str, payload: object = None) -> Guest:
    """A guest whose handler has begun a conversation."""
    guest.code(code)
    guest.specify()
    talk(guest, payload)
    assert guest.frame() == (wire.READY, b""), guest.log
    return guest


ECHO = """
def handler(event, context):
    for chunk in event.stream:
        yield b"<" + chunk + b">"
    yield "end"
"""
ASYNC_ECHO = ECHO.replace("def ", "async def ").replace("for ", "async for ")


@pytest.mark.parametrize("code", [ECHO, ASYNC_ECHO], ids=["def", "async def"])
def test_each_chunk_is_answered_before_the_next_is_sent(any_guest: Guest, code: str) -> None:
    begun(any_guest, code)
    for _ in range(2):
        for n in range(5):
            say(any_guest, b"%d" % n)
            assert any_guest.frame() == (wire.CHUNK, b"<%d>" % n)
        say(any_guest, end=True)
        assert [any_guest.frame(), any_guest.frame()] == [(wire.CHUNK, b"end"), (wire.RESULT, b"")]
        talk(any_guest)
    assert any_guest.log == b""


@pytest.mark.parametrize("code", [ECHO, ASYNC_ECHO], ids=["def", "async def"])
def test_what_was_sent_at_once_comes_chunk_by_chunk(any_guest: Guest, code: str) -> None:
    begun(any_guest, code)
    say(any_guest, b"a", b"", b"b" * 100_000, b"c", end=True)
    frames = [any_guest.frame() for _ in range(5)]
    assert [body for _, body in frames] == [b"<a>", b"<" + b"b" * 100_000 + b">", b"<c>", b"end", b""]


def test_the_event_is_the_object_that_came_with_it(guest: Guest) -> None:
    begun(guest, "def handler(event, context):\n    return [event['a'], isinstance(event, dict), event]\n", {"a": 1})
    assert json.loads(guest.frame()[1]) == [1, True, {"a": 1}]
    talk(guest, [1])
    assert guest.error()["errorType"] == "Runtime.UnmarshalError"


def test_the_input_is_a_file_too(any_guest: Guest) -> None:
    begun(
        any_guest,
        """
import io, shutil
def handler(event, context):
    stream = event.stream
    if event["how"] == "lines":
        return [line for line in io.TextIOWrapper(io.BufferedReader(stream))]
    if event["how"] == "copy":
        shutil.copyfileobj(stream, context.response_stream)
        return
    if event["how"] == "mixed":
        return [stream.read(2).decode(), next(stream).decode(), stream.read().decode(), stream.read(1).decode()]
    return [stream.readable(), stream.writable(), stream.seekable(), stream.mode]
""",
        {"how": "lines"},
    )
    say(any_guest, b"one\ntw", b"o\nthree", end=True)
    assert any_guest.result() == ["one\n", "two\n", "three"]
    talk(any_guest, {"how": "copy"})
    say(any_guest, b"x" * 10, b"y" * 200_000, end=True)
    copied, kind = b"", wire.CHUNK
    while kind == wire.CHUNK:
        kind, body = any_guest.frame()
        copied += body
    assert copied == b"x" * 10 + b"y" * 200_000
    talk(any_guest, {"how": "mixed"})
    say(any_guest, b"abcd", b"ef", b"g", end=True)
    assert any_guest.result() == ["ab", "cd", "efg", ""]
    talk(any_guest, {"how": "shape"})
    assert any_guest.result() == [True, False, False, "rb"]


def test_an_input_that_is_not_read_does_not_reach_the_next_event(guest: Guest) -> None:
    begun(guest, "def handler(event, context):\n    return event\n", {"n": 1})
    assert guest.result() == {"n": 1}
    say(guest, b"late", b"x" * 200_000, end=True)
    assert guest.call({"n": 2}) == {"n": 2}
    talk(guest, {"n": 3})
    say(guest, b"more")
    assert guest.result() == {"n": 3}
    assert guest.call({"n": 4}) == {"n": 4}


def test_a_thread_that_still_reads_when_the_answer_is_there_takes_nothing_of_the_next_event(guest: Guest) -> None:
    begun(
        guest,
        """
import threading
said = []
def read(stream):
    try:
        said.append(next(stream).decode())
    except ValueError as error:
        said.append(str(error))
def handler(event, context):
    if hasattr(event, "stream"):
        thread = threading.Thread(target=read, args=(event.stream,), daemon=True)
        thread.start()
        return "left"
    return event
""",
    )
    assert guest.result() == "left"
    assert guest.call("next") == "next"
    assert guest.call("one more") == "one more"


def test_the_input_of_one_conversation_cannot_be_read_through_that_of_another(guest: Guest) -> None:
    begun(
        guest,
        """
kept = []
def handler(event, context):
    kept.append(event.stream)
    return next(kept[0]).decode()
""",
    )
    say(guest, b"one")
    assert guest.result() == "one"
    talk(guest)
    say(guest, b"two")
    document = guest.error()
    assert (document["errorType"], "has ended" in document["errorMessage"]) == ("ValueError", True)


def test_a_plain_event_has_no_stream(guest: Guest) -> None:
    guest.start("def handler(event, context):\n    return event.stream\n", {})
    assert guest.error()["errorType"] == "AttributeError"


def test_an_engine_that_goes_away_in_the_middle_ends_the_guest(guest: Guest) -> None:
    begun(guest, ECHO)
    say(guest, b"a")
    assert guest.frame() == (wire.CHUNK, b"<a>")
    guest.half_close()
    assert guest.error()["errorType"] == "ConnectionResetError"
    assert guest.ended() == 0


def test_other_tasks_go_on_while_the_handler_waits_for_input(any_guest: Guest) -> None:
    begun(
        any_guest,
        """
import asyncio, sys
async def tick():
    await asyncio.sleep(0.01)
    sys.stderr.write("ticked\\n")
async def handler(event, context):
    asyncio.get_running_loop().create_task(tick())
    async for chunk in event.stream:
        yield chunk
""",
    )
    any_guest.written(b"ticked\n")
    say(any_guest, b"x", end=True)
    assert [any_guest.frame(), any_guest.frame()] == [(wire.CHUNK, b"x"), (wire.RESULT, b"")]
