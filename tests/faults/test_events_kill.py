"""kill -9 at each step of an asynchronous event's way: what was acknowledged runs, and what was forgotten does not."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.config import Settings
from tests.faults.events_victim import ANY, FAILED, STEPS, main

ROOT = Path(__file__).resolve().parent.parent.parent


def killed(folder: Path, step: str, *, fails: bool = False) -> list[str]:
    """A life that is ended at a step; what it said."""
    command = [sys.executable, "-m", "tests.faults.events_victim", str(folder), step, str(int(fails))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    return done.stdout.decode().splitlines()


async def lived(folder: Path, *, fails: bool = False) -> list[str]:
    """A life that ends when nothing waits any more; what it said."""
    said: list[str] = []
    async with asyncio.timeout(60):
        await main(folder, "", fails, said.append)
    return said


def killed_at_random(folder: Path, chance: random.Random) -> list[str]:
    """A life of many callers that is ended at some instant; what it said."""
    command = [sys.executable, "-m", "tests.faults.events_victim", str(folder), ANY, "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        said = b"".join(victim.stdout.readline() for _ in range(chance.randrange(1, 300)))
        with pytest.raises(subprocess.TimeoutExpired):
            victim.wait(chance.random() * 0.02)
        victim.kill()
        said += victim.stdout.read()
    return said.decode().splitlines()


def ids(said: list[str], what: str) -> list[str]:
    """The request ids of which something was said."""
    return [line.removeprefix(f"{what} ") for line in said if line.startswith(what)]


@pytest.mark.parametrize("step", STEPS)
async def test_an_event_survives_a_kill_at_each_step_as_the_room_says(tmp_path: Path, step: str) -> None:
    first = killed(tmp_path, step)
    runs = ids(first, "ran") + ids(await lived(tmp_path), "ran")
    # Never accepted: never run. It ran and was not forgotten: it runs again.
    assert len(runs) == {"before the write": 0, "after the run": 2}.get(step, 1)
    assert len(set(runs)) <= 1, "each attempt has the same request id"
    acknowledged = ids(first, "accepted")
    assert set(acknowledged) <= set(runs)
    assert bool(acknowledged) == (step in STEPS[2:])


async def test_a_failed_run_that_was_written_is_not_one_more_after_a_kill(tmp_path: Path) -> None:
    runs = ids(killed(tmp_path, FAILED, fails=True), "ran")
    assert len(runs) == 1
    assert ids(await lived(tmp_path, fails=True), "ran") == 2 * runs


@pytest.mark.time_limit(300)
async def test_kills_at_random_instants_lose_nothing_that_was_acknowledged(
    tmp_path: Path, counts: Mapping[str, int]
) -> None:
    chance, said, kills = random.Random(7), list[str](), counts["kills"] // 5
    for _ in range(kills):
        said += killed_at_random(tmp_path, chance)
    said += await lived(tmp_path)
    runs = Counter(ids(said, "ran"))
    acknowledged = set(ids(said, "accepted"))
    assert acknowledged
    assert acknowledged <= runs.keys()
    # No more can have run and not be forgotten than may run at a time.
    assert sum(runs.values()) - len(runs) <= kills * Settings(data_dir="").async_concurrency
