"""boto3's `invoke` of a warm function, beside the same client on a bare ASGI server: `python -m bench.boto3_calls`.

Theory of operation: a turn is a block of calls of the function and a block of calls of the bare server
(bench/asgi_server.py), which answers a constant; which goes first alternates. Each side has a client of its own, which
calls back to back on one connection that stays open. Event, answer and headers are as long on both sides.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.asgi_server import asgi_server
from bench.web import MEMORY_MB, lambda_client
from engine.cli.benching.bed import Bed, test_beds
from engine.cli.benching.comparison import above, summary
from engine.cli.benching.scenarios import EVENT
from engine.cli.benching.show import ms
from engine.cli.problems import Problem
from engine.cli.render import print_table

NAME = "boto3-1769"
CALLS = 10
HEAD = ("BY BOTO3, WARM", "MB", "CALLS", "BARE ASGI, P50", "P50", "P99", "ABOVE BARE, P50")


def measure(bed: Bed, rounds: int) -> dict[str, Any]:
    """The row of so many turns."""
    function = bed.function(MEMORY_MB).removeprefix("functions/")
    blocks: dict[str, list[list[float]]] = {"engine": [], "bare": []}
    with asgi_server() as bare:
        clients = {"engine": lambda_client(bed.http_address), "bare": lambda_client(bare)}
        gc.disable()
        try:
            for turn in range(-2, rounds):
                for side in sorted(clients, reverse=bool(turn % 2)):
                    block = [_timed(clients[side], function) for _ in range(CALLS)]
                    if turn >= 0:  # the first two are of clients that set themselves up, and of a start
                        blocks[side].append(block)
        finally:
            gc.enable()
            for client in clients.values():
                client.close()
    engine_us, bare_us = ([took for block in blocks[side] for took in block] for side in ("engine", "bare"))
    return {
        "name": NAME,
        "memory_mb": MEMORY_MB,
        "calls": len(engine_us),
        "boto3_us": summary(engine_us),
        "bare_us": summary(bare_us),
        "above_asgi_us": above(blocks["engine"], blocks["bare"]),
    }


def table(rows: Sequence[dict[str, Any]]) -> list[Sequence[str]]:
    """One line, where it was measured."""
    return [
        (
            "Invoke",
            str(row["memory_mb"]),
            str(row["calls"]),
            ms(row["bare_us"]["p50"]),
            ms(row["boto3_us"]["p50"]),
            ms(row["boto3_us"]["p99"]),
            f"{ms(row['above_asgi_us']['p50'])} ±{ms(row['above_asgi_us']['resolution'])}",
        )
        for row in rows
        if "boto3_us" in row
    ]


def _timed(client: Any, function: str) -> float:
    """Microseconds. Raises Problem for an answer that is not the event."""
    begun = time.perf_counter()
    payload = client.invoke(FunctionName=function, Payload=EVENT)["Payload"].read()
    took = (time.perf_counter() - begun) * 1e6
    if payload != EVENT:
        raise Problem("cannot measure", f"a function answered {payload[:200]!r}", "cleave logs")
    return took


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.boto3_calls", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100, help="turns (default: 100)")
    asked = parser.parse_args(arguments)
    try:
        with test_beds() as beds:
            row = measure(beds.bed(), asked.rounds)
    except Problem as problem:
        print(problem.text(), file=sys.stderr)
        return int(problem.exit_code)
    print_table(HEAD, table([row]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
