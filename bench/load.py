"""A trace on real sandboxes: `python -m bench.load TRACE [--functions N] [--rate R] [--duration S] [--seed N]`.

As many functions as the trace has are deployed on an engine of its own, or with --address on one that runs; each call
sleeps for as long as the trace says, is sent when it is due and timed from then. Prints a row as `cleave bench NAME`
does, or the whole result with --json. What was deployed is deleted.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

from engine.cli.benching.bed import Bed, test_beds
from engine.cli.benching.facts import facts
from engine.cli.benching.load import Load, Tally, load_client
from engine.cli.benching.loads import HEAD, failures, row, table
from engine.cli.benching.run import document
from engine.cli.benching.show import lines
from engine.cli.benching.traces import TRACES, Trace, azure
from engine.cli.options import Choices
from engine.cli.render import print_json, print_table

CODE = "sleeps"
MOST_MB = 512
"""A tier costs nothing until it is used: these are for the CPU that comes with them, up to a share that fits."""
_HANDLER = "import time\n\n\ndef handler(event, context):\n    time.sleep(event / 1e9)\n    return event\n"


def code() -> bytes:
    """A function that sleeps for so many nanoseconds, zipped."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("app.py"), _HANDLER)
    return archive.getvalue()


async def replay(bed: Bed, trace: Trace) -> Tally:
    """Deploy what the trace calls, and call it."""
    names = [
        bed.function(min(memory_mb, MOST_MB), code=CODE, copy=number + 1)
        for number, memory_mb in enumerate(trace.memory_mb)
    ]
    async with load_client(bed.engine_address) as client:
        return await client.replay(trace, names, lambda duration_ns: b"%d" % duration_ns)


def measure(bed: Bed, trace: Trace, rate: float) -> dict[str, Any]:
    """The row of a trace."""
    tally = asyncio.run(replay(bed, trace))
    load = Load(trace.lasting_s, rate=rate, trace=trace.name)
    return {**row(f"trace-{trace.name}", 0, load, [tally]), "functions": trace.functions, "seed": trace.seed}


def main(argv: Sequence[str]) -> int:
    """Returns 1 if a call failed or was not sent."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Put a trace on an engine.")
    parser.add_argument("trace", choices=sorted(TRACES))
    parser.add_argument("--functions", type=int, default=20, metavar="N")
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second of all together; a day's at its peak")
    parser.add_argument("--duration", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--longest", type=float, default=1.0, metavar="SECONDS", help="of a call of azure")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--address", help="host:port of an engine that runs")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    make, more = TRACES[given.trace], {"functions": given.functions, "seed": given.seed}
    if make is azure:
        more["longest_s"] = given.longest
    trace = make(given.rate, given.duration, **more)
    began = facts()
    with test_beds({CODE: code}) as beds:
        bed = beds.bed("", Choices(address=given.address) if given.address else None)
        result = document([measure(bed, trace, given.rate)], began)
    if given.json:
        print_json(result)
    else:
        print("\n".join(lines(result)) + "\n")
        print_table(HEAD, table(result))
        for line in failures(result):
            print(line)
    return 1 if failures(result) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
