"""The engine's own log: its form, its levels, and what never gets into it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from engine.observe import oplog

ROOT = Path(__file__).resolve().parents[3]


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def the_runs_own_logging() -> Iterator[None]:
    """What configure() changes is the process's: given back after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    others = {name: logging.getLogger(name).level for name in ("asyncio", "uvicorn")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in others.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    oplog.configure("info", "auto", stream)
    return stream


def test_a_line_is_one_json_document_with_time_level_event_and_what_was_given(stream: io.StringIO) -> None:
    oplog.logger().info("function_created", function="thumbs", code_size_bytes=4096)
    (line,) = lines(stream)
    assert list(line)[:3] == ["time", "level", "event"]
    assert line | {"time": ""} == {
        "time": "", "level": "info", "event": "function_created", "function": "thumbs", "code_size_bytes": 4096,
    }  # fmt: skip
    assert line["time"].endswith("Z")


def test_a_terminal_gets_text() -> None:
    terminal = Terminal()
    oplog.configure("info", "auto", terminal)
    oplog.logger().info("serving", grpc_port=1)
    assert "serving" in terminal.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(terminal.getvalue())


@pytest.mark.parametrize(("format", "is_json"), [("json", True), ("text", False)])
def test_the_format_can_be_decided(format: str, is_json: bool) -> None:
    stream = Terminal() if is_json else io.StringIO()
    oplog.configure("info", format, stream)
    oplog.logger().info("serving")
    assert stream.getvalue().startswith("{") == is_json


def test_every_line_of_a_request_has_its_id_and_no_other_line(stream: io.StringIO) -> None:
    log = oplog.logger()
    with oplog.bound(request_id="r-1"):
        log.info("started")
        logging.getLogger("library").warning("odd %s", "thing")
    log.info("after")
    started, odd, after = lines(stream)
    assert (started["request_id"], odd["request_id"]) == ("r-1", "r-1")
    assert (odd["event"], odd["logger"]) == ("odd thing", "library")
    assert "request_id" not in after


def test_bytes_and_what_is_secret_by_name_are_never_shown(stream: io.StringIO) -> None:
    secret = "hunter2"
    oplog.logger().warning(
        "odd",
        payload=secret,
        data=secret.encode(),
        Password=secret,
        nested={"token": secret, "inner": [{"environment": {"KEY": secret}}, secret.encode()]},
        kept="kept",
    )
    assert secret not in stream.getvalue()
    (line,) = lines(stream)
    assert (line["kept"], line["data"], line["payload"]) == ("kept", "[7 bytes]", "[withheld: 7]")


def test_a_traceback_shows_no_variables(stream: io.StringIO) -> None:
    hidden = "-".join(["hunter", "2"])
    try:
        raise RuntimeError("it broke")
    except RuntimeError:
        oplog.logger().exception("failed")
    assert "it broke" in lines(stream)[0]["exception"]
    assert hidden not in stream.getvalue()


def test_levels_can_change_while_it_runs(stream: io.StringIO) -> None:
    log = oplog.logger()
    log.debug("hidden")
    oplog.set_level("debug")
    log.debug("shown")
    oplog.set_level("error")
    log.warning("hidden too")
    assert [line["event"] for line in lines(stream)] == ["shown"]


def test_a_librarys_chatter_is_shown_only_for_debugging(stream: io.StringIO) -> None:
    chatty = logging.getLogger("uvicorn.error")
    chatty.info("Started server process")
    chatty.warning("trouble")
    oplog.set_level("debug")
    chatty.info("Finished server process")
    assert [line["event"] for line in lines(stream)] == ["trouble", "Finished server process"]


def test_before_it_is_configured_standard_output_stays_clean() -> None:
    code = "from engine.observe import oplog; log = oplog.logger(); log.info('a'); log.warning('b', payload='hunter2')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout == ""
    assert "b" in ran.stderr
    assert "hunter2" not in ran.stderr
