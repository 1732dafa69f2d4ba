"""Outliving the timeout: after its deadline the whole tree is dead, whatever it does. How late it is, bench/ends.py
measures; here it is held that nobody waits for the minute that each of these would go on for."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import pytest_asyncio

from engine.model.outcome import Outcome
from engine.sandbox.api import Ending
from engine.sandbox.pool import LinuxPool
from tests.conftest import full_counts
from tests.sandboxes import run, spec, write_code
from tests.security.clingers import CLINGERS, HEAVY
from tests.security.probes import handler, outside

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="package")]

LATE_MS = 10_000
AT_ONCE = 5
TIERS = [128, 1_769] if full_counts() else [512]


def late_ms(ending: Ending, timeout_ms: int) -> float:
    """How long after its deadline the tree was gone."""
    marks = dict(ending.timeline)
    return (marks["answered"] - marks["initialized"]) / 1e6 - timeout_ms


Ended = tuple[Ending, int, list[str]]
"""How one ended, what its timeout was, and which of its processes were left."""


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def ended(pool: LinuxPool, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Ended]:
    """What became of each, at each tier: some at a time, for most of them do nothing but wait."""
    few = asyncio.Semaphore(AT_ONCE)

    async def end(clinger: str, memory_mb: int) -> Ended:
        async with few:
            code = write_code(tmp_path_factory.mktemp("clinger") / "code", handler(CLINGERS[clinger]))
            sandbox = await pool.start(spec(code, memory_mb=memory_mb, tmp_mb=512))
            members = Path(pool.cgroup_directories["pids"]) / sandbox.id / "cgroup.procs"
            timeout_ms = 1_000 if clinger in HEAVY else 250
            ending, _ = await run(sandbox, timeout_ms=timeout_ms)
            left = members.read_text().split()
            await sandbox.close()
            return ending, timeout_ms, left

    keys = [(clinger, memory_mb) for clinger in CLINGERS for memory_mb in TIERS]
    return dict(zip(keys, await asyncio.gather(*(end(*key) for key in keys)), strict=True))


@pytest.mark.time_limit(180)  # the first has all of them in it
@pytest.mark.parametrize("memory_mb", TIERS)
@pytest.mark.parametrize("clinger", CLINGERS)
async def test_nothing_outlives_its_timeout(ended: dict[tuple[str, int], Ended], clinger: str, memory_mb: int) -> None:
    ending, timeout_ms, left = ended[clinger, memory_mb]
    assert (ending.outcome, ending.reusable, left) == (Outcome.TIMEOUT, False, [])
    assert 0 <= late_ms(ending, timeout_ms) < LATE_MS


async def test_what_dies_inside_would_live_outside() -> None:
    """Killing the process that was started leaves its daemons, and a reader of their pipe waits."""
    body = """
        out, into = os.pipe()
        said, say = os.pipe()
        first = os.fork()
        if first == 0:
            if os.fork() == 0:
                os.setsid()
                signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
                os.write(say, str(os.getpid()).encode())
                time.sleep(60)
            time.sleep(60)
        os.close(into)
        daemon = int(os.read(said, 20))
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        held = not select.select([out], [], [], 0.5)[0]
        os.kill(daemon, signal.SIGKILL)
        return held
    """
    assert outside(body) is True


async def test_a_timeout_in_the_init_phase_takes_the_tree_too(pool: LinuxPool, tmp_path: Path) -> None:
    source = """
        import os, time
        for _ in range(10):
            if os.fork() == 0:
                os.setsid()
        while True:
            pass
    """
    sandbox = await pool.start(spec(write_code(tmp_path / "code", source), memory_mb=128, init_timeout_ms=300))
    members = Path(pool.cgroup_directories["pids"]) / sandbox.id / "cgroup.procs"
    ending, _ = await run(sandbox, timeout_ms=60_000)
    left = members.read_text().split()
    await sandbox.close()
    assert (ending.outcome, left) == (Outcome.TIMEOUT, [])


async def test_a_daemon_of_the_last_event_is_still_inside_the_walls(pool: LinuxPool, tmp_path: Path) -> None:
    """A background process may live as long as its sandbox, no longer."""
    body = """
        if os.fork() == 0:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            while True:
                time.sleep(1)
        return 1
    """
    sandbox = await pool.start(spec(write_code(tmp_path / "code", handler(body))))
    members = Path(pool.cgroup_directories["pids"]) / sandbox.id / "cgroup.procs"
    for _ in range(3):
        assert (await run(sandbox))[0].outcome is Outcome.OK
    pids = [int(pid) for pid in members.read_text().split()]
    assert len(pids) == 5
    await sandbox.close()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


async def test_a_sandbox_that_is_cancelled_is_gone_at_once(pool: LinuxPool, tmp_path: Path) -> None:
    sandbox = await pool.start(spec(write_code(tmp_path / "code", handler("while True:\n    os.fork()"))))
    task = asyncio.ensure_future(run(sandbox, timeout_ms=60_000))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(sandbox.gone.wait(), LATE_MS / 1_000)
    await sandbox.close()
