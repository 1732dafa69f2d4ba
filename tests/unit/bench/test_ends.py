"""The rows of bench/ends.py are of what they name, and the watcher tells when a process is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench import ends_watcher
from bench.ends import CLINGERS, Clinger, measure

WATCHER = Path(ends_watcher.__file__)


@pytest.mark.privileged
@pytest.mark.parametrize("clinger", [one for one in CLINGERS if one.children < 1_000], ids=lambda clinger: clinger.name)
async def test_each_row_is_of_trees_that_ended_after_their_deadline(clinger: Clinger) -> None:
    # Without the processes that keep the machine busy, and with time to grow on one that is.
    brief = replace(clinger, timeout_ms=clinger.timeout_ms * (5 if clinger.children else 1))
    rounds = 1 if clinger.children else 2
    row = await measure(brief, rounds, busy=False)
    assert (row["name"], row["ends"]) == (clinger.name, rounds)
    assert row["processes"] == clinger.children + 2
    assert len(row["samples_us"]["late"]) == rounds
    assert min(row["samples_us"]["late"]) > 0
    if clinger.notes:
        assert all(ran < late for ran, late in zip(row["samples_us"]["ran"], row["samples_us"]["late"], strict=True))
        assert max(row["samples_us"]["ran"]) > -1e6, "they had noted the time until shortly before"


@pytest.mark.privileged
async def test_one_that_ends_by_itself_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match="not at its deadline"):
        await measure(Clinger("quick", 256, 10_000, "time.sleep(1)"), 1)


def test_the_watcher_tells_when_the_last_is_gone_and_not_before(tmp_path: Path) -> None:
    members = tmp_path / "procs"
    sleepers = [subprocess.Popen(["/bin/sleep", "600"], stdin=subprocess.DEVNULL) for _ in range(3)]
    with subprocess.Popen(
        [sys.executable, str(WATCHER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        try:
            watcher.stdin.write(f"{members} 3 none\n")
            watcher.stdin.flush()
            members.write_text("".join(f"{sleeper.pid}\n" for sleeper in sleepers))
            assert watcher.stdout.readline() == "seen\n"
            for sleeper in sleepers:
                before = time.monotonic_ns()
                sleeper.kill()
                sleeper.wait()
            late = time.monotonic_ns()
            members.unlink()
            gone, ran = map(int, watcher.stdout.readline().split())
            assert before < late < gone, "it did not wait for the file"
            assert ran == 0
        finally:
            for sleeper in sleepers:
                sleeper.kill()
                sleeper.wait()
            watcher.stdin.close()
    assert watcher.returncode == 0
    assert not os.path.exists(f"/proc/{watcher.pid}")
