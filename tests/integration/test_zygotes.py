"""Zygotes are watched, rotated and replaced, and no start is lost for it; a Python that goes is missed at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import SandboxFault
from engine.model.host import ZygoteFound
from engine.model.outcome import Outcome, StartKind
from engine.runtimes.interpreters import find_interpreters
from engine.runtimes.places import python_folders
from engine.sandbox.counts import Happening, Resource
from engine.sandbox.demand import ParkSettings
from engine.sandbox.pool import LinuxPool
from engine.v1 import reports_pb2, resources_pb2
from engine.zygote.host import ZygoteKey
from engine.zygote.keeper import ZygoteSettings
from tests.doors import Refused, zip_of
from tests.engines import engine
from tests.packages import own_packages
from tests.pythons import pythons
from tests.remains import nothing_left, until
from tests.sandboxes import RUNTIME, real_pool, run, spec, write_code

pytestmark = pytest.mark.privileged

HELLO = "def handler(event, context):\n    return 'hello'\n"
LAYOUT = """
    import ctypes

    def handler(event, context):
        return [id(None), ctypes.addressof(ctypes.c_int.in_dll(ctypes.pythonapi, "Py_OptimizeFlag"))]
"""


@contextlib.asynccontextmanager
async def keeping(folder: Path, **settings: float) -> AsyncIterator[LinuxPool]:
    """A pool with these ZygoteSettings."""
    async with real_pool(folder / "pool", zygotes=ZygoteSettings(**settings)) as pool:  # type: ignore[arg-type]
        yield pool


async def answer_of(
    pool: LinuxPool, code: Path, *, preload: tuple[str, ...] = (), own_layout: bool = False
) -> tuple[bytes, StartKind]:
    """What a fresh sandbox answers."""
    sandbox = await pool.start(replace(spec(code), preload=preload, own_layout=own_layout))
    try:
        ending, seen = await run(sandbox)
        assert ending.outcome is Outcome.OK, ending
        assert seen.kind is not None
        return ending.payload, seen.kind
    finally:
        await sandbox.close()


def happened(pool: LinuxPool, what: Happening) -> int:
    """How often."""
    return {one.kind: one.count for one in pool.counts.events()}[what.value]


def plain(pool: LinuxPool) -> ZygoteFound:
    """The one of the default runtime."""
    (found,) = [one for one in pool.zygote_reports() if not one.preload]
    return found


async def test_one_that_has_forked_often_is_replaced_and_no_start_fails_or_waits_for_it(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    async with keeping(tmp_path, max_forks=4) as pool:
        first = plain(pool).pid
        answers = await asyncio.gather(*(answer_of(pool, code) for _ in range(30)))
        assert set(answers) == {(b'"hello"', StartKind.FORK)}
        await until(lambda: happened(pool, Happening.ZYGOTE_ROTATED), what="it was replaced")
        assert plain(pool).pid != first
        await until(lambda: pool.counts.alive(Resource.ZYGOTES) == 1, what="the old ones have ended")
        assert happened(pool, Happening.ZYGOTE_LOST) == 0


async def test_one_that_is_old_is_replaced_though_nobody_asks(tmp_path: Path) -> None:
    async with keeping(tmp_path, max_age_s=0.2) as pool:
        first = plain(pool).pid
        await until(lambda: plain(pool).pid != first, what="another is there")
        await until(lambda: not Path(f"/proc/{first}").exists(), what="the old one has ended")
        assert happened(pool, Happening.ZYGOTE_LOST) == 0


async def test_one_that_nobody_asked_for_in_its_time_is_ended_and_made_again_when_asked_for(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    async with keeping(tmp_path, max_age_s=0.3) as pool:
        await answer_of(pool, code, preload=("json",))
        await until(lambda: not [one for one in pool.zygote_reports() if one.preload], what="it has ended")
        assert await answer_of(pool, code, preload=("json",)) == (b'"hello"', StartKind.FORK)


async def test_there_are_so_many_at_most_and_the_one_asked_for_longest_ago_makes_room(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    async with keeping(tmp_path, limit=3) as pool:
        default = plain(pool).pid
        for name in ("json", "csv", "decimal", "json"):
            await answer_of(pool, code, preload=(name,))
        assert [one.preload for one in pool.zygote_reports()] == [(), ("decimal",), ("json",)]
        assert plain(pool).pid == default
        await until(lambda: pool.counts.alive(Resource.ZYGOTES) == 3, what="the others have ended")


async def test_one_that_is_killed_while_nothing_starts_is_replaced_before_the_next_start(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    async with keeping(tmp_path) as pool:
        await until(lambda: plain(pool).age_ms > 1_000, what="it has served for a while")
        first = plain(pool).pid
        os.kill(first, signal.SIGKILL)
        await until(
            lambda: [one for one in pool.zygote_reports() if one.pid not in (0, first)], what="another is there"
        )
        second = plain(pool).pid
        assert await answer_of(pool, code) == (b'"hello"', StartKind.FORK)
        assert (plain(pool).pid, happened(pool, Happening.ZYGOTE_LOST)) == (second, 1)


async def test_killed_in_a_burst_the_starts_under_way_are_made_on_another(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    async with keeping(tmp_path) as pool:
        burst = [asyncio.ensure_future(answer_of(pool, code)) for _ in range(60)]
        for killed in range(1, 4):
            victim = await until(lambda: next((one for one in pool.zygote_reports() if one.forks >= 5), None))
            os.kill(victim.pid, signal.SIGKILL)
            while happened(pool, Happening.ZYGOTE_LOST) < killed:
                await asyncio.sleep(0)
        assert set(await asyncio.gather(*burst)) == {(b'"hello"', StartKind.FORK)}
        assert happened(pool, Happening.START_FAILED) == 0


async def test_who_asks_in_the_moment_in_which_a_start_has_failed_has_another(tmp_path: Path) -> None:
    async with keeping(tmp_path) as pool:
        zygotes, key = pool._zygotes, ZygoteKey(RUNTIME)
        first = await zygotes.get(key)
        first.kill()
        await until(lambda: not pool.zygote_pids, what="it is missed")
        starting = asyncio.ensure_future(zygotes.get(key))
        # At each turn of the loop: so also between the end of a start and what is called for it.
        while not (making := zygotes._making.get(key)) or not zygotes._starting:
            await asyncio.sleep(0)
        for zygote in zygotes._starting:
            zygote.kill()
        while not making.done():
            await asyncio.sleep(0)
        asked = await zygotes.get(key)
        assert asked.alive
        with pytest.raises(SandboxFault, match="did not become a zygote"):
            await starting


async def test_sandboxes_of_one_zygote_share_a_layout_and_those_that_ask_for_it_have_their_own(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", LAYOUT)
    async with keeping(tmp_path) as pool:
        shared = {await answer_of(pool, code) for _ in range(3)}
        assert len(shared) == 1
        own = {await answer_of(pool, code, own_layout=True) for _ in range(3)}
        assert {kind for _, kind in own} == {StartKind.EXEC}
        assert len(own) == 3
        with_preload = {await answer_of(pool, code, own_layout=True, preload=("json",)) for _ in range(2)}
        assert len(with_preload) == 2
        await until(lambda: pool.counts.alive(Resource.ZYGOTES) == 1, what="theirs have ended")


async def test_a_sandbox_with_a_layout_of_its_own_is_parked_too(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", LAYOUT)
    park = ParkSettings(floor=0, ceiling=2, rate_per_s=1_000)
    async with real_pool(tmp_path / "pool", park=park) as pool:
        answers = {await answer_of(pool, code, own_layout=True)}
        for _ in range(2):
            await until(lambda: pool.counts.alive(Resource.PARKED), what="one is parked")
            answers.add(await answer_of(pool, code, own_layout=True))
        assert sorted(kind.value for _, kind in answers) == ["exec", "parked", "parked"]
        assert len({payload for payload, _ in answers}) == 3


async def test_a_python_that_goes_while_it_serves_fails_its_functions_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = a_runtime_of_its_own(monkeypatch)
    with own_packages(pythons()[runtime].path, copied=True) as packages:
        python = packages.python
        parks = {"parked_floor": 1, "parked_ceiling": 2, "parked_rate": 1_000.0}
        async with engine(tmp_path / "data", interpreters=[str(python)], **parks) as running:
            door = running.grpc
            await door.create("hello", zip_of(HELLO), runtime=runtime)
            await door.create("beside", zip_of(HELLO))
            assert (await door.invoke("hello")).json() == "hello"
            while runtime not in {one.runtime for one in (await door.counts()).zygotes}:
                pass
            python.rename(python.with_name("away"))
            await door.counts()  # makes the engine look, which it does by itself every few seconds
            with pytest.raises(Refused, match=f"there is no {runtime} on this host any more") as refused:
                await door.invoke("hello")
            assert refused.value.code == "FAILED_PRECONDITION"
            function = await door.function("hello")
            assert (function.state, function.state_reason) == (
                resources_pb2.STATE_FAILED,
                f"there is no {runtime} on this host any more",
            )
            host = await door.counts()
            assert runtime not in host.runtimes
            assert runtime not in {one.runtime for one in host.zygotes}
            assert (await door.invoke("beside")).json() == "hello"
            # And when it is back, so are they.
            python.with_name("away").rename(python)
            await door.counts()
            assert (await door.function("hello")).state == resources_pb2.STATE_ACTIVE
            assert (await door.invoke("hello")).json() == "hello"
        await nothing_left(tmp_path / "data")


async def test_a_python_that_is_replaced_is_what_the_next_start_is_forked_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = a_runtime_of_its_own(monkeypatch)
    with own_packages(pythons()[runtime].path, copied=True) as packages:
        async with engine(tmp_path / "data", interpreters=[str(packages.python)]) as running:
            door = running.grpc
            await door.create("hello", zip_of(HELLO), runtime=runtime)
            assert (await door.invoke("hello")).json() == "hello"
            (before,) = [one.pid for one in (await door.counts()).zygotes if one.runtime == runtime]
            packages.copy_again()
            while before in {one.pid for one in (await door.counts()).zygotes}:
                pass
            answer = await door.invoke("hello")
            assert answer.report is not None
            # The sandbox that served before is of what was replaced.
            assert (answer.json(), answer.report.start_kind) == ("hello", reports_pb2.START_KIND_FORK)
            (after,) = [one.pid for one in (await door.counts()).zygotes if one.runtime == runtime]
            assert after != before


def a_runtime_of_its_own(monkeypatch: pytest.MonkeyPatch) -> str:
    """One that an engine finds nowhere once the test has hidden where the Pythons of this host are."""
    everywhere = pythons()
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "MISE_DATA_DIR", "ASDF_DATA_DIR", "HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, "/nowhere")
    found = find_interpreters([], "", folders=python_folders(os.environ, "/nowhere"))
    for runtime in everywhere:
        if runtime not in found:
            return runtime
    pytest.skip("this host has no second Python beside those that cannot be hidden")
