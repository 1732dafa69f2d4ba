"""Answers that are made in parts: by generators, by async ones, and through the context's file."""

from __future__ import annotations

import json
import os

import pytest

from engine.guest import wire
from tests.unit.guest.driver import Guest

LIMIT = 10_000_000

GENERATOR = """
def handler(event, context):
    yield b"bytes,"
    yield bytearray(b"more,")
    yield memoryview(b"of them,")
    yield "text \\u20ac\\n"
    yield {"a": [1, None]}
    yield 2
    yield ""
"""
ASYNC_GENERATOR = GENERATOR.replace("def handler", "import asyncio\nasync def handler").replace(
    "    yield 2", "    await asyncio.sleep(0)\n    yield 2"
)
MADE = [b"bytes,", b"more,", b"of them,", "text €\n".encode(), b'{"a": [1, null]}\n', b"2\n"]


def streamed(guest: Guest, payload: object = None, limit: int = LIMIT) -> tuple[list[bytes], int, bytes]:
    """The chunks of one event's answer, and its last frame."""
    guest.event(payload, stream_limit_bytes=limit)
    return rest(guest)


def rest(guest: Guest) -> tuple[list[bytes], int, bytes]:
    """What is left of it."""
    chunks: list[bytes] = []
    while True:
        kind, body = guest.frame()
        if kind != wire.CHUNK:
            return chunks, kind, body
        assert 0 < len(body) <= wire.CHUNK_LIMIT_BYTES
        chunks.append(body)


def started(guest: Guest, code: str) -> Guest:
    """A guest that has loaded its code and has had an event."""
    guest.start(code)
    guest.frame()
    return guest


@pytest.mark.parametrize("code", [GENERATOR, ASYNC_GENERATOR], ids=["generator", "async generator"])
def test_what_is_yielded_leaves_as_it_is_made(any_guest: Guest, code: str) -> None:
    started(any_guest, code)
    assert streamed(any_guest) == (MADE, wire.RESULT, b"")
    assert streamed(any_guest) == (MADE, wire.RESULT, b"")
    assert any_guest.log == b""


@pytest.mark.parametrize("code", [GENERATOR, ASYNC_GENERATOR], ids=["generator", "async generator"])
def test_a_caller_that_wants_the_whole_gets_it_in_one_piece(any_guest: Guest, code: str) -> None:
    any_guest.start(code)
    assert any_guest.frame() == (wire.RESULT, b"".join(MADE))


def test_the_first_chunk_is_there_before_the_second_is_made(guest: Guest) -> None:
    fifo = guest.task_root / "fifo"
    os.mkfifo(fifo)
    guest.code("def handler(event, context):\n    yield 'first'\n    yield open(event).read()\n")
    guest.specify()
    guest.event(str(fifo), stream_limit_bytes=LIMIT)
    assert [guest.frame(), guest.frame()] == [(wire.READY, b""), (wire.CHUNK, b"first")]
    fifo.write_text("second")  # the handler waits for it
    assert rest(guest) == ([b"second"], wire.RESULT, b"")


def test_other_iterators_are_streamed_too(guest: Guest) -> None:
    guest.code("x\ny\n", "lines.txt")
    started(
        guest,
        """
import os
def handler(event, context):
    if event == "map":
        return map(str, range(3))
    if event == "file":
        return open(os.environ["LAMBDA_TASK_ROOT"] + "/lines.txt", "rb")
    return iter(())
""",
    )
    assert streamed(guest, "map") == ([b"0", b"1", b"2"], wire.RESULT, b"")
    assert streamed(guest, "file") == ([b"x\n", b"y\n"], wire.RESULT, b"")
    assert streamed(guest) == ([], wire.RESULT, b"")


def test_a_plain_result_is_one_frame_also_where_a_stream_was_asked_for(guest: Guest) -> None:
    guest.start("def handler(event, context):\n    return [event]\n")
    guest.frame()
    assert streamed(guest, 1) == ([], wire.RESULT, b"[1]")


def test_a_large_chunk_is_sent_as_several(any_guest: Guest) -> None:
    started(any_guest, "def handler(event, context):\n    yield bytes(range(256)) * event if event else b''\n")
    size = 256 * 4_000
    chunks, kind, body = streamed(any_guest, 4_000)
    assert b"".join(chunks) == bytes(range(256)) * 4_000
    assert len(chunks) == -(-size // wire.CHUNK_LIMIT_BYTES)
    assert (kind, body) == (wire.RESULT, b"")


@pytest.mark.parametrize("maker", ["def", "async def"])
def test_an_error_in_the_middle_comes_after_the_chunks(any_guest: Guest, maker: str) -> None:
    started(any_guest, f"{maker} handler(event, context):\n    yield b'half'\n    raise ValueError('whole')\n")
    chunks, kind, body = streamed(any_guest)
    document = json.loads(body)
    assert (chunks, kind) == ([b"half"], wire.ERROR)
    assert (document["errorType"], document["errorMessage"]) == ("ValueError", "whole")
    assert document["stackTrace"] == [
        f"  File \"{any_guest.task_root}/app.py\", line 3, in handler\n    raise ValueError('whole')\n"
    ]
    assert b"[ERROR] ValueError: whole" in any_guest.log


@pytest.mark.parametrize("value", ["object()", "'\\ud800'", "{1j: 2}"])
def test_what_has_no_form_ends_the_stream_and_closes_the_generator(guest: Guest, value: str) -> None:
    started(
        guest,
        f"""
def handler(event, context):
    try:
        yield b"one"
        yield {value}
    finally:
        print("closed")
""",
    )
    guest.log = b""
    chunks, kind, body = streamed(guest)
    assert (chunks, kind) == ([b"one"], wire.ERROR)
    assert json.loads(body)["errorType"] == "Runtime.MarshalError"
    assert guest.log.startswith(b"closed\n")


ENDLESS = """
def handler(event, context):
    try:
        while event:
            yield bytes(1000)
    finally:
        print("closed")
"""


@pytest.mark.parametrize("maker", ["def", "async def"])
@pytest.mark.parametrize("stream_limit", [0, 10_000])
def test_an_answer_over_its_limit_is_cut_off_there(any_guest: Guest, maker: str, stream_limit: int) -> None:
    any_guest.code(ENDLESS.replace("def", maker))
    any_guest.specify(result_limit_bytes=20_000)
    any_guest.event(0)
    assert [any_guest.frame()[0] for _ in range(2)] == [wire.READY, wire.RESULT]
    chunks, kind, body = streamed(any_guest, 1, stream_limit)
    assert (kind, body) == (wire.TOO_LARGE, b"")
    assert len(b"".join(chunks)) == stream_limit
    assert any_guest.log == b"closed\n" * 2
    assert streamed(any_guest, 0) == ([], wire.RESULT, b"")


FILE = """
import csv, io, shutil, zipfile
kept = None
def handler(event, context):
    global kept
    stream = context.response_stream
    if event == "csv":
        csv.writer(stream).writerow(["a", 1])
    elif event == "text":
        with io.TextIOWrapper(stream, encoding="utf-8") as text:
            print("\\u20ac", file=text)
    elif event == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.txt", "inside")
    elif event == "copy":
        shutil.copyfileobj(io.BytesIO(b"x" * 100_000), stream)
    elif event == "kept":
        kept.write(b"late")
    elif event == "over":
        for _ in range(200):
            stream.write(bytes(100_000))
    elif event == "caught":
        try:
            for _ in range(200):
                stream.write(bytes(100_000))
        except OSError as error:
            print(error)
    elif event == "closed":
        stream.close()
        try:
            stream.write(b"more")
        except ValueError as error:
            print(error)
    elif event == "unused":
        return "the result"
    elif event == "shape":
        return [stream.writable(), stream.readable(), stream.seekable(), stream.mode, stream is context.response_stream]
    elif event == "mixed":
        stream.write("head;")
        return (part for part in ("a", "b"))
    kept = stream
    return "not looked at"
"""


def test_libraries_write_into_the_response_stream_as_into_a_file(any_guest: Guest) -> None:
    started(any_guest, FILE)
    assert streamed(any_guest, "csv") == ([b"a,1\r\n"], wire.RESULT, b"")
    assert b"".join(streamed(any_guest, "text")[0]) == "€\n".encode()
    chunks, kind, _ = streamed(any_guest, "zip")
    assert kind == wire.RESULT
    assert b"inside" in b"".join(chunks)
    assert b"".join(streamed(any_guest, "copy")[0]) == b"x" * 100_000
    assert any_guest.log == b""


def test_a_response_stream_that_is_not_used_leaves_the_result_alone(guest: Guest) -> None:
    started(guest, FILE)
    assert streamed(guest, "unused") == ([], wire.RESULT, b'"the result"')
    assert json.loads(streamed(guest, "shape")[2]) == [True, False, False, "wb", True]


def test_a_response_stream_and_then_an_iterator_are_one_answer(guest: Guest) -> None:
    started(guest, FILE)
    assert streamed(guest, "mixed") == ([b"head;", b"a", b"b"], wire.RESULT, b"")


def test_a_response_stream_that_was_closed_takes_nothing_more(guest: Guest) -> None:
    started(guest, FILE)
    assert streamed(guest, "closed") == ([], wire.RESULT, b"")
    assert b"closed file" in guest.log


@pytest.mark.parametrize("how", ["over", "caught"])
def test_a_response_stream_over_its_limit_says_so_to_the_writer_and_to_the_caller(guest: Guest, how: str) -> None:
    started(guest, FILE)
    chunks, kind, _ = streamed(guest, how, 1_000_000)
    assert (len(b"".join(chunks)), kind) == (1_000_000, wire.TOO_LARGE)


def test_nothing_is_written_into_the_stream_of_an_invocation_that_has_ended(guest: Guest) -> None:
    started(guest, FILE)
    streamed(guest, "csv")
    chunks, kind, body = streamed(guest, "kept")
    assert (chunks, kind) == ([], wire.ERROR)
    assert "has ended" in json.loads(body)["errorMessage"]


SLOW_READER = """
import sys, threading, time
made = 0
def watch():
    before = 0
    while made < 300 and (not made or made != before):
        before = made
        time.sleep(0.3)
    sys.stderr.write(f"stopped at {made}\\n")
def handler(event, context):
    global made
    if not event:
        return
    threading.Thread(target=watch, daemon=True).start()
    for made in range(1, 301):
        yield bytes(20_000)
"""


@pytest.mark.parametrize("maker", ["def", "async def"])
def test_a_slow_reader_holds_the_handler_up_at_its_yield(any_guest: Guest, maker: str) -> None:
    started(any_guest, SLOW_READER.replace("def handler", f"{maker} handler"))
    any_guest.event(1, stream_limit_bytes=100_000_000)
    any_guest.written(b"stopped at ")
    assert int(any_guest.log.split(b"stopped at ")[1]) < 150
    chunks, kind, _ = rest(any_guest)
    assert (len(b"".join(chunks)), kind) == (6_000_000, wire.RESULT)


def test_other_tasks_go_on_while_a_reader_is_slow(any_guest: Guest) -> None:
    started(
        any_guest,
        """
import asyncio, sys
async def tick():
    for n in range(50):
        await asyncio.sleep(0.01)
    sys.stderr.write("ticked\\n")
async def handler(event, context):
    if event:
        asyncio.get_running_loop().create_task(tick())
        for _ in range(300):
            yield bytes(20_000)
""",
    )
    any_guest.event(1, stream_limit_bytes=100_000_000)
    any_guest.written(b"ticked\n")  # nothing of the answer has been read yet
    chunks, kind, _ = rest(any_guest)
    assert (len(b"".join(chunks)), kind) == (6_000_000, wire.RESULT)


def test_threads_write_whole_chunks(guest: Guest) -> None:
    started(
        guest,
        """
import threading
def handler(event, context):
    def write(mark):
        for _ in range(200):
            context.response_stream.write(mark * 5000)
    threads = [threading.Thread(target=write, args=(mark,)) for mark in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
""",
    )
    chunks, kind, _ = streamed(guest)
    assert kind == wire.RESULT
    assert sorted({chunk[:1] * 5000 for chunk in chunks}) == sorted(set(chunks))
    assert len(chunks) == 600


def test_a_forked_child_cannot_write_into_the_answer(guest: Guest) -> None:
    started(
        guest,
        """
import os
def handler(event, context):
    yield b"one"
    pid = os.fork()
    if pid == 0:
        try:
            context.response_stream.write(b"child")
        except ValueError:
            os._exit(5)
        os._exit(6)
    yield os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
""",
    )
    assert streamed(guest) == ([b"one", b"5\n"], wire.RESULT, b"")


def test_an_exit_in_the_middle_ends_the_process_after_the_chunks(guest: Guest) -> None:
    started(guest, "import sys\ndef handler(event, context):\n    yield b'x'\n    if event:\n        sys.exit(3)\n")
    guest.event(1, stream_limit_bytes=LIMIT)
    assert guest.frame() == (wire.CHUNK, b"x")
    assert guest.ended() == 3
