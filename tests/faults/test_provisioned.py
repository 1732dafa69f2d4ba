"""Provisioned sandboxes whose processes, and those that they are forked from, are killed at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.doors import zip_of
from tests.engines import engine
from tests.faults.test_engine_awkward import zygotes
from tests.remains import leaves_of, members_of, nothing_left, until

pytestmark = pytest.mark.privileged

CODE = """
    import os
    def handler(event, context):
        return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
"""
KEPT = 6
ROUNDS = 20 if os.environ.get("CLEAVE_COUNTS") == "full" else 1


def dead(pid: int) -> bool:
    """Whether a process is gone, or a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


async def test_whoever_is_killed_all_are_ready_again_no_call_is_lost_and_nothing_is_left(tmp_path: Path) -> None:
    chance = random.Random(11)
    async with engine(tmp_path / "data") as running:
        await running.grpc.create("f", zip_of(CODE), timeout_ms=60_000)
        client = running.http.client
        which: Any = {"FunctionName": "f", "Qualifier": "1"}
        await asyncio.to_thread(client.publish_version, FunctionName="f")
        put = client.put_provisioned_concurrency_config
        await asyncio.to_thread(lambda: put(**which, ProvisionedConcurrentExecutions=KEPT))

        async def all_ready() -> None:
            found: Any = {}
            async with asyncio.timeout(60):
                while found.get("AvailableProvisionedConcurrentExecutions") != KEPT:
                    found = await asyncio.to_thread(lambda: client.get_provisioned_concurrency_config(**which))
                    await asyncio.sleep(0.01)
            assert found["Status"] == "READY"

        for _ in range(ROUNDS):
            await all_ready()
            victims = chance.sample(members_of(running.instance), 3) + [one.pid for one in zygotes(running)]
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            # Before that one of them may still read an event, and take it along.
            for pid in victims:
                await until(partial(dead, pid), what="it is dead")
            answers = await asyncio.gather(*(asyncio.to_thread(client.invoke, **which) for _ in range(4)))
            said = {json.loads(answer["Payload"].read()) for answer in answers}
            assert said <= {"provisioned-concurrency", "on-demand"}
        await all_ready()
        await running.grpc.delete("f")
        await until(lambda: not leaves_of(running.instance), what="no sandbox is left")
        host = await running.grpc.counts()
        assert (host.sandboxes, host.idle_sandboxes, host.concurrency) == (0, 0, 0)
    await nothing_left(tmp_path / "data")
