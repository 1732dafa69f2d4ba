"""An engine that stops, by SIGTERM or at once, and the one that comes after it over the same data."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError

from engine.cli import serving
from engine.v1 import functions_pb2
from tests.doors import Refused, zip_of
from tests.engines import Served, served, spawn
from tests.remains import HOLD, cgroups_of, held, let_go, nothing_left, until

pytestmark = pytest.mark.privileged

HELD = b'{"hold": true}'


async def state_of(running: Served) -> list[bytes]:
    """All that the API says of every function."""
    listed = await running.grpc.functions.ListFunctions(functions_pb2.ListFunctionsRequest(page_size=1_000))
    return [function.SerializeToString(deterministic=True) for function in listed.functions]


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
async def test_a_restarted_engine_has_every_function(tmp_path: Path, way: signal.Signals) -> None:
    data = tmp_path / "data"
    async with served(data) as first:
        for n in range(5):
            code = zip_of(f"import os\ndef handler(event, context):\n    return [{n}, os.environ['N']]\n")
            await first.grpc.create(f"kept-{n}", code, memory_mb=128 + n, environment={"N": str(n)})
        await first.http.create("by-http", zip_of("def handler(event, context):\n    return 'http'\n"))
        await first.grpc.update("kept-1", memory_mb=999)
        await first.grpc.delete("kept-0")
        assert (await first.grpc.invoke("kept-2")).json() == [2, "2"]
        before = await state_of(first)
        await first.close_doors()
        first.signal(way)
        assert await first.ended() == (0 if way is signal.SIGTERM else -signal.SIGKILL)
    if way is signal.SIGTERM:
        await nothing_left(data)
    async with served(data) as second:
        assert second.instance == first.instance
        assert await state_of(second) == before
        assert sorted(await second.grpc.names()) == ["by-http", "kept-1", "kept-2", "kept-3", "kept-4"]
        for n in range(1, 5):
            assert (await second.http.invoke(f"kept-{n}")).json() == [n, str(n)]
        assert (await second.grpc.invoke("by-http")).json() == "http"
        await second.stopped()
    await nothing_left(data)


async def invoke_for_ever(running: Served) -> None:
    """Until it is refused."""
    while True:
        await running.grpc.invoke("idle")


async def test_sigterm_lets_what_runs_end_refuses_what_is_new_and_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with served(data, flags={"drain_s": 60}) as running:
        await running.grpc.create("held", zip_of(HOLD), timeout_ms=60_000)
        # Idle ones end too.
        await running.grpc.create("idle", zip_of(HOLD))
        await running.grpc.invoke("idle")
        by_grpc = asyncio.ensure_future(running.grpc.invoke("held", HELD))
        by_http = asyncio.ensure_future(running.http.invoke("held", HELD))
        await held(running.instance, 2)
        running.signal(signal.SIGTERM)
        with pytest.raises(Refused) as caught:
            await invoke_for_ever(running)
        assert (caught.value.code, caught.value.kind) == ("UNAVAILABLE", "UNAVAILABLE")
        with pytest.raises((Refused, BotoCoreError)) as refused:
            await running.http.invoke("idle")
        assert not isinstance(refused.value, Refused) or refused.value.code == 503
        assert running.process.poll() is None
        await let_go(running.instance, 2)
        answers = [await by_grpc, await by_http]
        assert [answer.failed for answer in answers] == [False, False]
        assert [answer.json()["calls"] for answer in answers] == [1, 1]
        assert await running.ended() == 0, running.said()
        events = [json.loads(line)["event"] for line in running.said().splitlines() if line.startswith("{")]
        assert events[-1] == "stopped"
        assert "draining" in events
    await nothing_left(data)


async def test_what_outlasts_the_drain_is_killed_and_its_clients_are_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with served(data, flags={"drain_s": 0.3}) as running:
        await running.grpc.create("held", zip_of(HOLD), timeout_ms=60_000)
        by_grpc = asyncio.ensure_future(running.grpc.invoke("held", HELD))
        by_http = asyncio.ensure_future(running.http.invoke("held", HELD))
        await held(running.instance, 2)
        running.signal(signal.SIGTERM)
        with pytest.raises(Refused) as grpc_told:
            await by_grpc
        assert (grpc_told.value.code, grpc_told.value.kind) == ("UNAVAILABLE", "UNAVAILABLE")
        with pytest.raises(Refused) as http_told:
            await by_http
        assert (http_told.value.code, http_told.value.kind) == (503, "ServiceException")
        assert await running.ended() == 0, running.said()
    await nothing_left(data)


async def test_a_second_signal_ends_it_at_once_and_its_sandboxes_with_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with served(data, flags={"drain_s": 600}) as running:
        await running.grpc.create("held", zip_of(HOLD), timeout_ms=60_000)
        call = running.grpc.call("held", HELD)
        answer = asyncio.ensure_future(call)
        await held(running.instance, 1)
        running.signal(signal.SIGTERM)
        await until(lambda: '"draining"' in running.said(), what="the drain has begun")
        await asyncio.sleep(serving._SAME_REQUEST_S + 0.1)  # signals closer together are one request
        running.signal(signal.SIGTERM)
        assert await running.ended(within_s=10) == 1
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the connection makes of it
            await answer
    # Whatever it had no time for, the next one removes.
    async with served(data) as second:
        await until(lambda: len(cgroups_of(second.instance)) <= 5)
        await second.stopped()
    await nothing_left(data)


async def test_sigterm_during_its_start_ends_an_engine_without_a_trace(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with served(data) as first:
        await first.stopped()
    for delay in (0.0, 0.02, 0.1):
        starting = spawn(data)
        # From the moment that it holds its data directory it can be told to stop.
        await until(
            lambda started=starting: str(started.process.pid) in (data / "lock").read_text(),  # type: ignore[misc]
            within_s=20,
            what="it has its data directory",
        )
        await asyncio.sleep(delay)
        starting.signal(signal.SIGTERM)
        assert await starting.ended() == 0, starting.said()
        await nothing_left(data)


async def test_a_second_engine_on_the_same_data_is_refused_and_told_which_process_has_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with served(data) as first:
        await first.grpc.create("held", zip_of(HOLD))
        me = (await first.grpc.invoke("held")).json()["me"]
        second = spawn(data)
        assert await second.ended() != 0
        assert f"in use by another engine, process {first.process.pid}" in second.said()
        assert "--data-dir" in second.said()
        again = await first.grpc.invoke("held")
        assert again.json()["me"] == me, "the first engine's sandboxes did not survive the second engine"
        await first.stopped()
    await nothing_left(data)


@pytest.mark.parametrize("which", ["grpc", "http"])
async def test_an_engine_on_a_port_in_use_is_refused_told_what_to_do_and_leaves_nothing(
    tmp_path: Path, which: str
) -> None:
    async with served(tmp_path / "first") as first:
        port = first.grpc_port if which == "grpc" else first.http_port
        second = spawn(tmp_path / "second", {f"{which}-address": f"127.0.0.1:{port}"})
        assert await second.ended() != 0
        assert f"127.0.0.1:{port}" in second.said()
        assert "in use" in second.said()
        assert "ss -ltnp" in second.said()
        await nothing_left(tmp_path / "second")
        await first.grpc.create("held", zip_of(HOLD))
        assert (await first.grpc.invoke("held")).json()["calls"] == 1
        await first.stopped()


def test_data_of_a_newer_release_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    import apsw

    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    connection = apsw.Connection(str(data / "registry.db"))
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    before = (data / "registry.db").read_bytes()
    engine = spawn(data)
    assert engine.process.wait(20) != 0
    assert "newer" in engine.said()
    assert (data / "registry.db").read_bytes() == before
