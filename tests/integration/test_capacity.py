"""Reserved and provisioned concurrency, of a real engine, by its HTTP door."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.doors import http_refusal, zip_of
from tests.engines import engine
from tests.remains import leaves_of, until

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
        get = client.get_provisioned_concurrency_config
        for _ in range(200):
            seen = await asyncio.to_thread(get, **which)
            if seen["Status"] == "READY":
                break
        assert (seen["AllocatedProvisionedConcurrentExecutions"], seen["Status"]) == (2, "READY")
        await asyncio.to_thread(client.invoke, FunctionName="f", Qualifier=version)
        await asyncio.to_thread(client.delete_provisioned_concurrency_config, **which)
        await until(lambda: not leaves_of(running.instance), what="none is left")
