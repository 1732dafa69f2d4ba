"""Every row of error_rows.py in each Python: the documents byte for byte; the process serves on, or has ended."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from engine.guest import wire
from tests.unit.guest.driver import Guest, name_of
from tests.unit.guest.error_rows import EXITS, HANDLER, INIT, Failure

HANDLE = """
import sys
def handler(event, context):
    if event == "good":
        return "good"
    return globals()[event](context)
"""
CALL = ("handler", "return globals()[event](context)")
KEYS = {"errorMessage", "errorType", "requestId", "stackTrace"}


def release_of(python: str) -> tuple[int, ...]:
    name = name_of(python)
    return sys.version_info[:2] if name == "own" else tuple(int(part) for part in re.findall(r"\d+", name)[:2])


def renamed(text: str, number: int) -> str:
    """Each row's `fail` has a name of its own in the module of all."""
    return re.sub(r"\bfail\b", f"fail_{number}", text)


def frames(path: Path, places: Iterable[tuple[int, str, str]]) -> list[str]:
    """As traceback.format_list writes them: line number, function, text."""
    return [f'  File "{path}", line {number}, in {function}\n    {line}\n' for number, function, line in places]


def place(source: str, function: str, line: str, above: int = 0) -> tuple[int, str, str]:
    """Where the line is: it stands once in the source, which has so many lines above it."""
    (at,) = (number for number, text in enumerate(source.split("\n"), 1) if text.strip() == line)
    return above + at, function, line


def trace(path: Path, row: Failure, number: int, above: int) -> list[str]:
    """What the row's document has to hold."""
    source = renamed(row.source, number)
    own = [place(source, renamed(name, number), renamed(line, number), above) for name, line in row.trace or ()]
    return frames(path, [place(HANDLE, *CALL), *own])


def written(document: dict[str, Any], release: tuple[int, ...]) -> bytes:
    """As AWS's client writes it: characters as they are from 3.12 on, but for half a surrogate pair."""
    try:
        return json.dumps(document, ensure_ascii=release < (3, 12)).encode()
    except UnicodeEncodeError:
        return json.dumps(document).encode()


def test_every_failure_of_a_handler_is_told_byte_for_byte_and_the_next_call_is_served(
    python: str, tmp_path: Path
) -> None:
    release = release_of(python)
    rows = [(name, row) for name, row in HANDLER.items() if row.since <= release]
    source, above = HANDLE, []
    for number, (_, row) in enumerate(rows):
        above.append(source.count("\n"))
        source += renamed(row.source, number) + "\n"
    wrong = {}
    with Guest(tmp_path, python=python) as guest:
        guest.start(source, "good")
        assert guest.result() == "good"
        for number, (name, row) in enumerate(rows):
            guest.event(f"fail_{number}", request_id=f"r{number}")
            kind, body = guest.frame()
            assert kind == wire.ERROR, (name, kind, body, guest.log)
            document: dict[str, Any] = {"errorMessage": row.message, "errorType": row.error_type}
            document["requestId"] = f"r{number}"
            document["stackTrace"] = trace(guest.task_root / "app.py", row, number, above[number])
            if row.trace is None:
                document["stackTrace"] = json.loads(body)["stackTrace"]
                assert "cleave_guest" not in str(document), name
            if body != written(document, release):
                wrong[name] = (body, written(document, release))
        assert not wrong
        assert guest.call("good") == "good"


@pytest.mark.parametrize("name", EXITS)
def test_every_exit_ends_the_process_as_python_ends_it(python: str, tmp_path: Path, name: str) -> None:
    row = EXITS[name]
    if release_of(python) < row.since:
        return  # there is no such exception
    with Guest(tmp_path, python=python) as guest:
        guest.start(row.source)
        assert guest.ended() == row.status
        assert row.log in guest.log.decode()
        assert b"cleave_guest" not in guest.log.partition(b"Exception ignored")[0]  # Python's own words for atexit


@pytest.mark.parametrize("name", INIT)
def test_every_failure_of_an_init_phase_is_told_byte_for_byte(python: str, tmp_path: Path, name: str) -> None:
    handler, source, error_type, message = INIT[name]
    with Guest(tmp_path, python=python) as guest:
        guest.code(source)
        guest.specify(handler)
        guest.event()
        kind, body = guest.frame()
        assert kind == wire.INIT_ERROR
        places = []
        if not error_type.startswith("Runtime."):
            last = source.rstrip("\n").split("\n")[-1]
            places = [place(source, "<module>", last)]
        document = {"errorMessage": message, "errorType": error_type, "requestId": ""}
        assert body == written({**document, "stackTrace": frames(guest.task_root / "app.py", places)}, (3, 12))
        assert guest.ended() == 1
