"""The same promises of Engine in this process, of AsyncClient and of Client over gRPC."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import engine
from engine.errors import AlreadyExists, InvalidArgument, NotFound, StaleEtag, Throttled, Unavailable
from engine.model.function import Egress
from engine.model.outcome import Outcome, StartKind
from tests.doors import zip_of
from tests.engines import engine as served_engine
from tests.remains import instance_of, leaves_of

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

CODE = zip_of("""
    import time

    def handler(event, context):
        print("told", event)
        if event == "fail":
            raise ValueError("no good")
        if event == "hang":
            time.sleep(50)
        return event

    def words(event, context):
        print("begun")
        for word in ("caf\\u00e9 ", "cr\\u00e8me\\n", "br\\u00fbl\\u00e9e"):
            yield word
        if event.get("fail"):
            raise ValueError("half")
        while event.get("hang"):
            time.sleep(0.1)

    def echo(event, context):
        yield event.get("greeting", "")
        for chunk in event.stream:
            yield chunk.upper()
            if event.get("once"):
                return
""")


class Threaded:
    """A Client as async callers would have it: each call in a thread."""

    def __init__(self, client: engine.Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name in ("invoke_stream", "converse"):
            return lambda *args, **kwargs: ThreadedStream(method(*args, **kwargs))
        if name == "logs":
            return lambda *args, **kwargs: _items(iter(method(*args, **kwargs)))
        return lambda *args, **kwargs: asyncio.to_thread(method, *args, **kwargs)


class ThreadedStream:
    """A stream of a Client."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def report(self) -> Any:
        return self._stream.report

    def __aiter__(self) -> AsyncIterator[Any]:
        return _items(self._stream)

    def text(self) -> AsyncIterator[Any]:
        return _items(self._stream.text())

    async def __aenter__(self) -> ThreadedStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._stream.close)

    def __getattr__(self, name: str) -> Any:
        return lambda *args: asyncio.to_thread(getattr(self._stream, name), *args)


async def _items(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    over = object()
    while (item := await asyncio.to_thread(next, iterator, over)) is not over:
        yield item


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["Engine", "AsyncClient", "Client"])
async def calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    data_dir = tmp_path_factory.mktemp("embedding") / "data"
    few: dict[str, Any] = {
        "parked_ceiling": 0,
        "leaf_pool_size": 0,
        "max_concurrency": 1,
        "requests_per_concurrency": 0,
    }
    if request.param == "Engine":
        async with engine.Engine(str(data_dir), **few) as embedded:
            yield await with_functions(embedded)
        assert not leaves_of(instance_of(data_dir))
        return
    async with served_engine(data_dir, **few) as running:
        address = f"127.0.0.1:{running.service.grpc_port}"
        if request.param == "AsyncClient":
            async with engine.AsyncClient(address) as client:
                yield await with_functions(client)
        else:
            with engine.Client(address) as sync:
                yield await with_functions(Threaded(sync))


async def with_functions(calls: Any) -> Any:
    for name in ("handler", "words", "echo"):
        await calls.create_function(name, CODE, handler=f"app.{name}", timeout_ms=60_000, memory_mb=256)
    return calls


async def no_longer_throttled(calls: Any) -> None:
    """What ran has ended: the engine takes one at a time."""
    while True:
        try:
            await calls.invoke("handler")
            return
        except Throttled:
            continue


async def test_a_result_has_the_value_and_the_report(calls: Any) -> None:
    result = await calls.invoke("handler", {"a": [1, None, "é"]}, log_tail=True, timeline=True)
    assert result.value == {"a": [1, None, "é"]}
    assert result.ok
    assert b"told {'a'" in result.log
    report = result.report
    assert (report.outcome, report.memory_mb, report.executed_version) == (Outcome.OK, 256, "$LATEST")
    assert report.handler_us > 0
    assert report.peak_memory_bytes > 0
    assert report.timeline
    assert (await calls.invoke("handler", b'{"raw": 1}')).value == {"raw": 1}
    assert (await calls.invoke("handler")).report.start_kind is StartKind.WARM


async def test_a_functions_failure_is_raised_with_the_traceback_inside_it(calls: Any) -> None:
    with pytest.raises(engine.FunctionFailed, match=r"^ValueError: no good\b") as failed:
        await calls.invoke("handler", "fail")
    assert failed.value.type == "ValueError"
    assert "app.py" in failed.value.__notes__[0]
    assert failed.value.report.outcome is Outcome.HANDLER_ERROR


async def test_a_functions_failure_is_returned_to_who_does_not_want_it_raised(calls: Any) -> None:
    result = await calls.invoke("handler", "fail", check=False)
    assert not result.ok
    assert result.error.message == "no good"
    with pytest.raises(engine.FunctionFailed):
        _ = result.value


async def test_what_the_engine_refuses_is_the_same_error_by_every_way(calls: Any) -> None:
    with pytest.raises(NotFound) as missing:
        await calls.invoke("nobody")
    assert missing.value.fix
    with pytest.raises(AlreadyExists):
        await calls.create_function("words", CODE)
    with pytest.raises(InvalidArgument) as wrong:
        await calls.create_function("wrong", CODE, memory_mb=1, timeout_ms=1)
    assert {"config.memory_mb", "config.timeout_ms"} <= set(wrong.value.fields)
    with pytest.raises(StaleEtag):
        await calls.delete_function("words", etag="5e0d6d2c-0000-4000-8000-000000000001")
    with pytest.raises(TypeError, match="memory_gb"):
        await calls.create_function("wrong", CODE, memory_gb=1)


async def test_functions_are_deployed_changed_listed_and_deleted(calls: Any, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context): return 1\n")
    made = await calls.deploy(tmp_path, "folder", memory_mb=256, environment={"A": "b"}, egress="none")
    assert (made.name, made.config.memory_mb, made.config.environment["A"]) == ("folder", 256, "b")
    assert made.config.egress is Egress.NONE
    assert (await calls.invoke("folder")).value == 1
    (tmp_path / "app.py").write_text("def handler(event, context): return 2\n")
    changed = await calls.deploy(tmp_path, "folder")
    assert changed.config == made.config
    assert changed.etag != made.etag
    assert (await calls.invoke("folder")).value == 2
    assert (await calls.update_function("folder", timeout_ms=5_000)).config.timeout_ms == 5_000
    assert (await calls.get_function("folder")).config.timeout_ms == 5_000
    assert [function.name for function in await calls.list_functions()] == ["echo", "folder", "handler", "words"]
    await calls.delete_function("folder")
    with pytest.raises(NotFound):
        await calls.get_function("folder")


async def test_a_version_and_an_alias_of_it_run_what_was_published_by_every_way(calls: Any) -> None:
    await calls.create_function("published", zip_of("def handler(event, context): return context.function_version"))
    version = await calls.publish_version("published")
    await calls.update_function("published", code=zip_of("def handler(event, context): return 'changed'"))
    await calls.create_alias("published", "live", version.version)
    for name, qualifier, value in (
        ("published", None, "changed"),
        ("published:1", None, "1"),
        ("published", "live", "1"),
        ("functions/published/aliases/live", None, "1"),
    ):
        result = await calls.invoke(name, qualifier=qualifier)
        assert result.value == value
        assert result.report.executed_version == ("$LATEST" if value == "changed" else "1")
    with pytest.raises(NotFound):
        await calls.invoke("published:2")
    await calls.delete_function("published")


async def test_modules_are_imported_ahead_and_a_layout_is_a_sandboxs_own_by_every_way(calls: Any) -> None:
    made = await calls.create_function("ahead", CODE, preload=["json", "colorsys", "json"], own_layout=True)
    assert (made.config.preload, made.config.own_layout) == (("json", "colorsys"), True)
    changed = await calls.update_function("ahead", preload=(), own_layout=False)
    assert (changed.config.preload, changed.config.own_layout) == ((), False)
    with pytest.raises(InvalidArgument) as refused:
        await calls.update_function("ahead", preload=["nothing_of_this_name"])
    assert "config.preload" in refused.value.fields
    await calls.delete_function("ahead")


async def test_a_stream_has_the_chunks_then_the_report_and_the_log_meanwhile(calls: Any) -> None:
    lines: list[bytes] = []
    async with calls.invoke_stream("words", {}, on_log=lambda line: lines.append(line.text)) as stream:
        assert "".join([text async for text in stream.text()]) == "café crème\nbrûlée"
    assert stream.report.outcome is Outcome.OK
    assert b"begun" in lines


async def test_a_failure_in_the_middle_of_a_stream_is_raised_after_what_was_made(calls: Any) -> None:
    chunks: list[bytes] = []

    async def read() -> None:
        async for chunk in calls.invoke_stream("words", {"fail": True}):
            chunks.append(chunk)

    with pytest.raises(engine.FunctionFailed, match="half"):
        await read()
    assert b"".join(chunks).decode().endswith("brûlée")


async def test_leaving_a_stream_stops_the_function(calls: Any) -> None:
    async with calls.invoke_stream("words", {"hang": True}) as stream:
        async for _ in stream:
            break
    with pytest.raises(RuntimeError):
        _ = stream.report
    with pytest.raises(RuntimeError, match="closed"):
        await stream.read()
    await no_longer_throttled(calls)


async def test_a_conversation_goes_both_ways(calls: Any) -> None:
    async with calls.converse("echo", {"greeting": "hi"}) as talk:
        answers = talk.__aiter__()
        assert await anext(answers) == b"hi"
        for word in ("one", "two"):
            await talk.send(word)
            assert await anext(answers) == word.upper().encode()
        await talk.end()
        assert await talk.read() == b""
    assert talk.report.outcome is Outcome.OK


async def test_a_conversation_that_the_function_has_ended_takes_no_more(calls: Any) -> None:
    async with calls.converse("echo", {"greeting": "hi", "once": True}) as talk:
        answers = talk.__aiter__()
        await anext(answers)
        await talk.send("last")
        assert [chunk async for chunk in answers] == [b"LAST"]
        with pytest.raises(BrokenPipeError):
            await talk.send("more")


async def test_a_caller_whose_time_is_up_is_told_and_the_function_is_stopped(calls: Any) -> None:
    with pytest.raises(engine.TimedOut, match=r"within 0\.5 s"):
        await calls.invoke("handler", "hang", timeout_s=0.5)
    await no_longer_throttled(calls)


async def test_what_is_throttled_is_tried_again_when_the_engine_says(calls: Any) -> None:
    results = await asyncio.gather(*(calls.invoke("handler", number) for number in range(2)), return_exceptions=True)
    assert [getattr(result, "value", result) for result in results] == [0, 1]


async def test_logs_come_oldest_first_and_only_of_the_invocation_asked_for(calls: Any) -> None:
    report = (await calls.invoke("handler", "mine")).report
    await calls.invoke("handler", "other")

    async def lines() -> list[bytes]:
        return [line.text async for line in calls.logs("handler", request_id=report.request_id)]

    found: list[bytes] = []
    while not any(line.startswith(b"REPORT") for line in found):  # written a moment after the answer
        found = await lines()
    assert b"told mine" in found
    assert b"told other" not in found


async def test_an_engine_without_a_data_directory_leaves_nothing() -> None:
    async with engine.Engine(parked_ceiling=0) as embedded:
        assert embedded._folder is not None
        folder = Path(embedded._folder.name)
        await embedded.deploy(CODE, "handler")
        assert (await embedded.invoke("handler", 1)).value == 1
    assert not folder.exists()
    with pytest.raises(Unavailable, match="not running"):
        await embedded.invoke("handler")


async def test_a_call_that_stays_throttled_says_so(tmp_path: Path) -> None:
    async with engine.Engine(str(tmp_path / "data"), parked_ceiling=0, max_concurrency=1, retries=0) as embedded:
        await embedded.deploy(CODE, "words", handler="app.words", timeout_ms=60_000)
        await embedded.deploy(CODE, "handler")
        async with embedded.invoke_stream("words", {"hang": True}) as stream:
            await anext(stream)
            with pytest.raises(Throttled) as refused:
                await embedded.invoke("handler")
            assert refused.value.retry_after_ms > 0


async def test_importing_the_package_loads_nothing_and_an_engine_no_grpc(tmp_path: Path) -> None:
    program = """
import sys
before = set(sys.modules)
import engine
loaded = set(sys.modules) - before
assert loaded <= {"engine", "__future__"}, loaded
import asyncio
async def main():
    async with engine.Engine(sys.argv[1], parked_ceiling=0) as embedded:
        pass
asyncio.run(main())
loaded = {name.split(".")[0] for name in sys.modules} & {"grpc", "google", "uvicorn", "botocore"}
assert not loaded, loaded
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "data")],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr


async def test_no_engine_at_an_address_is_said_with_what_to_do() -> None:
    with (
        engine.Client("127.0.0.1:1") as client,
        pytest.raises(Unavailable, match=r"no engine answers at 127\.0\.0\.1:1"),
    ):
        client.invoke("handler")
    with pytest.raises(InvalidArgument, match="host:port"):
        engine.Client("nowhere")
