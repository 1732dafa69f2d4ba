"""Things at once: a start, a run or an end meets a cancel, a stop, a dying or a sleeping zygote, a held leaf."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from engine.errors import EngineError, SandboxFault, Unavailable
from engine.model.outcome import Outcome
from engine.sandbox import linux, parts
from engine.sandbox import pool as pool_module
from engine.sandbox.counts import Happening, Resource
from engine.sandbox.pool import LinuxPool
from tests.remains import until
from tests.sandboxes import RUNTIME, Collected, event, real_pool, run, spec, write_code

pytestmark = pytest.mark.privileged

HELLO = "def handler(event, context):\n    return 1\n"
SPIN = "def handler(event, context):\n    print('in', flush=True)\n    while True: pass\n"


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[LinuxPool]:
    async with real_pool(tmp_path, tmp_pool_size=2) as pool:
        yield pool
    assert_all_removed(pool)


def assert_all_removed(pool: LinuxPool) -> None:
    assert {count.kind: count.made - count.removed for count in pool.counts.resources()} == {
        kind.value: 0 for kind in Resource
    }
    assert not [folder for folder in pool.cgroup_directories.values() if folder and Path(folder).exists()]


def happened(pool: LinuxPool, what: Happening) -> int:
    return next(count.count for count in pool.counts.events() if count.kind == what.value)


def children() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def leaves(pool: LinuxPool) -> list[str]:
    return [entry.name for entry in Path(pool.cgroup_directories["memory"]).iterdir() if entry.is_dir()]


async def only_the_zygote_is_left(pool: LinuxPool) -> None:
    zygotes = set(pool.zygote_pids.values())
    try:
        await until(lambda: pool.alive == 0 and children() <= zygotes and not leaves(pool), what="nothing left")
    except AssertionError as error:
        for pid in children() - zygotes:
            with contextlib.suppress(OSError):
                error.add_note(Path(f"/proc/{pid}/status").read_text() + Path(f"/proc/{pid}/cmdline").read_text())
        error.add_note(f"alive {pool.alive}, leaves {leaves(pool)}, zygotes {zygotes}")
        raise


async def test_what_was_made_was_removed_whatever_the_runs_came_to(pool: LinuxPool, tmp_path: Path) -> None:
    sources = {
        Outcome.OK: HELLO,
        Outcome.HANDLER_ERROR: "def handler(event, context):\n    raise ValueError\n",
        Outcome.INIT_ERROR: "raise ValueError",
        Outcome.EXITED: "import os\nos._exit(1)\n",
        Outcome.TIMEOUT: SPIN,
        Outcome.OUT_OF_MEMORY: "def handler(event, context):\n    return len([bytearray(1 << 20) for _ in range(900)])",
    }
    for outcome, source in sources.items():
        sandbox = await pool.start(spec(write_code(tmp_path / outcome.value, source), memory_mb=256))
        ending, _ = await run(sandbox, timeout_ms=300 if outcome is Outcome.TIMEOUT else 10_000)
        assert ending.outcome is outcome
        await sandbox.close()
    with pytest.raises(SandboxFault, match="code mount"):
        await pool.start(spec(tmp_path / "nowhere"))
    made = {count.kind: (count.made, count.removed) for count in pool.counts.resources()}
    assert made["sandboxes"] == (len(sources) + 1, len(sources) + 1)
    assert made["leaves"] == (len(sources) + 1, len(sources) + 1)
    assert made["zygotes"] == (1, 0)
    assert made["tmp_mounts"][0] > 0
    befell = {count.kind: count.count for count in pool.counts.events()}
    assert (befell["out_of_memory"], befell["timeouts"], befell["failed_starts"]) == (1, 1, 1)


@pytest.mark.time_limit(240)
async def test_a_start_that_is_cancelled_at_any_instant_leaves_nothing(
    pool: LinuxPool, tmp_path: Path, counts: Mapping[str, int]
) -> None:
    code = write_code(tmp_path / "code", HELLO)
    chance = random.Random(11)
    cancelled = 0
    for _ in range(counts["sandboxes"] // 4):
        starting = asyncio.ensure_future(pool.start(spec(code)))
        await asyncio.sleep(chance.random() * 0.02)
        starting.cancel()
        try:
            await (await starting).close()
        except asyncio.CancelledError:
            cancelled += 1
    assert cancelled > 0
    await only_the_zygote_is_left(pool)
    sandbox = await pool.start(spec(code))
    assert (await run(sandbox))[0].outcome is Outcome.OK
    await sandbox.close()


async def test_starts_that_meet_a_stop_fail_or_are_there_and_nothing_is_left(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    before = children()
    for delay_ms in (0, 1, 3, 6, 10, 20):
        async with real_pool(tmp_path / str(delay_ms), tmp_pool_size=1) as pool:
            starts = [asyncio.ensure_future(pool.start(spec(code))) for _ in range(8)]
            await asyncio.sleep(delay_ms / 1000)
            starts[0].cancel()
            # In order: the scheduler closes what it has, then the pool.
            done = [start for start in starts if start.done() and not start.cancelled() and not start.exception()]
            await asyncio.gather(*(start.result().close() for start in done))
            stopping = asyncio.ensure_future(pool.close())
            for start in starts:
                if start in done:
                    continue
                try:
                    await (await start).close()
                except (EngineError, asyncio.CancelledError):
                    pass
            await asyncio.wait_for(stopping, 20)
            with pytest.raises(Unavailable):
                await pool.start(spec(code))
        assert children() == before, delay_ms
        assert_all_removed(pool)


async def test_no_start_is_lost_when_the_zygote_dies_under_many(pool: LinuxPool, tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    for _ in range(3):
        starts = [asyncio.ensure_future(pool.start(spec(code))) for _ in range(8)]
        await asyncio.sleep(0.005)
        os.kill(pool.zygote_pids[RUNTIME], signal.SIGKILL)
        sandboxes = await asyncio.gather(*starts)
        for sandbox in sandboxes:
            assert (await run(sandbox))[0].outcome is Outcome.OK
        await asyncio.gather(*(sandbox.close() for sandbox in sandboxes))
        await only_the_zygote_is_left(pool)
    assert happened(pool, Happening.ZYGOTE_LOST) >= 1


async def test_a_zygote_that_does_not_answer_is_replaced_and_its_late_sandbox_goes_to_nobody(
    pool: LinuxPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_FORK_WITHIN_MS", 200)
    code = write_code(tmp_path / "code", "import os\ndef handler(event, context):\n    return os.getuid()\n")
    asleep = pool.zygote_pids[RUNTIME]
    os.kill(asleep, signal.SIGSTOP)
    sandboxes = await asyncio.gather(pool.start(spec(code)), pool.start(spec(code)))
    assert pool.zygote_pids[RUNTIME] != asleep
    users = {(await run(sandbox))[0].payload for sandbox in sandboxes}
    assert len(users) == 2
    await asyncio.gather(*(sandbox.close() for sandbox in sandboxes))
    await only_the_zygote_is_left(pool)


async def test_a_sandbox_has_no_part_of_the_journal_by_which_lost_ones_are_found(
    pool: LinuxPool, tmp_path: Path
) -> None:
    source = """
        import os
        def handler(event, context):
            fds = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(64) if os.path.lexists(f"/proc/self/fd/{fd}")]
            return [line for line in [*open("/proc/self/maps"), *fds] if "memfd:zygote" in line]
    """
    sandbox = await pool.start(spec(write_code(tmp_path / "code", source)))
    assert "memfd:zygote" in Path(f"/proc/{pool.zygote_pids[RUNTIME]}/maps").read_text()
    ending, _ = await run(sandbox)
    await sandbox.close()
    assert (ending.outcome, ending.payload) == (Outcome.OK, b"[]")


async def test_a_sandbox_that_is_closed_while_it_runs_ends_its_run_as_cancelled(
    pool: LinuxPool, tmp_path: Path
) -> None:
    for source in (SPIN, "print('in', flush=True)\nwhile True: pass\n"):
        sandbox = await pool.start(spec(write_code(tmp_path / "code", source)))
        sink = Collected()
        running = asyncio.ensure_future(sandbox.run(event(), sink))
        await until(lambda sink=sink: b"in" in sink.written)  # type: ignore[misc]
        await sandbox.close()
        assert (await running).outcome is Outcome.CANCELLED
        await sandbox.close()
    await only_the_zygote_is_left(pool)


async def test_a_sink_that_fails_ends_its_own_run_and_nothing_else(pool: LinuxPool, tmp_path: Path) -> None:
    class Broken(Collected):
        def output(self, data: bytes) -> None:
            raise ZeroDivisionError

    sandbox = await pool.start(spec(write_code(tmp_path / "code", "def handler(event, context):\n    print('x')\n")))
    with pytest.raises(SandboxFault, match="ZeroDivisionError"):
        await asyncio.wait_for(sandbox.run(event(), Broken()), 10)
    assert sandbox.dead
    await asyncio.wait_for(sandbox.close(), 10)
    await only_the_zygote_is_left(pool)


async def test_a_leaf_that_is_held_keeps_neither_a_close_nor_another_start_waiting(
    pool: LinuxPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linux, "_CLOSED_WITHIN_S", 0.3)
    code = write_code(tmp_path / "code", HELLO)
    sandbox = await pool.start(spec(code))
    tasks = Path(pool.cgroup_directories["memory"]) / sandbox.id / "cgroup.procs"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as holder:
        tasks.write_text(str(holder.pid))
        began = time.monotonic()
        await sandbox.close()
        assert time.monotonic() - began < 5
        assert pool.alive == 1, "its user id is free for another, and its leaf is not"
        assert happened(pool, Happening.REMOVAL_LATE) == 1
        other = await pool.start(spec(code))
        assert (await run(other))[0].outcome is Outcome.OK
        await other.close()
        await until(lambda: happened(pool, Happening.REMOVAL_RETRIED) > 0)
        holder.communicate(b"\n")
    await only_the_zygote_is_left(pool)


async def test_a_leaf_that_is_held_does_not_keep_the_engine_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linux, "_CLOSED_WITHIN_S", 0.3)
    monkeypatch.setattr(pool_module, "_TAKEN_AWAY_WITHIN_S", 0.3)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as holder:
        async with real_pool(tmp_path) as pool:
            sandbox = await pool.start(spec(write_code(tmp_path / "code", HELLO)))
            (Path(pool.cgroup_directories["pids"]) / sandbox.id / "cgroup.procs").write_text(str(holder.pid))
            await sandbox.close()
            began = time.monotonic()
        assert time.monotonic() - began < 10
        # What is in a leaf is the engine's to kill, and at its stop it does.
        assert await asyncio.to_thread(holder.wait, 10) == -signal.SIGKILL
    assert not [folder for folder in pool.cgroup_directories.values() if folder and Path(folder).exists()]
