"""Updates without a dropped call: under load each answer comes from one whole state, and no call is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.registry.api import AliasChange
from engine.v1 import reports_pb2 as pb
from tests.doors import zip_of
from tests.engines import Engine, engine
from tests.remains import HOLD, held, leaves_of, let_go, until

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

APP = """
    import os
    import time

    CODE = int(open("mark").read())
    ENVIRONMENT = int(os.environ["MARK"])
    ME = os.urandom(8).hex()

    def handler(event, context):
        time.sleep(0.005)
        return {
            "marks": [CODE, ENVIRONMENT, int(os.environ["MARK"]), int(open("/var/task/mark").read())],
            "memory_mb": int(context.memory_limit_in_mb),
            "version": context.function_version,
            "arn": context.invoked_function_arn,
            "me": ME,
        }
"""
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with engine(tmp_path_factory.mktemp("updates") / "data") as running:
        yield running


def sandboxes(running: Engine) -> set[str]:
    """The ids of those there are."""
    return {Path(leaf).name for leaf in leaves_of(running.instance)}


class Load:
    """Callers, and an updater beside them."""

    def __init__(self, running: Engine) -> None:
        self.running = running
        self.registry = running.service.parts.registry
        self.mark = 0  # of the last update that was acknowledged
        self.published: dict[str, int] = {}  # the mark of each version
        self.over = False
        self.answers: list[dict[str, Any]] = []
        self.of_first: set[str] = set()  # the sandboxes that served version 1

    async def change(self, mark: int) -> None:
        """Code, environment and memory in one update."""
        code = zip_of({"app.py": APP, "mark": str(mark)})
        environment = {"MARK": str(mark)}
        await self.running.grpc.update("f", code=code, environment=environment, memory_mb=128 + mark)
        self.mark = mark

    async def publish(self) -> None:
        """A version of it, which the alias gets a share of, or points at, by turns."""
        version = (await self.registry.versions.publish("f")).version
        self.published[version] = self.mark
        if version == "1":
            await self.registry.aliases.create("f", "live", AliasChange("1"))
        elif self.mark % 2:
            await self.registry.aliases.update("f", "live", AliasChange(version, {"1": 0.5}))
        else:
            await self.registry.aliases.update("f", "live", AliasChange("1", {version: 0.5}))

    async def answered(self, count: int, callers: Sequence[asyncio.Future[None]]) -> None:
        """Wait for so many more answers, or a caller who gave up."""
        enough = len(self.answers) + count
        await until(lambda: len(self.answers) >= enough or any(one.done() for one in callers), within_s=60)

    async def call(self, door: str, qualifier: str = "") -> None:
        """Call until it is over. Every answer is one state's, and none that was replaced before the call."""
        path = {"": "f", "1": "f/versions/1", "live": "f/aliases/live"}[qualifier]
        while not self.over:
            before = self.mark
            invoked = self.running.door(door)
            answer = (await invoked.invoke(path if door == "grpc" else "f")).json()
            assert len({*answer["marks"], answer["memory_mb"] - 128}) == 1, answer
            mark = answer["marks"][0]
            assert answer["arn"] == (f"{ARN}:{qualifier}" if qualifier else ARN)
            if qualifier:
                assert mark == self.published[answer["version"]], answer
            else:
                assert answer["version"] == "$LATEST"
                assert before <= mark, f"answered by state {mark} after {before} was there"
            if answer["version"] == "1":
                self.of_first.add(answer["me"])
            self.answers.append(answer)


@pytest.mark.time_limit(300)
async def test_every_call_sees_one_whole_state_while_its_function_is_updated_many_times(
    running: Engine, counts: Mapping[str, int]
) -> None:
    load = Load(running)
    code = zip_of({"app.py": APP, "mark": "0"})
    await running.grpc.create("f", code, environment={"MARK": "0"}, memory_mb=128, timeout_ms=60_000)
    await load.publish()
    callers = [
        asyncio.ensure_future(load.call(*which))
        for which in (("grpc",), ("grpc",), ("http",), ("grpc", "1"), ("grpc", "live"))
    ]
    try:
        for mark in range(1, 1 + counts["updates"]):
            await load.change(mark)
            if mark % 5 == 0:
                await load.publish()
            await load.answered(3, callers)
            assert not any(one.done() for one in callers), "a caller gave up"
    finally:
        load.over = True
        await asyncio.gather(*callers)
    assert len({answer["marks"][0] for answer in load.answers}) > counts["updates"] // 2, "hardly a state was seen"
    assert len(load.of_first) <= 2, "a sandbox of version 1, which two call, went with an update of $LATEST"
    # Three callers had $LATEST at most, two version 1, and one each other version.
    await until(lambda: len(sandboxes(running)) <= 5 + len(load.published) - 1, what="those of former states are gone")
    await running.grpc.delete("f")
    await until(lambda: not sandboxes(running), what="its sandboxes are gone")


async def test_what_runs_ends_in_its_sandbox_which_goes_then_unless_it_is_a_versions(running: Engine) -> None:
    registry = running.service.parts.registry
    await running.grpc.create("g", zip_of(HOLD), timeout_ms=60_000)
    await registry.versions.publish("g")
    hold = b'{"hold": true}'
    under_way = [asyncio.ensure_future(running.grpc.invoke(name, hold)) for name in ("g", "g/versions/1")]
    await held(running.instance, 2)
    await running.grpc.update("g", memory_mb=256)
    await let_go(running.instance, 2)
    latest, version = [await call for call in under_way]
    assert latest.report is not None
    assert latest.report.memory_mb == 128
    await until(lambda: len(sandboxes(running)) == 1, what="the sandbox of the former $LATEST is gone")
    again = await running.grpc.invoke("g/versions/1")
    assert again.report is not None
    assert again.report.start_kind == pb.START_KIND_WARM
    assert again.report.executed_version == "1"
    assert again.json()["me"] == version.json()["me"]
    await registry.aliases.create("g", "live", AliasChange("1"))
    for qualifier, executed in (("1", "1"), ("live", "1"), ("$LATEST", "$LATEST")):
        answer = await asyncio.to_thread(running.http.client.invoke, FunctionName="g", Qualifier=qualifier)
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        assert headers["x-amz-executed-version"] == answer["ExecutedVersion"] == executed
    await registry.aliases.delete("g", "live")
    await registry.versions.delete("g", "1")
    await until(lambda: len(sandboxes(running)) == 1, what="the sandbox of the deleted version is gone")
    await running.grpc.delete("g")
    await until(lambda: not sandboxes(running), what="the sandbox of $LATEST is gone")
