"""Writes to the logs of two functions until it is killed: the victim of test_logs_kill.

    python -m tests.faults.log_writer <folder> <first number>

Says on stdout, a line each, up to which number a reader has found all lines on the disk.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from itertools import count
from pathlib import Path

from engine.model.invocation import LogBatch
from engine.observe.function_logs import FunctionLogs
from engine.observe.log_query import LogQuery

KEEP_MB = 1


async def open_logs(folder: Path) -> FunctionLogs:
    """As writer and reader have them."""
    return await FunctionLogs.open(folder, {"f", "g"}, keep_days=1, keep_mb=KEEP_MB, total_mb=2, mb_per_s=1_000)


async def main(folder: Path, first: int) -> None:
    """Write for ever."""
    logs = await open_logs(folder)
    for number in count(first):
        noise = os.urandom(number % 499).hex().encode()
        for name in ("f", "g"):
            logs.append(name, LogBatch(time.time_ns() // 1000, "r", "s", [b"%d" % number, noise]))
        if number % 100 == 0:
            line, _ = [line async for some in logs.read("f", LogQuery(limit=2)) for line in some]
            print(line.text.decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
