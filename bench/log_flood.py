"""What a flood of log lines from one sandbox costs a warm call of another function: blocks of calls in turns, without
the flood and beside it.

The flooder writes LINES_PER_S lines a second, in writes of a millisecond's worth, for as long as a block of calls
takes; how many it wrote is in the row, since a machine that cannot write them shows nothing.
"""

from __future__ import annotations

import io
import json
import statistics
import threading
import time
import zipfile
from collections.abc import Sequence
from typing import Any

from engine.cli.benching.bed import Bed
from engine.cli.benching.callers import SyncCaller
from engine.cli.benching.comparison import above, percentile, summary
from engine.cli.benching.scenarios import EVENT
from engine.cli.benching.show import ms
from engine.v1.invocations_pb2 import InvokeRequest

NAME = "log-flood-1769"
CODE = "log-flood"
LINES_PER_S = 100_000
FLOOD_S = 0.6
LEAD_S = 0.1  # until the flood is under way
CALLS = 100
MEMORY_MB = 1769
_HANDLER = '''import sys
import time


def flood(event, context):
    """Write that many lines a second for so many seconds; returns how many were written."""
    text = "".join("a line of a log, as long as many are: %06d\\n" % number for number in range(event["a_ms"]))
    begun = time.monotonic()
    written = 0
    while time.monotonic() < begun + event["seconds"]:
        sys.stdout.write(text)
        written += 1
        ahead = begun + written / 1_000 - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
    return written * event["a_ms"]
'''


def code() -> bytes:
    """The flooder, zipped."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("app.py"), _HANDLER)
    return archive.getvalue()


def measure(bed: Bed, rounds: int) -> dict[str, Any]:
    """The row."""
    call = InvokeRequest(name=bed.function(MEMORY_MB), payload=EVENT)
    flood = InvokeRequest(
        name=bed.function(MEMORY_MB, "flood", CODE),
        payload=json.dumps({"a_ms": LINES_PER_S // 1_000, "seconds": FLOOD_S}).encode(),
    )
    quiet: list[list[float]] = []
    flooded: list[list[float]] = []
    lines_per_s: list[float] = []
    with SyncCaller(bed.engine_address) as caller, SyncCaller(bed.engine_address) as flooder:

        def write() -> None:
            lines_per_s.append(json.loads(flooder.call(flood).payload) / FLOOD_S)

        write()
        _block(caller, call)
        lines_per_s.clear()
        for _ in range(rounds):
            quiet.append(_block(caller, call))
            beside = threading.Thread(target=write)
            beside.start()
            time.sleep(LEAD_S)
            flooded.append(_block(caller, call))
            beside.join()
    ratios = [
        statistics.median(with_) / statistics.median(without) for with_, without in zip(flooded, quiet, strict=True)
    ]
    return {
        "name": NAME,
        "memory_mb": MEMORY_MB,
        "rounds": rounds,
        "lines_per_s": round(statistics.median(lines_per_s)),
        "quiet_us": summary([took for block in quiet for took in block]),
        "flooded_us": summary([took for block in flooded for took in block]),
        "above_quiet_us": above(flooded, quiet),
        "flood_times": {"p50": round(percentile(ratios, 50), 3)},
    }


HEAD = ("WARM, BESIDE A FLOOD OF LOG LINES", "LINES/S", "WITHOUT, P50", "P99", "BESIDE IT, P50", "P99", "TIMES, P50")


def table(rows: Sequence[dict[str, Any]]) -> list[Sequence[str]]:
    """One line, where it was measured."""
    return [
        (
            f"{row['memory_mb']} MB",
            f"{row['lines_per_s']:,}",
            *(ms(row[kind][name]) for kind in ("quiet_us", "flooded_us") for name in ("p50", "p99")),
            f"{row['flood_times']['p50']:.2f}",
        )
        for row in rows
        if "flood_times" in row
    ]


def _block(caller: SyncCaller, request: InvokeRequest) -> list[float]:
    took = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        caller.call(request)
        took.append((time.perf_counter() - begun) * 1e6)
    return took
