"""Reserved and provisioned concurrency, of a real engine, by its HTTP door."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine.observe.log_query import LogQuery
from tests.doors import http_refusal, zip_of
from tests.engines import Engine, engine
from tests.remains import leaves_of, let_go, until

pytestmark = pytest.mark.privileged


async def test_a_function_that_is_reserved_nothing_is_stopped_by_name_and_runs_again_when_that_is_gone(
    tmp_path: Path,
) -> None:
    async with engine(tmp_path / "data") as running:
        await running.grpc.create("f", zip_of("def handler(event, context):\n    return 1\n"))
        client = running.http.client
        await asyncio.to_thread(client.put_function_concurrency, FunctionName="f", ReservedConcurrentExecutions=0)
        with pytest.raises(client.exceptions.TooManyRequestsException) as refused:
            await asyncio.to_thread(client.invoke, FunctionName="f")
        reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert http_refusal(refused.value).details["Reason"] == reason
        await asyncio.to_thread(client.delete_function_concurrency, FunctionName="f")
        assert (await running.grpc.invoke("f")).json() == 1


async def test_provisioned_sandboxes_are_there_before_a_call_and_go_with_their_configuration(tmp_path: Path) -> None:
    async with engine(tmp_path / "data", keep_alive_s=0.2) as running:
        await running.grpc.create("f", zip_of("def handler(event, context):\n    return 1\n"))
        client = running.http.client
        version = (await asyncio.to_thread(client.publish_version, FunctionName="f"))["Version"]
        which = {"FunctionName": "f", "Qualifier": version}
        put = client.put_provisioned_concurrency_config
        await asyncio.to_thread(put, **which, ProvisionedConcurrentExecutions=2)
        await until(
            lambda: len({Path(leaf).name for leaf in leaves_of(running.instance)}) == 2, what="two sandboxes are there"
        )
        assert (await seen(running, which, "READY"))["AllocatedProvisionedConcurrentExecutions"] == 2
        await asyncio.to_thread(client.invoke, FunctionName="f", Qualifier=version)
        await asyncio.to_thread(client.delete_provisioned_concurrency_config, **which)
        await until(lambda: not leaves_of(running.instance), what="none is left")


INIT = """
    import os, time
    print("module code", os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"])
    def handler(event, context):
        print("handler")
        return os.getpid()
"""


async def provision(running: Engine, source: str, count: int = 1) -> Any:
    """Publish a version of a function and provision it; what names it."""
    await running.grpc.create("f", zip_of(source))
    client = running.http.client
    version = (await asyncio.to_thread(client.publish_version, FunctionName="f"))["Version"]
    which = {"FunctionName": "f", "Qualifier": version}
    put = client.put_provisioned_concurrency_config
    await asyncio.to_thread(put, **which, ProvisionedConcurrentExecutions=count)
    return which


async def seen(running: Engine, which: Any, status: str) -> Any:
    """The configuration, once it has that status."""
    get = running.http.client.get_provisioned_concurrency_config
    async with asyncio.timeout(60):
        while (found := await asyncio.to_thread(lambda: get(**which)))["Status"] != status:
            await asyncio.sleep(0.01)
    return found


async def lines(running: Engine) -> list[str]:
    """What the log of the function has."""
    assert running.service.parts is not None
    found = [line async for lines in running.service.parts.logs.read("f", LogQuery()) for line in lines]
    return [line.text.decode() for line in found]


async def test_the_init_phase_of_a_provisioned_sandbox_is_in_the_log_before_any_call_and_in_no_report(
    tmp_path: Path,
) -> None:
    async with engine(tmp_path / "data") as running:
        which = await provision(running, INIT)
        found = await seen(running, which, "READY")
        assert (found["AllocatedProvisionedConcurrentExecutions"], "StatusReason" in found) == (1, False)
        before = await lines(running)
        assert [line.split()[0] for line in before] == ["INIT_START", "module"]
        assert before[1] == "module code provisioned-concurrency"
        await asyncio.to_thread(running.http.client.invoke, **which)
        after = (await lines(running))[2:]
        assert [line.split()[0] for line in after] == ["START", "handler", "END", "REPORT"]
        assert "Init Duration" not in after[-1]


async def test_calls_beyond_the_provisioned_ones_are_on_demand_and_say_so(tmp_path: Path) -> None:
    source = """
        import os, time
        def handler(event, context):
            open("/tmp/waits", "w").close()
            while os.path.exists("/tmp/waits"):
                time.sleep(0.002)
            return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
    """
    async with engine(tmp_path / "data") as running:
        which = await provision(running, source)
        await seen(running, which, "READY")
        invoke = running.http.client.invoke
        calls = asyncio.gather(*(asyncio.to_thread(invoke, **which) for _ in range(2)))
        await let_go(running.instance, 2)
        kinds = sorted([json.loads(answer["Payload"].read()) for answer in await calls])
        assert kinds == ["on-demand", "provisioned-concurrency"]


async def test_one_whose_init_phase_fails_is_failed_with_its_reason_and_tried_again(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as running:
        which = await provision(running, "raise RuntimeError('not today')\n")
        found = await seen(running, which, "FAILED")
        assert found["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE: RuntimeError"
        assert found["AllocatedProvisionedConcurrentExecutions"] == 0
        said: list[str] = []
        while [line.split()[0] for line in said].count("INIT_START") < 2:  # the test's own time limit ends this
            said = await lines(running)
            await asyncio.sleep(0.02)
        (report,) = {line.partition("ms")[2] for line in said if line.startswith("INIT_REPORT")}
        assert report == "\tPhase: init\tStatus: error\tError Type: RuntimeError"
        await asyncio.to_thread(running.http.client.delete_provisioned_concurrency_config, **which)
        await until(lambda: not leaves_of(running.instance), what="none is left")


async def test_one_that_hangs_in_its_init_phase_is_failed_and_does_not_hold_up_the_end_of_the_engine(
    tmp_path: Path,
) -> None:
    source = "print('on', flush=True)\nwhile True: pass\n"
    async with engine(tmp_path / "data", provisioned_init_timeout_ms=300) as running:
        # AWS takes the function's timeout where that is longer.
        await running.grpc.create("g", zip_of(source), timeout_ms=900_000)
        client = running.http.client
        version = (await asyncio.to_thread(client.publish_version, FunctionName="g"))["Version"]
        put, slow = client.put_provisioned_concurrency_config, {"FunctionName": "g", "Qualifier": version}
        await asyncio.to_thread(put, **slow, ProvisionedConcurrentExecutions=1)
        await running.grpc.create("f", zip_of(source), timeout_ms=1_000)
        version = (await asyncio.to_thread(client.publish_version, FunctionName="f"))["Version"]
        which = {"FunctionName": "f", "Qualifier": version}
        await asyncio.to_thread(put, **which, ProvisionedConcurrentExecutions=1)
        found = await seen(running, which, "FAILED")
        assert found["StatusReason"].startswith("FUNCTION_ERROR_INIT_FAILURE: Sandbox.Timedout")
        get = client.get_provisioned_concurrency_config
        assert (await asyncio.to_thread(get, **slow))["Status"] == "IN_PROGRESS"
