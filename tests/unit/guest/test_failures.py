"""A handler that fails, in each way, and what the call after it finds."""

from __future__ import annotations

import json
import signal

import pytest

from tests.unit.guest.driver import Guest

CASES = """
import os, sys
def fails(event):
    exec(event, globals())
def handler(event, context):
    if event is None:
        return "fine"
    return fails(event)
"""


def test_an_exception_is_a_document_with_the_user_s_frames(any_guest: Guest) -> None:
    source = "def inner():\n    raise ValueError('bad')\n\ndef handler(event, context):\n    inner()\n"
    any_guest.start(source)
    path = any_guest.task_root / "app.py"
    assert any_guest.error() == {
        "errorMessage": "bad",
        "errorType": "ValueError",
        "requestId": "r1",
        "stackTrace": [
            f'  File "{path}", line 5, in handler\n    inner()\n',
            f"  File \"{path}\", line 2, in inner\n    raise ValueError('bad')\n",
        ],
    }
    nbsp = "\u00a0"
    record = "\r".join(
        [
            "[ERROR] ValueError: bad",
            "Traceback (most recent call last):",
            f'{nbsp * 2}File "{path}", line 5, in handler',
            f"{nbsp * 4}inner()",
            f'{nbsp * 2}File "{path}", line 2, in inner',
            f"{nbsp * 4}raise ValueError('bad')",
        ]
    )
    assert any_guest.log.decode() == record + "\n"


def test_the_trace_reads_as_python_s_own(any_guest: Guest) -> None:
    source = """
import traceback
def deep(n):
    if n:
        deep(n - 1)
    raise KeyError(
        "k"
    )
def handler(event, context):
    try:
        deep(event)
    except KeyError as error:
        found = error
        tuples = [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(error.__traceback__)]
    if event == 0:
        return traceback.format_list(tuples)
    raise found
"""
    any_guest.start(source, 0)
    assert len(any_guest.result()) == 2
    any_guest.event(1)
    any_guest.error()
    any_guest.event(100)
    trace = any_guest.error()["stackTrace"]
    assert "  [Previous line repeated 97 more times]\n" in trace
    assert len(trace) == 7  # handler twice, three lines and the note, the one that raises


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("class E(Exception):\n def __str__(self): raise RuntimeError\nraise E()", "E", "<exception str() failed>"),
        ("class E(Exception):\n def __str__(self): sys.exit(9)\nraise E()", "E", "<exception str() failed>"),
        ("class E(Exception):\n def __str__(self): return 5\nraise E()", "E", "<exception str() failed>"),
        ("raise ValueError('\\ud800')", "ValueError", "\ud800"),
        ("raise type('\u20ac odd\\n', (Exception,), {})('x')", "\u20ac odd\n", "x"),
        ("raise type('n' * 1000, (Exception,), {})('x')", "n" * 256, "x"),
        ("raise Exception()", "Exception", ""),
        ("raise Exception('\\x00\\x07')", "Exception", "\x00\x07"),
        ("import io\nraise io.UnsupportedOperation('u')", "UnsupportedOperation", "u"),
        (
            "class M(type):\n"
            " @property\n"
            " def __name__(self): raise RuntimeError\n"
            "class E(Exception, metaclass=M): pass\n"
            "raise E('m')",
            "E",
            "m",
        ),
    ],
)
def test_an_odd_exception_is_a_document_all_the_same(guest: Guest, code: str, kind: str, message: str) -> None:
    guest.start(CASES, code)
    document = guest.error()
    assert (document["errorType"], document["errorMessage"]) == (kind, message)
    assert guest.call() == "fine"


def test_a_recursion_error_is_a_document(any_guest: Guest) -> None:
    any_guest.start("def handler(event, context):\n    return handler(event, context)\n")
    document = any_guest.error()
    assert document["errorType"] == "RecursionError"
    assert len(document["stackTrace"]) == 4


@pytest.mark.parametrize("character", ["x", "\u00e4", "\\U0001f600", "\\x01"])
def test_a_document_is_shortened_to_its_limit(guest: Guest, character: str) -> None:
    code = f"def f(n):\n    if n == 0: raise ValueError('{character}' * 2_000_000)\n    g(n - 1)\n"
    code += "def g(n):\n    f(n)\n" + "f(400)\n"
    guest.start(CASES, code)
    document = guest.error()
    assert document["errorType"] == "ValueError"
    assert len(document["errorMessage"]) > 10_000
    assert document["errorMessage"].endswith("... (shortened)")
    assert len(document["stackTrace"]) > 100
    assert guest.call() == "fine"


def test_an_endless_trace_is_shortened(guest: Guest) -> None:
    code = "sys.setrecursionlimit(20_000)\n"
    code += "def f(n):\n    if n == 0: raise ValueError('end')\n    g(n - 1)\ndef g(n):\n    f(n)\nf(6_000)\n"
    guest.start(CASES, code)
    document = guest.error()
    assert document["errorMessage"] == "end"
    assert document["stackTrace"][-1] == "  ... (shortened)\n"
    assert guest.call() == "fine"


def test_a_handler_that_takes_other_arguments_is_a_handler_error(guest: Guest) -> None:
    guest.start("def handler(event):\n    return 1\n")
    document = guest.error()
    assert document["errorType"] == "TypeError"
    assert document["stackTrace"] == []


@pytest.mark.parametrize(
    ("statement", "status", "log"),
    [
        ("sys.exit()", 0, b""),
        ("sys.exit(None)", 0, b""),
        ("sys.exit(1)", 1, b""),
        ("sys.exit(300)", 300 & 0xFF, b""),
        ("sys.exit(-1)", 255, b""),
        ("sys.exit(1 << 70)", 255, b""),
        ("sys.exit(True)", 1, b""),
        ("sys.exit('a reason')", 1, b"a reason\n"),
        ("sys.exit((1, 2))", 1, b"(1, 2)\n"),
        ("print('partial', end=''); sys.exit(7)", 7, b"partial"),
        ("os._exit(5)", 5, b""),
        ("import atexit; atexit.register(print, 'hook'); sys.exit(0)", 0, b"hook\n"),
    ],
)
def test_an_exit_ends_the_process_as_python_does_and_sends_nothing(
    guest: Guest, statement: str, status: int, log: bytes
) -> None:
    guest.start(CASES, statement)
    assert guest.ended() == status
    assert guest.log == log


def test_a_keyboard_interrupt_ends_the_process_by_its_signal(any_guest: Guest) -> None:
    any_guest.start(CASES, "raise KeyboardInterrupt")
    assert any_guest.ended() == -signal.SIGINT
    assert b"KeyboardInterrupt" in any_guest.log


def test_another_base_exception_ends_the_process_with_its_traceback_of_user_code(any_guest: Guest) -> None:
    any_guest.start("class Stop(BaseException): pass\ndef handler(event, context):\n    raise Stop('now')\n")
    assert any_guest.ended() == 1
    assert b"Stop: now" in any_guest.log
    assert b"in handler" in any_guest.log
    assert b"cleave_guest" not in any_guest.log


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("os.abort()", signal.SIGABRT),
        ("os.kill(os.getpid(), 9)", signal.SIGKILL),
        ("import ctypes; ctypes.string_at(0)", signal.SIGSEGV),
    ],
)
def test_a_death_by_signal_is_one_and_keeps_what_was_printed(guest: Guest, statement: str, number: int) -> None:
    guest.start(CASES, f"print('line'); {statement}")
    assert guest.ended() == -number
    assert guest.log == b"line\n"


def test_an_event_that_is_not_json_is_an_unmarshal_error(any_guest: Guest) -> None:
    any_guest.start("def handler(event, context):\n    return event\n")
    any_guest.result()
    for raw, message in (
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"", None),
        (b"\n x", "Expecting value: line 2 column 2 (char 2)"),
        (b"1 2", "Extra data: line 1 column 3 (char 2)"),
        (b"NaN", "NaN is not JSON"),
    ):
        any_guest.event(raw=raw)
        if message is None:
            assert any_guest.result() == {}
            continue
        document = any_guest.error()
        assert document["errorType"] == "Runtime.UnmarshalError"
        assert document["errorMessage"] == f"Unable to unmarshal input: {message}"
    any_guest.event(raw=b"\xff")
    assert any_guest.error()["errorType"] == "Runtime.UnmarshalError"
    any_guest.event(raw=b"[" * 100_000)
    assert any_guest.error()["errorType"] == "Runtime.UnmarshalError"
    any_guest.event(raw=b'\xef\xbb\xbf "bom" \n')
    assert any_guest.result() == "bom"


def test_closing_the_control_stream_hurts_only_itself(guest: Guest) -> None:
    guest.start(CASES, "os.close(3)")
    assert guest.ended() == 70
    assert b"control stream" in guest.log


def test_garbage_on_the_control_stream_is_passed_as_it_is(guest: Guest) -> None:
    guest.start(CASES, "os.write(3, b'garbage' * 10)")
    assert guest.garbage(14) == b"garbagegarbage"


def test_the_json_log_format_holds_for_handler_errors(guest: Guest) -> None:
    guest.start(CASES, "raise ValueError('bad')", log_format="JSON")
    guest.error()
    record = json.loads(guest.log)
    assert (record["errorType"], record["requestId"], record["log_level"]) == ("ValueError", "r1", "ERROR")
