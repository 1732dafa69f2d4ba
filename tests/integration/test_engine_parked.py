"""Parked sandboxes seen through a whole engine: reports, updates, counts, and an engine that stops."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.v1 import host_pb2
from engine.v1 import reports_pb2 as pb
from tests.doors import GrpcDoor, zip_of
from tests.engines import engine
from tests.remains import nothing_left

pytestmark = pytest.mark.privileged

PARKS = {"parked_floor": 2, "parked_ceiling": 4, "parked_rate": 1_000.0}


async def parked(door: GrpcDoor) -> int:
    """How many wait."""
    host: host_pb2.GetHostResponse = await door.counts()
    return next(one.made - one.removed for one in host.resources if one.kind == "parked")


async def some_parked(door: GrpcDoor, at_least: int = 1) -> None:
    """Wait until some do."""
    while await parked(door) < at_least:
        pass


async def test_a_cold_start_is_told_as_parked_with_what_it_took(tmp_path: Path) -> None:
    async with engine(tmp_path / "data", **PARKS) as running:
        await some_parked(running.grpc)
        await running.grpc.create("hello", zip_of("def handler(event, context):\n    return event\n"))
        first = await running.grpc.invoke("hello", b'{"a": 1}')
        second = await running.grpc.invoke("hello", b"2")
        assert (first.json(), second.json()) == ({"a": 1}, 2)
        assert first.report is not None
        assert second.report is not None
        assert first.report.start_kind == pb.START_KIND_PARKED
        assert second.report.start_kind == pb.START_KIND_WARM
        assert first.report.init_us > 0
        assert first.report.start_us > 0
    await nothing_left(tmp_path / "data")


async def test_code_that_changes_is_what_the_next_parked_one_gets(tmp_path: Path) -> None:
    async with engine(tmp_path / "data", **PARKS) as running:
        await running.grpc.create("changes", zip_of("def handler(event, context):\n    return 0\n"))
        kinds = set()
        for version in range(1, 6):
            await some_parked(running.grpc)
            await running.grpc.update("changes", code=zip_of(f"def handler(event, context):\n    return {version}\n"))
            answer = await running.grpc.invoke("changes")
            assert answer.json() == version
            assert answer.report is not None
            kinds.add(answer.report.start_kind)
        assert kinds == {pb.START_KIND_PARKED}


async def test_two_functions_never_meet_in_one(tmp_path: Path) -> None:
    source = """
        import os
        mine = os.environ["WHO"]
        def handler(event, context):
            with open("/tmp/who", "a") as file:
                file.write(mine)
            return [mine, open("/tmp/who").read(), open("/var/task/app.py").read().count("mine")]
    """
    async with engine(tmp_path / "data", **PARKS) as running:
        for name in ("a", "b"):
            await running.grpc.create(name, zip_of(source), environment={"WHO": name})
        for _ in range(3):
            for name in ("a", "b"):
                await some_parked(running.grpc)
                who, written, _ = (await running.grpc.invoke(name)).json()
                assert who == name
                assert set(written) == {name}


async def test_the_floor_is_kept_before_anything_was_called(tmp_path: Path) -> None:
    async with engine(tmp_path / "data", **PARKS) as running:
        await some_parked(running.grpc, 2)
        assert await parked(running.grpc) == 2
