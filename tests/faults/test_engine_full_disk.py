"""A full disk under a whole engine: what needs room is refused with what to do, what needs none goes on."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import error_details_pb2

from engine.v1 import reports_pb2 as pb
from tests.doors import Refused, detail, zip_of
from tests.engines import engine
from tests.remains import leaves_of, nothing_left, until

pytestmark = pytest.mark.privileged

WRITER = """
    import os
    def handler(event, context):
        try:
            with open("/tmp/much", "wb", buffering=0) as file:
                for _ in range(200):
                    file.write(bytes(1 << 20))
                    os.fsync(file.fileno())
        except OSError as error:
            print(type(error).__name__, flush=True)
            os._exit(9)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB for one engine's data."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", path], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(folder: Path) -> Path:
    """Take all the room there is."""
    ballast = folder / "ballast"
    full = None
    with ballast.open("wb", buffering=0) as file:
        while full is None:
            try:
                file.write(bytes(4_096))
            except OSError as error:
                full = error.errno
    assert full == errno.ENOSPC
    return ballast


def check_full(door: str, refused: Refused) -> None:
    """It says that the disk is full and what to do, in the words of each door."""
    assert "full" in refused.message
    assert "free space" in refused.message
    if door == "grpc":
        assert (refused.code, refused.kind) == ("RESOURCE_EXHAUSTED", "CODE_STORAGE_EXCEEDED")
        quota = detail(refused.details, error_details_pb2.QuotaFailure)
        assert quota is not None
        assert quota.violations[0].subject == "CODE_STORAGE_EXCEEDED"
        return
    assert (refused.code, refused.kind) == (400, "CodeStorageExceededException")
    assert {key: value for key, value in refused.details.items() if key != "headers"} == {
        "Type": "User",
        "message": refused.message,
    }


async def test_a_full_disk_refuses_code_and_serves_what_is_there_and_all_again_when_there_is_room(disk: Path) -> None:
    data = disk / "data"
    async with engine(data, tmp_pool_size=2) as running:
        await running.grpc.create("kept", zip_of("def handler(event, context):\n    return 'kept'\n"))
        assert (await running.grpc.invoke("kept")).json() == "kept"
        ballast = fill(disk)
        for door in ("grpc", "http"):
            with pytest.raises(Refused) as caught:
                await running.door(door).create(f"new-{door}", zip_of(f"X = '{'x' * 100_000}{door}'\n"))
            check_full(door, caught.value)
            answer = await running.door(door).invoke("kept")
            assert answer.json() == "kept"
            if answer.report is not None:
                assert answer.report.start_kind == pb.START_KIND_WARM
        assert await running.grpc.names() == ["kept"]
        ballast.unlink()
        for door in ("grpc", "http"):
            await running.door(door).create(f"new-{door}", zip_of("def handler(event, context):\n    return 'new'\n"))
            assert (await running.door(door).invoke(f"new-{door}")).json() == "new"
    await nothing_left(data)


async def test_a_cold_start_on_a_full_disk_is_the_engines_fault_and_says_why_and_works_again_later(disk: Path) -> None:
    data = disk / "data"
    async with engine(data, tmp_pool_size=0) as running:
        await running.grpc.create("cold", zip_of("def handler(event, context):\n    return 'cold'\n"))
        assert (await running.grpc.invoke("cold")).json() == "cold"
        await running.grpc.update("cold", description="its sandbox is retired")
        await until(lambda: not leaves_of(running.instance))
        ballast = fill(disk)
        for door, code in (("grpc", "INTERNAL"), ("http", 500)):
            with pytest.raises(Refused) as caught:
                await running.door(door).invoke("cold")
            assert caught.value.code == code
            assert "tmp image" in caught.value.message
            assert "No space" in caught.value.message
        assert leaves_of(running.instance) == []
        ballast.unlink()
        for door in ("grpc", "http"):
            assert (await running.door(door).invoke("cold")).json() == "cold"
    await nothing_left(data)


async def test_a_function_whose_tmp_outgrows_the_disk_is_told_so_and_disturbs_nobody(disk: Path) -> None:
    data = disk / "data"
    async with engine(data, tmp_pool_size=1) as running:
        await running.grpc.create("writer", zip_of(WRITER), memory_mb=1_769, timeout_ms=20_000)
        await running.grpc.create("kept", zip_of("def handler(event, context):\n    return 'kept'\n"))
        assert (await running.grpc.invoke("kept")).json() == "kept"
        writing = asyncio.ensure_future(running.grpc.invoke("writer"))
        while not writing.done():
            assert (await running.grpc.invoke("kept")).json() == "kept"
            await asyncio.sleep(0.01)
        answer = await writing
        assert answer.json()["errorMessage"].endswith("Runtime exited with error: exit status 9")
        assert b"\nOSError\n" in answer.log
        # The error that it got is one of input or output. Its log says what was behind it, and the engine counts it.
        assert b"cleave: the disk under /tmp is full" in answer.log
        events = {event.kind: event.count for event in (await running.service.host()).events}
        assert events["full_disks"] == 1
        # What it took goes with its sandbox.
        await until(lambda: os.statvfs(disk).f_bavail * 4_096 > 20 << 20, what="there is room again")
        await running.grpc.create("next", zip_of("def handler(event, context):\n    return 'next'\n"))
        assert (await running.grpc.invoke("next")).json() == "next"
    await nothing_left(data)
