"""What functions write, from the write to the reader: whose it is, in which order, and for how long it is there."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.v1 import invocations_pb2, logs_pb2, logs_pb2_grpc, resources_pb2
from tests.doors import zip_of
from tests.engines import Engine, engine, served

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

CODE = """
    import ctypes, json, logging, os, subprocess, sys, threading, warnings

    def every_way(event, context):
        libc = ctypes.CDLL(None)
        for n in range(3):
            print("print", n)
            os.write(1, b"write %d\\n" % n)
            libc.printf(b"printf %d\\n", n)
            print("error", n, file=sys.stderr)
            libc.dprintf(2, b"dprintf %d\\n", n)
            warnings.warn(f"warned {n} {context.aws_request_id}")
            logging.getLogger("mine").warning("logged %d", n)
            subprocess.run(["/bin/sh", "-c", f"echo child {n}; echo child error {n} >&2"])
            os.system(f"echo system {n}")

    def ends(event, context):
        print("half a line", end="")
        ctypes.CDLL(None).printf(b"and in C, without an end")

    def late(event, context):
        go = threading.Event()
        def write():
            go.wait()
            os.write(1, b"after all was over\\n")
            os.write(1, b"half")
        if event.get("late"):
            threading.Thread(target=write, daemon=True).start()
            threading.Timer(0.2, go.set).start()
        print("in time")

    def many(event, context):
        block = "".join(f"{n}\\n" for n in range(1000))
        for _ in range(event["thousands"]):
            sys.stdout.write(block)
        print("end")
"""


JSON_CODE = """
    import json, logging, os, sys, warnings

    logging.getLogger().info("in the init phase")

    def handler(event, context):
        log = logging.getLogger("mine")
        log.debug("fine")
        log.warning("careful %s", "now", extra={"more": [1]})
        print("plain")
        print(json.dumps({"level": "debug", "by": "print"}))
        print(json.dumps({"level": "error", "by": "print"}))
        if event.get("fail"):
            raise ValueError("no")
        if event.get("exit"):
            os._exit(3)
"""


def lines_of(running: Any, name: str, **request: Any) -> Any:
    """A TailLogs."""
    stub = logs_pb2_grpc.LogServiceStub(running.grpc.channel)
    return stub.TailLogs(logs_pb2.TailLogsRequest(name=f"functions/{name}", **request))


async def texts(running: Any, name: str, **request: Any) -> list[str]:
    """What is kept."""
    return [answer.line.text.decode() async for answer in lines_of(running, name, **request)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with engine(tmp_path_factory.mktemp("logs") / "data") as running:
        for handler in ("every_way", "ends", "late", "many"):
            code = zip_of(CODE)
            await running.grpc.create(handler, code, handler=f"app.{handler}", timeout_ms=60_000, memory_mb=512)
        yield running


async def test_what_is_written_in_every_way_is_in_order_and_of_its_request(running: Engine) -> None:
    for _ in range(2):
        answer = await running.grpc.invoke("every_way")
        assert not answer.failed, answer.payload
        lines = await texts(running, "every_way", request_id=answer.request_id)
        begin = next(n for n, line in enumerate(lines) if line.startswith("START"))
        written = [line for line in lines[begin + 1 : -2] if "warnings.warn(" not in line]
        expected = []
        for n in range(3):
            expected += [f"print {n}", f"write {n}", f"printf {n}", f"error {n}", f"dprintf {n}"]
            expected += [f"/var/task/app.py:<line>: UserWarning: warned {n} {answer.request_id}"]
            expected += [f"[WARNING]\t<time>\t{answer.request_id}\tlogged {n}"]
            expected += [f"child {n}", f"child error {n}", f"system {n}"]
        written = [re.sub(r"py:\d+:", "py:<line>:", line) for line in written]
        assert [re.sub(r"\t\d{4}-\S+Z\t", "\t<time>\t", line) for line in written] == expected


async def test_a_line_without_its_end_belongs_to_its_request_too(running: Engine) -> None:
    for _ in range(2):
        answer = await running.grpc.invoke("ends")
        lines = await texts(running, "ends", request_id=answer.request_id)
        assert "".join(lines[-4:-2]).startswith("START")
        assert sorted(lines[-3]) == sorted("half a lineand in C, without an end")


async def test_what_is_written_between_two_invocations_is_kept(running: Engine) -> None:
    answer = await running.grpc.invoke("late", b'{"late": true}')
    following = lines_of(running, "late", follow=True)
    seen = list[str]()
    async with asyncio.timeout(30):
        async for one in following:
            seen.append(one.line.text.decode())
            assert one.line.request_id == answer.request_id
            if seen[-1] == "half":
                break
    following.cancel()
    assert seen[-5] == "in time"
    assert seen[-4].startswith("END")
    assert seen[-2] == "after all was over"


async def test_a_stream_brings_the_lines_of_its_request_as_they_are_written(running: Engine) -> None:
    request = invocations_pb2.InvokeStreamRequest(name="functions/every_way", log_mode=invocations_pb2.LOG_MODE_TAIL)
    frames = [frame async for frame in running.grpc.invocations.InvokeStream(request)]
    lines = [frame.log.text.decode() for frame in frames if frame.WhichOneof("frame") == "log"]
    assert lines == await texts(running, "every_way", request_id=frames[0].started.request_id)


async def test_a_flood_is_told_from_its_gaps_and_its_end_is_there(running: Engine) -> None:
    answer = await running.grpc.invoke("many", b'{"thousands": 400}')
    lines = await texts(running, "many", request_id=answer.request_id)
    assert lines[-3] == "end"
    begin = next(n for n, line in enumerate(lines) if line.startswith("START"))
    written = lines[begin + 1 : -2]
    missing = [int(line.split()[0][1:]) for line in written if line.startswith("[")]
    assert len(written) - len(missing) + sum(missing) == 400_001


async def test_a_range_of_time_and_a_text_are_asked_for(running: Engine) -> None:
    answer = await running.grpc.invoke("ends")
    (start,) = [one async for one in lines_of(running, "ends", request_id=answer.request_id, contains=b"START")]
    assert await texts(running, "ends", since=start.line.time, contains=b"START") == [start.line.text.decode()]
    assert start.line.text.decode() not in await texts(running, "ends", until=start.line.time)


async def test_a_log_in_json_is_records_and_lines_of_its_level(running: Engine) -> None:
    log: dict[str, Any] = {"log_format": resources_pb2.LOG_FORMAT_JSON, "log_level": resources_pb2.LOG_LEVEL_WARN}
    await running.grpc.create("json", zip_of(JSON_CODE), **log)
    answer = await running.grpc.invoke("json")
    lines = [json.loads(line) for line in await texts(running, "json", request_id=answer.request_id)]
    kinds = [line.get("type") or line["level"] for line in lines]
    assert kinds == ["platform.initStart", "platform.start", "WARNING", "error", "platform.report"]
    warning = lines[2]
    assert (warning["message"], warning["logger"], warning["more"]) == ("careful now", "mine", [1])
    assert warning["requestId"] == answer.request_id == lines[1]["record"]["requestId"]
    assert lines[-1]["record"]["status"] == "success"
    assert answer.log.decode().splitlines() == [
        line for line in await texts(running, "json", request_id=answer.request_id) if "initStart" not in line
    ]

    answer = await running.grpc.invoke("json", b'{"fail": true}')
    lines = [json.loads(line) for line in await texts(running, "json", request_id=answer.request_id)]
    assert [line.get("type") for line in lines[-3:]] == [None, "platform.runtimeDone", "platform.report"]
    assert (lines[-3]["log_level"], lines[-3]["errorType"]) == ("ERROR", "ValueError")
    answer = await running.grpc.invoke("json", b'{"exit": true}')
    *_, done, report = [json.loads(line) for line in await texts(running, "json", request_id=answer.request_id)]
    assert done["record"]["errorType"] == report["record"]["errorType"] == "Runtime.ExitError"

    log = {"log_level": resources_pb2.LOG_LEVEL_TRACE, "system_log_level": resources_pb2.LOG_LEVEL_DEBUG}
    await running.grpc.update("json", **log)
    answer = await running.grpc.invoke("json")
    lines = await texts(running, "json", request_id=answer.request_id)
    assert "plain" in lines
    levels = [json.loads(line) for line in lines if line != "plain"]
    assert [line.get("type", "").removeprefix("platform.") or line["level"] for line in levels] == [
        *("initStart", "INFO", "initRuntimeDone", "start", "DEBUG", "WARNING", "debug", "error"),
        *("runtimeDone", "report"),
    ]


async def test_the_log_of_a_function_that_was_deleted_is_gone(running: Engine, tmp_path: Path) -> None:
    await running.grpc.create("gone", zip_of("def handler(event, context): print('old')"))
    await running.grpc.invoke("gone")
    assert "old" in await texts(running, "gone")
    assert (running.data_dir / "logs" / "gone").exists()
    await running.grpc.delete("gone")
    await running.grpc.create("gone", zip_of("def handler(event, context): print('new')"))
    assert await texts(running, "gone") == []
    assert not (running.data_dir / "logs" / "gone").exists()
    await running.grpc.invoke("gone")
    assert "old" not in await texts(running, "gone")


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
async def test_a_restarted_engine_has_the_logs(tmp_path: Path, way: signal.Signals) -> None:
    data = tmp_path / "data"
    async with served(data) as first:
        await first.grpc.create("kept", zip_of("def handler(event, context): print('said', event)"))
        await first.grpc.invoke("kept", b"1")
        before = await texts(first, "kept")
        assert "said 1" in before
        await first.close_doors()
        first.signal(way)
        await first.ended()
    async with served(data) as second:
        assert await texts(second, "kept") == before
        await second.grpc.invoke("kept", b"2")
        after = await texts(second, "kept")
        assert after[: len(before)] == before
        assert "said 2" in after
        await second.stopped()
