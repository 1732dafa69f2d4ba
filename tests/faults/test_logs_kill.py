"""kill -9 of what writes logs, at any instant: what was on the disk stays, whole, in order and within its bounds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.log_writer import KEEP_MB, open_logs

ROOT = Path(__file__).resolve().parents[2]


async def numbers(folder: Path, name: str) -> list[int]:
    """Of the lines of a log; each is followed by one as long as its number says."""
    logs = await open_logs(folder)
    lines = [line.text async for some in logs.read(name) for line in some]
    await logs.close()
    if lines and not lines[0].isdigit():  # the other half of a pair went with the oldest segment
        del lines[0]
    found = [int(line) for line in lines[::2]]
    assert [len(line) for line in lines[1::2]] == [number % 499 * 2 for number in found]
    return found


@pytest.mark.time_limit(600)
async def test_what_was_on_the_disk_is_there_after_a_kill_and_nothing_else(
    tmp_path: Path, counts: Mapping[str, int]
) -> None:
    folder, chance = tmp_path / "logs", random.Random(5)
    first, lives = 1, {1}
    for _ in range(counts["kills"]):
        command = [sys.executable, "-m", "tests.faults.log_writer", str(folder), str(first)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline(), "it found its first lines"
            time.sleep(chance.random() * 0.3)
            writer.send_signal(signal.SIGKILL)
            said = writer.stdout.read()
        sure = max([first, *map(int, said.split())])
        for name in ("f", "g"):
            found = await numbers(folder, name)
            assert found == sorted(set(found)), "in order, none twice"
            assert found[-1] >= sure, "what a reader had found is there"
            assert all(after == before + 1 or after in lives for before, after in pairwise(found)), "no gap in a life"
            size = sum(os.path.getsize(file) for file in (folder / name).iterdir())
            assert size <= KEEP_MB << 20
        first = found[-1] + 1_000
        lives.add(first)
