"""What functions do to themselves, by both doors: how each ends, AWS's document in full, and the next call at once."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.v1 import reports_pb2 as pb
from tests.doors import Answer, zip_of
from tests.engines import Engine, engine

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

SOON_S = 2.0
"""Within this the next call has to be answered on a busy machine; alone on it, milliseconds."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with engine(tmp_path_factory.mktemp("bad") / "data") as running:
        await running.grpc.create("bystander", zip_of("def handler(event, context):\n    return 'here'\n"))
        await running.grpc.invoke("bystander")
        yield running


@pytest.fixture(params=["grpc", "http"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass(frozen=True)
class Row:
    """One way to fail. In `document`, {id} is the request's id."""

    body: str  # of the handler; or the whole module, where `module` is set
    outcome: pb.Outcome.ValueType
    document: Mapping[str, Any]
    status: str | None = None  # at the end of the REPORT line
    handler: str = "app.handler"
    module: bool = False
    stays: bool = False  # the sandbox serves on
    timeout_ms: int = 3_000


def exit_document(how: str) -> dict[str, str]:
    said = f"Runtime exited with error: {how}" if how else "Runtime exited without providing a reason"
    return {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: {{id}} Error: {said}"}


def init_document(error_type: str, message: str, trace: list[str] | None = None) -> dict[str, Any]:
    return {"errorMessage": message, "errorType": error_type, "requestId": "", "stackTrace": trace or []}


def handler_document(error_type: str, message: str, trace: list[str] | None = None) -> dict[str, Any]:
    return {"errorMessage": message, "errorType": error_type, "requestId": "{id}", "stackTrace": trace or []}


GOOD_MODULE = "def handler(event, context):\n    return 'good'\n"
EXITED = "error\tError Type: Runtime.ExitError"


def init_error(error_type: str) -> str:
    return f"error\tError Type: {error_type}"


def exits(body: str, how: str) -> Row:
    return Row(body, pb.OUTCOME_EXITED, exit_document(how), EXITED)


ROWS: dict[str, Row] = {
    "a handler without a dot": Row(
        GOOD_MODULE,
        pb.OUTCOME_INIT_ERROR,
        init_document(
            "Runtime.MalformedHandlerName", "Bad handler 'app': not enough values to unpack (expected 2, got 1)"
        ),
        init_error("Runtime.MalformedHandlerName"),
        handler="app",
        module=True,
    ),
    "a missing module": Row(
        GOOD_MODULE,
        pb.OUTCOME_INIT_ERROR,
        init_document("Runtime.ImportModuleError", "Unable to import module 'nomod': No module named 'nomod'"),
        init_error("Runtime.ImportModuleError"),
        handler="nomod.handler",
        module=True,
    ),
    "a missing attribute": Row(
        GOOD_MODULE,
        pb.OUTCOME_INIT_ERROR,
        init_document("Runtime.HandlerNotFound", "Handler 'nosuch' missing on module 'app'"),
        init_error("Runtime.HandlerNotFound"),
        handler="app.nosuch",
        module=True,
    ),
    "an import that fails": Row(
        "import nosuchlibrary\n" + GOOD_MODULE,
        pb.OUTCOME_INIT_ERROR,
        init_document("Runtime.ImportModuleError", "Unable to import module 'app': No module named 'nosuchlibrary'"),
        init_error("Runtime.ImportModuleError"),
        module=True,
    ),
    "a built-in module": Row(
        GOOD_MODULE,
        pb.OUTCOME_INIT_ERROR,
        init_document("Runtime.BuiltInModuleConflict", "Cannot use built-in module time as a handler module"),
        init_error("Runtime.BuiltInModuleConflict"),
        handler="time.handler",
        module=True,
    ),
    "a module that raises": Row(
        "raise KeyError('config')\n",
        pb.OUTCOME_INIT_ERROR,
        init_document(
            "KeyError", "'config'", ["  File \"/var/task/app.py\", line 1, in <module>\n    raise KeyError('config')\n"]
        ),
        init_error("KeyError"),
        module=True,
    ),
    "a syntax error": Row(
        "def handler(event, context)\n    return 1\n",
        pb.OUTCOME_INIT_ERROR,
        init_document(
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'app': expected ':' (app.py, line 1)",
            ['  File "/var/task/app.py" Line 1\n    def handler(event, context)\n'],
        ),
        init_error("Runtime.UserCodeSyntaxError"),
        module=True,
    ),
    "a module that exits": Row(
        "import sys\nsys.exit(4)\n", pb.OUTCOME_EXITED, exit_document("exit status 4"), EXITED, module=True
    ),
    "an exception": Row(
        "raise ValueError('no such thing')",
        pb.OUTCOME_HANDLER_ERROR,
        handler_document(
            "ValueError",
            "no such thing",
            ["  File \"/var/task/app.py\", line 5, in handler\n    raise ValueError('no such thing')\n"],
        ),
        stays=True,
    ),
    "an exception group": Row(
        "raise ExceptionGroup('both', [ValueError('a'), KeyError('b')])",
        pb.OUTCOME_HANDLER_ERROR,
        handler_document(
            "ExceptionGroup",
            "both (2 sub-exceptions)",
            [
                '  File "/var/task/app.py", line 5, in handler\n'
                "    raise ExceptionGroup('both', [ValueError('a'), KeyError('b')])\n"
            ],
        ),
        stays=True,
    ),
    "a message that is no Unicode, and a type of another script": Row(
        "raise type('Größe', (Exception,), {})('a\\ud83d')",
        pb.OUTCOME_HANDLER_ERROR,
        handler_document(
            "Größe",
            "a\ud83d",
            [
                '  File "/var/task/app.py", line 5, in handler\n'
                "    raise type('Größe', (Exception,), {})('a\\ud83d')\n"
            ],
        ),
        stays=True,
    ),
    "a result that is not JSON": Row(
        "return {1, 2}",
        pb.OUTCOME_HANDLER_ERROR,
        handler_document(
            "Runtime.MarshalError", "Unable to marshal response: Object of type set is not JSON serializable"
        ),
        stays=True,
    ),
    "a result over 6 MB": Row(
        "return 'x' * (6_291_556 - 1)",
        pb.OUTCOME_HANDLER_ERROR,
        {
            "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
            "errorType": "Function.ResponseSizeTooLarge",
        },
        stays=True,
    ),
    "sys.exit()": exits("sys.exit()", ""),
    "sys.exit(0)": exits("sys.exit(0)", ""),
    "sys.exit(1)": exits("sys.exit(1)", "exit status 1"),
    "sys.exit with a text": exits("sys.exit('that is all')", "exit status 1"),
    "KeyboardInterrupt": exits("raise KeyboardInterrupt", "signal: interrupt"),
    "another BaseException": exits("raise GeneratorExit('gone')", "exit status 1"),
    "os._exit(127)": exits("os._exit(127)", "exit status 127"),
    "os.abort": exits("os.abort()", "signal: aborted"),
    "a segmentation fault": exits("import ctypes; ctypes.string_at(0)", "signal: segmentation fault"),
    "kill -9 of itself": exits("os.kill(os.getpid(), 9)", "signal: killed"),
    "memory over the tier": Row(
        "hoard = [bytearray(1 << 20) for _ in range(1_000)]",
        pb.OUTCOME_OUT_OF_MEMORY,
        exit_document("signal: killed"),
        "error\tError Type: Runtime.OutOfMemory",
    ),
    "a loop that ignores every signal": Row(
        "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 13, 14, 15)]\n    while True: pass",
        pb.OUTCOME_TIMEOUT,
        {"errorType": "Sandbox.Timedout", "errorMessage": "RequestId: {id} Error: Task timed out after 1.00 seconds"},
        "timeout",
        timeout_ms=1_000,
    ),
}


def source(row: Row) -> str:
    """A module whose handler is well where the event says so, so that the next call is of the same function."""
    if row.module:
        return row.body
    return (
        "import os, sys\ndef handler(event, context):\n"
        f"    if event.get('good'):\n        return 'good'\n    {row.body}\n"
    )


def filled(value: Any, request_id: str) -> Any:
    return value.replace("{id}", request_id) if isinstance(value, str) else value


def ms(text: str) -> float:
    return float(text.removesuffix(" ms"))


def init_reports(log: bytes) -> list[tuple[str, str]]:
    """The phase and the status of each."""
    return re.findall(r"^INIT_REPORT Init Duration: [\d.]+ ms\tPhase: (\w+)\tStatus: (.*)$", log.decode(), re.M)


@pytest.mark.parametrize("name", ROWS)
async def test_a_function_that_fails_is_told_as_aws_tells_it_and_the_next_call_is_served_at_once(
    running: Engine, door: str, name: str
) -> None:
    row = ROWS[name]
    function = f"{door}-{list(ROWS).index(name)}"
    await running.door(door).create(
        function, zip_of(source(row)), handler=row.handler, timeout_ms=row.timeout_ms, memory_mb=256
    )
    answer = await running.door(door).invoke(function)
    began = time.monotonic()
    bystander = await running.door(door).invoke("bystander")
    again = None if row.module else await running.door(door).invoke(function, b'{"good": true}')
    took_s = time.monotonic() - began

    assert answer.failed
    assert answer.json() == {key: filled(value, answer.request_id) for key, value in row.document.items()}
    check_report(row, answer)
    assert init_reports(answer.log) == ([("init", row.status), ("invoke", row.status)] if row.module else [])
    assert bystander.json() == "here"
    assert again is None or again.json() == "good"
    assert took_s < SOON_S
    if door == "grpc":
        assert answer.error_type == row.document["errorType"]
        assert bystander.report is not None
        assert bystander.report.start_kind == pb.START_KIND_WARM
        if again is not None:
            assert again.report is not None
            assert again.report.start_kind == (pb.START_KIND_WARM if row.stays else pb.START_KIND_FORK)


def check_report(row: Row, answer: Answer) -> None:
    """The REPORT line, and the Report where the door has one, are those of what happened."""
    line = answer.report_line()
    log = answer.log.decode()
    end = next(text for text in log.split("\n") if text.startswith("REPORT "))
    assert (f"Status: {row.status}" in end) if row.status else "Status:" not in end
    assert line["RequestId"] == answer.request_id
    assert line["Memory Size"] == "256 MB"
    assert 0 < int(line["Max Memory Used"].removesuffix(" MB")) <= 256
    assert int(ms(line["Billed Duration"])) >= ms(line["Duration"])
    assert log.count("\nREPORT ") == log.count("END RequestId") == 1
    report = answer.report
    if report is None:
        return
    assert report.outcome == row.outcome
    assert report.start_kind == pb.START_KIND_FORK
    assert report.executed_version == "$LATEST"
    assert report.memory_mb == 256
    assert report.start_us > 0
    assert report.handler_us > 0
    assert (report.init_us > 0) != row.module, "an init phase that failed is tried again on the handler's clock"
    assert report.billed_ms == -(-(report.init_us + report.handler_us) // 1000)
    assert report.total_us >= report.start_us + report.init_us + report.handler_us
    assert report.cpu_us > 0
    assert 0 < report.peak_memory_bytes <= 256 << 20
    if row.outcome == pb.OUTCOME_OUT_OF_MEMORY:
        assert report.peak_memory_bytes > 200 << 20
    if row.outcome == pb.OUTCOME_TIMEOUT:
        assert row.timeout_ms * 1000 <= report.handler_us < (row.timeout_ms + 1_000) * 1000


async def test_an_init_phase_that_does_not_end_is_stopped_at_its_own_limit_and_then_at_the_functions(
    tmp_path: Path,
) -> None:
    async with engine(tmp_path / "data", init_timeout_ms=300) as brief:
        await brief.grpc.create("stuck", zip_of("while True: pass\n"), timeout_ms=1_000)
        for door in (brief.grpc, brief.http):
            answer = await door.invoke("stuck")
            assert answer.json() == {
                "errorType": "Sandbox.Timedout",
                "errorMessage": f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds",
            }
            assert init_reports(answer.log) == [("init", "timeout"), ("invoke", "timeout")]
            assert [line.split()[0] for line in answer.log.decode().splitlines()[2:]][::2] == ["START", "END"]
            assert answer.log.endswith(b"Status: timeout\n")
            if answer.report is not None:
                assert answer.report.outcome == pb.OUTCOME_TIMEOUT
                assert answer.report.init_us == 0
                assert answer.report.handler_us >= 1_000_000
                assert answer.report.billed_ms == -(-answer.report.handler_us // 1000), "the first is not billed"
                assert answer.report.total_us >= 1_300_000


async def test_what_ended_a_function_is_in_its_log_before_its_report(running: Engine, door: str) -> None:
    name = f"told-{door}"
    code = zip_of("import os\ndef handler(event, context):\n    print('about to go', flush=True)\n    os._exit(5)\n")
    await running.door(door).create(name, code)
    answer = await running.door(door).invoke(name)
    lines = [re.sub(r"\t.*", "", line) for line in answer.log.decode().split("\n") if line]
    assert lines == [
        f"START RequestId: {answer.request_id} Version: $LATEST",
        "about to go",
        f"RequestId: {answer.request_id} Error: Runtime exited with error: exit status 5",
        "Runtime.ExitError",
        f"END RequestId: {answer.request_id}",
        f"REPORT RequestId: {answer.request_id}",
    ]


async def test_a_result_of_the_limit_comes_out_whole(running: Engine, door: str) -> None:
    await running.door(door).create(
        f"limit-{door}", zip_of("def handler(event, context):\n    return 'x' * (6_291_556 - 2)\n")
    )
    answer = await running.door(door).invoke(f"limit-{door}")
    assert not answer.failed
    assert len(answer.payload) == 6_291_556
    assert answer.json() == "x" * (6_291_556 - 2)


@pytest.mark.time_limit(180)
async def test_a_flood_of_log_lines_holds_nobody_up_and_ends_in_an_answer(
    running: Engine, door: str, counts: Mapping[str, int]
) -> None:
    body = f"""
        import os
        def handler(event, context):
            for n in range({counts["log_lines"]}):
                print("line", n)
            return "done"
    """
    await running.door(door).create(f"flood-{door}", zip_of(body), memory_mb=1_769, timeout_ms=50_000)
    flood = asyncio.ensure_future(running.door(door).invoke(f"flood-{door}"))
    waits = []
    while not flood.done():
        began = time.monotonic()
        assert (await running.grpc.invoke("bystander")).json() == "here"
        waits.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    answer = await flood
    assert answer.json() == "done"
    lines = answer.log.decode().split("\n")
    assert f"line {counts['log_lines'] - 1}" in lines, "the newest lines are never those dropped"
    assert len(answer.log) <= 4_096
    assert sorted(waits)[len(waits) // 2] < 0.1, "a flood holds others up"


async def test_bytes_that_are_no_text_pass_through_the_log_as_they_are(running: Engine, door: str) -> None:
    body = """
        import os
        def handler(event, context):
            os.write(1, bytes(range(256)) + b"\\n")
            os.write(2, b"\\x1b[31m\\xff\\xfe\\0\\n")
            return "done"
    """
    await running.door(door).create(f"binary-{door}", zip_of(body))
    for _ in range(2):
        answer = await running.door(door).invoke(f"binary-{door}")
        assert answer.json() == "done"
        assert bytes(range(256)) + b"\n" in answer.log
        assert b"\x1b[31m\xff\xfe\0\n" in answer.log


async def test_a_function_that_closes_its_output_is_heard_again_in_the_next_call(running: Engine, door: str) -> None:
    body = """
        import os
        def handler(event, context):
            if event.get("good"):
                print("heard")
                return "good"
            os.close(1)
            os.close(2)
            return "closed"
    """
    await running.door(door).create(f"closed-{door}", zip_of(body))
    assert (await running.door(door).invoke(f"closed-{door}")).json() == "closed"
    again = await running.door(door).invoke(f"closed-{door}", b'{"good": true}')
    assert again.json() == "good"
    assert b"\nheard\n" in again.log


async def test_a_message_of_any_size_is_told_within_its_limit(running: Engine, door: str) -> None:
    await running.door(door).create(
        f"huge-{door}", zip_of("def handler(event, context):\n    raise ValueError('ä' * 5_000_000)\n")
    )
    for _ in range(2):
        answer = await running.door(door).invoke(f"huge-{door}")
        assert answer.failed
        assert len(answer.payload) <= 262_144
        document = answer.json()
        assert document["errorType"] == "ValueError"
        assert document["errorMessage"].startswith("ää")
        assert document["errorMessage"].endswith("... (shortened)")
