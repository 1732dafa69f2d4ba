"""Sandboxes one after another through a whole engine: each leaves nothing of itself, in the engine or on the host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

from engine.v1 import reports_pb2 as pb
from tests.doors import zip_of
from tests.engines import Served, served
from tests.remains import (
    cgroups_of,
    leaves_of,
    loops_of,
    members_of,
    mounts_of,
    networks_of,
    nothing_left,
    until,
    zombies_of,
)

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(3_600)]

NOISE_BYTES = 4 << 20
"""What an engine's memory goes up and down by anyway, however many sandboxes there were."""
AHEAD = {"tmp_pool_size": 1, "leaf_pool_size": 1, "network_pool_size": 1}
"""Of each, one is made ahead of need."""
POOL_THREADS = 12
"""The engine's thread pools start a thread when all that they have are busy, up to a size of their own."""

ENDS = """
    import os, sys, time
    def handler(event, context):
        print("a line of its log")
        open("/tmp/some", "w").write("x" * 100_000)
        match event.get("end"):
            case "fill":
                for _ in range(15_000):
                    print("what is kept of a log is bounded, and full from here on")
            case "exit":
                sys.exit(3)
            case "kill":
                os.fork() or time.sleep(1_000)
                os.kill(os.getpid(), 9)
            case "raise":
                raise ValueError("no")
            case "cancel":
                while True:
                    time.sleep(1)
        return event
"""
WAYS = ["", "", "", "exit", "", "kill", "", "raise", "", "cancel"]
"""How each sandbox of ten ends: by being closed after its answer, unless it says otherwise."""


@dataclass(frozen=True)
class Held:
    """What an engine holds."""

    descriptors: int  # but for those of networks, which a sandbox may hold alone
    threads: int
    children: int
    zombies: int
    cgroups: int
    loops: int
    mounts: int
    rss_bytes: int


async def settled(running: Served) -> Held:
    """What it holds once it is at rest: no sandbox, and one leaf, one /tmp and one network ready for the next."""
    await until(
        lambda: 2 * len(leaves_of(running.instance)) == len(cgroups_of(running.instance)), what="one leaf is ready"
    )
    await until(lambda: not members_of(running.instance), what="no sandbox is left")
    await until(lambda: len(loops_of(running.data_dir)) == 1, what="one /tmp is ready")
    await until(lambda: networks_of(running.process.pid) == 1, what="one network is ready")
    await until(lambda: not zombies_of(running.process.pid), what="no zombie is left")
    return held(running)


def held(running: Served) -> Held:
    """What it holds at this moment."""
    process = psutil.Process(running.process.pid)
    return Held(
        descriptors=process.num_fds() - networks_of(running.process.pid),
        threads=process.num_threads(),
        children=len(process.children(recursive=True)),
        zombies=len(zombies_of(running.process.pid)),
        cgroups=len(cgroups_of(running.instance)),
        loops=len(loops_of(running.data_dir)),
        mounts=len(mounts_of(running.data_dir, running.process.pid)),
        rss_bytes=process.memory_info().rss,
    )


async def one(running: Served, name: str, way: str) -> None:
    """One sandbox from its start to its end."""
    before = set(members_of(running.instance))
    call = running.grpc.call(name, b'{"end": "%s"}' % way.encode())
    if way == "cancel":
        await until(lambda: set(members_of(running.instance)) - before, what="it has started")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return
    report = (await call).report
    assert report.start_kind == pb.START_KIND_FORK
    expected = {"exit": pb.OUTCOME_EXITED, "kill": pb.OUTCOME_EXITED, "raise": pb.OUTCOME_HANDLER_ERROR}
    assert report.outcome == expected.get(way, pb.OUTCOME_OK)


async def test_sandboxes_one_after_another_leave_nothing(tmp_path: Path, counts: Mapping[str, int]) -> None:
    data = tmp_path / "data"
    # With room for one sandbox, two functions in turn evict each other: every call starts one and ends another.
    async with served(data, flags={"max_sandboxes": 1, "max_concurrency": 1, "keep_alive_s": 0.05, **AHEAD}) as running:
        for name in ("even", "odd"):
            await running.grpc.create(name, zip_of(ENDS), memory_mb=1_769)
            await one(running, name, "fill")
        count, warm_up = counts["sandboxes"], counts["sandboxes"] // 3
        first: Held | None = None
        began = time.monotonic()
        for n in range(count):
            if n == warm_up:
                first = await settled(running)
                began = time.monotonic()
            await one(running, ("even", "odd")[n % 2], WAYS[n % len(WAYS)])
        took_s = time.monotonic() - began
        await settled(running)
        assert first is not None
        last = await assert_no_growth(first, running)
        rate = (count - warm_up) / took_s
        print(f"{count} sandboxes, {rate:.0f} a second; {first} → {last}")
        assert (last.zombies, last.mounts) == (0, 0)
        assert last.cgroups <= 10, "in each hierarchy the engine's own directory and one leaf"
        await running.stopped()
    await nothing_left(data)


async def assert_no_growth(first: Held, running: Served, *, noise_bytes: int = NOISE_BYTES) -> Held:
    """Hold an engine at rest to what it held before, once what its threads were at is over; returns what it holds."""

    def more() -> dict[str, tuple[int, int]]:
        last = held(running)
        return {
            name: (getattr(first, name), getattr(last, name))
            for name in ("descriptors", "children", "zombies", "cgroups", "loops", "mounts")
            if getattr(last, name) > getattr(first, name)
        }

    with contextlib.suppress(AssertionError):
        await until(lambda: not more())
    assert more() == {}
    last = held(running)
    assert last.threads - first.threads <= POOL_THREADS
    assert last.rss_bytes - first.rss_bytes < noise_bytes
    return last


async def test_calls_that_are_refused_leave_nothing(tmp_path: Path, counts: Mapping[str, int]) -> None:
    async with served(tmp_path / "data", flags=AHEAD) as running:
        await running.grpc.create("good", zip_of("def handler(event, context):\n    return 1\n"))
        await running.grpc.invoke("good")
        await running.grpc.delete("good")
        refused = [("nosuch", b"{}"), ("nosuch", b"{"), ("no such", b"")]

        async def refuse(times: int) -> None:
            for n in range(times):
                with pytest.raises(grpc.aio.AioRpcError):
                    await running.grpc.call(*refused[n % 3])

        await refuse(2_000)
        first = await settled(running)
        await refuse(counts["frames"])
        await settled(running)
        await assert_no_growth(first, running)
        await running.stopped()


async def test_functions_that_come_and_go_leave_nothing(tmp_path: Path, counts: Mapping[str, int]) -> None:
    data = tmp_path / "data"
    # Code that no function has any more waits an hour to be swept, so that all of these have the same.
    same = zip_of("import os\ndef handler(event, context):\n    return os.environ['N']\n")
    async with served(data, flags=AHEAD) as running:

        async def come_and_go(times: int, start: int) -> None:
            for n in range(start, start + times):
                await running.grpc.create("brief", same, environment={"N": str(n)})
                assert (await running.grpc.invoke("brief")).json() == str(n)
                await running.grpc.delete("brief")

        times = counts["sandboxes"] // 8
        await come_and_go(times, 0)
        first = await settled(running)
        await come_and_go(times, times)
        await settled(running)
        await assert_no_growth(first, running)
        assert os.listdir(data / "code" / "tmp") == []
        await running.stopped()
