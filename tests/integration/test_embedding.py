"""The same promises of Engine in this process, of AsyncClient and of Client over gRPC."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import engine
from engine.errors import AlreadyExists, InvalidArgument, NotFound, StaleEtag, Throttled, Unavailable
from engine.model.function import Egress, LogFormat, LogLevel
from engine.model.outcome import Outcome, StartKind
from tests.callers import CODE, WAYS, calls_by, no_longer_throttled
from tests.doors import zip_of

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=WAYS)
async def calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    async with calls_by(request.param, tmp_path_factory.mktemp("embedding") / "data") as made:
        yield made


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


async def test_an_invocation_is_made_for_whom_and_as_what_the_caller_says(calls: Any) -> None:
    identity = engine.CognitoIdentity("us-east-1:0f3c", "us-east-1:7a6a")
    given: dict[str, Any] = {"tenant_id": "blue", "identity": identity, "client_context": {"custom": {"k": 1}}}
    told = ["blue", "us-east-1:0f3c", "us-east-1:7a6a", {"k": 1}]
    assert (await calls.invoke("told", **given)).value == told
    assert (await calls.invoke("told")).value == [None, None, None, None]
    async with calls.invoke_stream("told", **given) as stream:
        assert json.loads(await stream.read()) == told
    async with calls.converse("told", **given) as talk:
        await talk.end()
        assert json.loads(await talk.read()) == told
    with pytest.raises(InvalidArgument) as refused:
        await calls.invoke("told", tenant_id="")
    assert set(refused.value.fields) == {"tenant_id"}
    with pytest.raises(TypeError, match="tenants"):
        await calls.invoke("told", tenants="blue")


async def test_an_event_that_is_raw_is_bytes_to_its_handler(calls: Any) -> None:
    assert (await calls.invoke("size", b"\xff\x00{", raw=True)).payload == b"\xff\x00{" * 2
    async with calls.invoke_stream("size", b"", raw=True) as stream:
        assert await stream.read() == b""
    with pytest.raises(TypeError, match="bytes"):
        await calls.invoke("size", {"a": 1}, raw=True)
    with pytest.raises(TypeError, match="conversation"):
        calls.converse("size", b"{}", raw=True)
    with pytest.raises(InvalidArgument, match="JSON object"):
        calls.converse("size", [1])


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
    assert [function.name for function in await calls.list_functions()] == [
        "echo",
        "folder",
        "handler",
        "size",
        "told",
        "words",
    ]
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


async def test_a_logs_format_and_levels_are_set_and_read_back_by_every_way(calls: Any) -> None:
    levels: dict[str, Any] = {"log_level": "error", "system_log_level": LogLevel.WARN}
    made = await calls.create_function("levels", CODE, log_format="json", **levels)
    told = (made.config.log_format, made.config.log_level, made.config.system_log_level)
    assert told == (LogFormat.JSON, LogLevel.ERROR, LogLevel.WARN)
    result = await calls.invoke("levels", 1, log_tail=True)
    assert result.log == b"", "a line without a level is of INFO"
    plain = await calls.get_function("handler")
    assert (plain.config.log_format, plain.config.log_level) == (LogFormat.TEXT, LogLevel.INFO)
    for wrong in ({"log_format": "xml"}, {"log_level": "loud"}, {"egress": "all"}):
        with pytest.raises(InvalidArgument) as refused:
            await calls.update_function("levels", **wrong)
        assert set(refused.value.fields) == {f"config.{name}" for name in wrong}
    await calls.delete_function("levels")


async def test_a_caller_whose_time_is_up_is_told_and_the_function_is_stopped(calls: Any) -> None:
    with pytest.raises(engine.TimedOut, match=r"within 0\.5 s"):
        await calls.invoke("handler", "hang", timeout_s=0.5)
    await no_longer_throttled(calls)


async def test_what_is_throttled_is_tried_again_when_the_engine_says(calls: Any) -> None:
    results = await asyncio.gather(*(calls.invoke("handler", number) for number in range(2)), return_exceptions=True)
    assert [getattr(result, "value", result) for result in results] == [0, 1]


async def test_an_engine_without_a_data_directory_leaves_nothing() -> None:
    async with engine.Engine(parked_ceiling=0) as embedded:
        assert embedded._folder is not None
        folder = Path(embedded._folder.name)
        await embedded.deploy(CODE, "handler")
        assert (await embedded.invoke("handler", 1)).value == 1
    assert not folder.exists()
    with pytest.raises(Unavailable, match="not running"):
        await embedded.invoke("handler")


async def test_what_is_stored_beside_functions_is_there_after_a_restart(tmp_path: Path) -> None:
    queue = "arn:aws:sqs:us-east-1:000000000000:orders"
    async with engine.Engine(str(tmp_path / "data"), parked_ceiling=0) as embedded:
        await embedded.deploy(CODE, "handler")
        made = await embedded.create_event_source_mapping("handler", queue)
        await embedded.put_function_recursion_config("handler", "Allow")
    async with engine.Engine(str(tmp_path / "data"), parked_ceiling=0) as embedded:
        assert (await embedded.get_event_source_mapping(made.mapping_id)).settings == made.settings
        assert await embedded.get_function_recursion_config("handler") == "Allow"
    with pytest.raises(Unavailable, match="not running"):
        await embedded.list_event_source_mappings()


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


async def test_an_event_for_later_runs_under_the_id_that_was_told(calls: Any) -> None:
    request_id = await calls.invoke_async("handler", {"later": 1})
    async with asyncio.timeout(60):
        while not [line async for line in calls.logs("handler", request_id=request_id, contains="END RequestId")]:
            await asyncio.sleep(0.05)
    (said,) = [line async for line in calls.logs("handler", request_id=request_id, contains="told")]
    assert b"later" in said.text
