"""Things that happen at the wrong moment: no invocation is lost or answered by the wrong code, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from engine.errors import SandboxFault
from engine.sandbox import parts
from engine.v1 import reports_pb2 as pb
from engine.zygote.host import Zygote
from tests.doors import Refused, zip_of
from tests.engines import Engine, engine
from tests.remains import HOLD, held, leaves_of, let_go, loops_of, members_of, nothing_left, until, zombies_of

pytestmark = pytest.mark.privileged

HELD = b'{"hold": true}'


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Engine]:
    async with engine(tmp_path / "data", tmp_pool_size=2) as running:
        yield running
    await nothing_left(tmp_path / "data")


def says(what: object) -> bytes:
    return zip_of(f"def handler(event, context):\n    return {what!r}\n")


async def emptied(running: Engine) -> None:
    """Wait until there is no sandbox any more, nor anything of one."""
    await until(lambda: not leaves_of(running.instance), what="no sandbox is left")
    host = await running.grpc.counts()
    assert (host.sandboxes, host.idle_sandboxes, host.concurrency) == (0, 0, 0)
    assert zombies_of(os.getpid()) == []


async def test_a_function_that_is_deleted_while_it_runs_ends_as_it_would_have(running: Engine) -> None:
    await running.grpc.create("deleted", zip_of(HOLD), timeout_ms=60_000)
    under_way = [asyncio.ensure_future(door.invoke("deleted", HELD)) for door in (running.grpc, running.http)]
    await held(running.instance, 2)
    await running.grpc.delete("deleted")
    with pytest.raises(Refused) as caught:
        await running.grpc.invoke("deleted")
    assert caught.value.code == "NOT_FOUND"
    await running.grpc.create("deleted", says("another"))
    assert (await running.grpc.invoke("deleted")).json() == "another"
    await let_go(running.instance, 2)
    for answer in await asyncio.gather(*under_way):
        assert answer.json()["calls"] == 1
        assert b"REPORT" in answer.log
    assert (await running.grpc.invoke("deleted")).json() == "another"
    await running.grpc.delete("deleted")
    await emptied(running)


async def test_each_call_runs_the_code_that_was_there_when_it_came_however_fast_it_changes(running: Engine) -> None:
    await running.grpc.create("changing", says(0))
    current = 0
    done = False

    async def ask(door: Any) -> int:
        asked = 0
        while not done:
            least = current
            answer = await door.invoke("changing")
            assert not answer.failed
            assert least <= answer.json() <= current + 1
            asked += 1
        return asked

    asking = [asyncio.ensure_future(ask(door)) for door in (running.grpc, running.grpc, running.grpc, running.http)]
    for version in range(1, 31):
        await running.grpc.update("changing", code=says(version))
        current = version
        assert (await running.grpc.invoke("changing")).json() == version
    done = True
    assert sum(await asyncio.gather(*asking)) >= 30
    await running.grpc.delete("changing")
    await emptied(running)


async def test_a_name_that_is_deleted_and_taken_again_never_answers_for_another(running: Engine) -> None:
    for round_ in range(10):
        await running.grpc.create("taken", says(round_))
        calls = [asyncio.ensure_future(running.grpc.invoke("taken")) for _ in range(5)]
        assert (await running.grpc.invoke("taken")).json() == round_
        await running.grpc.delete("taken")
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, BaseException):
                assert isinstance(answer, Refused)
                assert answer.code == "NOT_FOUND"
            else:
                assert answer.json() == round_
    await emptied(running)


async def test_clients_that_leave_while_their_sandbox_starts_leave_nothing_behind(running: Engine) -> None:
    await running.grpc.create("left", says("here"))
    chance = random.Random(4)

    async def ask_and_leave() -> None:
        call = running.grpc.call("left")
        leaving = asyncio.get_running_loop().call_later(chance.random() * 0.03, call.cancel)
        try:
            await call
        except asyncio.CancelledError:
            pass
        leaving.cancel()

    for round_ in range(8):
        await asyncio.gather(*(ask_and_leave() for _ in range(10)))
        await running.grpc.update("left", description=str(round_))
    assert (await running.grpc.invoke("left")).json() == "here"
    await running.grpc.delete("left")
    await emptied(running)


@pytest.mark.parametrize("drain_s", [0.0, 5.0])
async def test_an_engine_that_stops_while_sandboxes_start_answers_each_call_and_leaves_nothing(
    tmp_path: Path, drain_s: float
) -> None:
    data = tmp_path / "data"
    for delay_s in (0.0, 0.005, 0.02, 0.05):
        async with engine(data, drain_s=drain_s) as stopping:
            if "started" not in await stopping.grpc.names():
                await stopping.grpc.create("started", says("here"))
            calls = [asyncio.ensure_future(stopping.grpc.invoke("started")) for _ in range(20)]
            calls += [asyncio.ensure_future(stopping.http.invoke("started")) for _ in range(5)]
            await asyncio.sleep(delay_s)
            await stopping.service.stop()
            late = 0
            for answer in await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30):
                if isinstance(answer, Refused) and not answer.kind:
                    late += 1  # for the engine: gRPC itself had closed the door
                elif isinstance(answer, Refused):
                    assert answer.code in ("UNAVAILABLE", 503), answer
                elif isinstance(answer, BaseException):
                    # A connection that came too late to be accepted.
                    assert "onnect" in type(answer).__name__, repr(answer)
                else:
                    assert answer.json() == "here"
            assert late <= 5
        await nothing_left(data)
    assert zombies_of(os.getpid()) == []


def zygotes(running: Engine) -> list[psutil.Process]:
    """Children that are in no sandbox and not over."""
    inside = set(members_of(running.instance))
    return [
        child
        for child in psutil.Process().children()
        if child.pid not in inside
        and child.status() != psutil.STATUS_ZOMBIE
        and any(part.endswith("guest/zygote.py") for part in child.cmdline())
    ]


async def test_a_zygote_that_is_killed_during_a_burst_of_cold_starts_loses_no_invocation(running: Engine) -> None:
    await running.grpc.create("burst", zip_of(HOLD), memory_mb=1_769, timeout_ms=60_000)
    chance = random.Random(7)
    for round_ in range(6):
        calls = [asyncio.ensure_future(running.grpc.invoke("burst", HELD)) for _ in range(20)]
        await asyncio.sleep(chance.random() * 0.06)
        for zygote in zygotes(running)[:1]:
            os.kill(zygote.pid, signal.SIGKILL)
        await let_go(running.instance, 20)
        answers = await asyncio.gather(*calls)
        assert len({answer.json()["me"] for answer in answers}) == 20
        assert {answer.report.start_kind for answer in answers if answer.report} == {pb.START_KIND_FORK}
        # The next round is one of cold starts again.
        await running.grpc.update("burst", description=str(round_))
        await until(lambda: not leaves_of(running.instance), what="the round's sandboxes are gone")
    # A start finds a zygote that died idle, and reaps it.
    assert (await running.grpc.invoke("burst")).json()["calls"] == 1
    await running.grpc.delete("burst")
    await emptied(running)


async def test_a_sandbox_that_a_dying_zygote_made_and_told_nobody_of_is_found_and_buried(
    running: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Zygote.ask
    strays: list[int] = []

    class Unanswered:
        unanswered = True

        def __init__(self, turns: Any) -> None:
            self.fileno, self.close = turns.fileno, turns.close

    def ask_and_lose(zygote: Any, fork: Any) -> Any:
        def lost(turns: Any) -> tuple[int, int]:
            pidfd, pid = fork(turns)
            if not strays:
                os.close(pidfd)
                strays.append(pid)
                zygote._turns = Unanswered(turns)
                raise SandboxFault("zygote", 32, "it is gone")
            return int(pidfd), int(pid)

        return real(zygote, lost)

    monkeypatch.setattr(Zygote, "ask", ask_and_lose)
    await running.grpc.create("stray", says("here"))
    answer = await running.grpc.invoke("stray")
    assert answer.json() == "here"
    assert len(strays) == 1
    assert not psutil.pid_exists(strays[0])
    await running.grpc.delete("stray")
    await emptied(running)
    await until(lambda: len(loops_of(running.data_dir)) <= 2, within_s=5, what="its /tmp is gone")


async def test_a_zygote_that_does_not_answer_is_replaced(running: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_FORK_WITHIN_MS", 300)
    await running.grpc.create("stopped", says("here"))
    (zygote,) = zygotes(running)
    zygote.suspend()
    assert (await running.grpc.invoke("stopped")).json() == "here"
    assert not zygote.is_running()
    await running.grpc.delete("stopped")
    await emptied(running)


def shoot(running: Engine) -> None:
    """Kill all there is in its sandboxes."""
    for pid in members_of(running.instance):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # the end of another has ended it
            pass


@pytest.mark.parametrize("noticed", [True, False])
async def test_a_sandbox_that_dies_idle_costs_the_next_call_a_cold_start_and_no_more(
    running: Engine, noticed: bool
) -> None:
    await running.grpc.create("idle", zip_of(HOLD), memory_mb=1_769)
    first = (await running.grpc.invoke("idle")).json()["me"]
    shoot(running)
    end = time.monotonic() + 5
    while members_of(running.instance):
        assert time.monotonic() < end
        # The engine shares this event loop: while this sleeps it notices nothing.
        await asyncio.sleep(0.01) if noticed else time.sleep(0.01)
    answer = await running.grpc.invoke("idle")
    assert answer.json()["me"] != first
    assert answer.report is not None
    assert answer.report.start_kind == pb.START_KIND_FORK
    await running.grpc.delete("idle")
    await emptied(running)


async def test_a_sandbox_killed_from_outside_in_the_middle_of_an_event_has_exited(running: Engine) -> None:
    await running.grpc.create("shot", zip_of(HOLD), timeout_ms=60_000)
    under_way = asyncio.ensure_future(running.grpc.invoke("shot", HELD))
    await held(running.instance, 1)
    shoot(running)
    answer = await under_way
    assert answer.json() == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer.request_id} Error: Runtime exited with error: signal: killed",
    }
    assert (await running.grpc.invoke("shot")).json()["calls"] == 1
    await running.grpc.delete("shot")
    await emptied(running)


async def test_reading_a_stream_slower_than_it_is_written_holds_nobody_else_up(running: Engine) -> None:
    body = """
        def handler(event, context):
            for n in range(20_000):
                print("x" * 200)
            return "x" * 6_000_000
    """
    await running.grpc.create("wide", zip_of(body), memory_mb=1_769, timeout_ms=30_000)
    await running.grpc.create("other", says("here"))
    stream = running.grpc.stream("wide")
    assert (await stream.read()).HasField("started")
    for _ in range(20):
        assert (await asyncio.wait_for(running.grpc.invoke("other"), 5)).json() == "here"
    size = 0
    while (frame := await stream.read()) is not grpc.aio.EOF:
        size += len(frame.chunk)
        last = frame
    assert size == 6_000_002
    assert last.finished.report.outcome == pb.OUTCOME_OK
    for name in ("wide", "other"):
        await running.grpc.delete(name)
    await emptied(running)
