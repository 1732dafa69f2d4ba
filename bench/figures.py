"""The table of the README, from a result: `python -m bench.figures [RESULT]` prints it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LATEST = Path(__file__).with_name("results") / "latest.json"
_WORDS = {
    "warm-1769": "warm invocation",
    "parked-1769": "cold start, from a parked sandbox",
    "fork-1769": "cold start by fork, none being parked",
    "exec-1769": "cold start of an interpreter of its own",
}


def markdown(result: dict[str, Any]) -> str:
    """Echo, warm and cold starts by p50 and p99 in milliseconds, rows over HTTP, and where they were measured."""
    rows = {row["name"]: row for row in result["rows"]}
    cells = ["| one client, back to back, 1,769 MB | p50 | p99 | above the echo, p50 |", "|---|---|---|---|"]
    if "warm-1769" in rows:
        cells.append(_cells("bare grpc.aio echo", rows["warm-1769"]["echo_us"]))
    cells += [
        _cells(words, rows[name]["call_us"], rows[name]["above_echo_us"])
        for name, words in _WORDS.items()
        if name in rows
    ]
    over_http = _over_http(rows)
    if over_http:
        cells += ["", "| over HTTP | measured | beside it |", "|---|---|---|", *over_http]
    where = f"{result['cpu']}, {result['cpus_usable']} vCPUs, Linux {result['kernel']}, Python {result['python']}"
    return "\n".join([*cells, "", f"{where}, {result['date'][:10]}.", ""])


def _over_http(rows: dict[str, Any]) -> list[str]:
    cells = []
    if row := rows.get("boto3-1769"):
        beside = f"{_ms(row['bare_us']['p50'])} of a bare ASGI server"
        cells.append(f"| boto3's `invoke`, warm, p50 | {_ms(row['boto3_us']['p50'])} | {beside} |")
    if row := rows.get("url-1769"):
        engine, workerd = (f"{row['by_wrk'][side]['per_s']:,.0f}" for side in ("engine", "workerd"))
        cells.append(f"| function URL, 32 connections | {engine} requests/s | {workerd} of workerd |")
    if row := rows.get("url-stream-1769"):
        engine, bare = (f"{row['http_mb_per_s'][side]:,.0f}" for side in ("engine", "bare"))
        cells.append(f"| function URL, streaming | {engine} MB/s | {bare} of a bare uvicorn |")
    return cells


def _cells(what: str, us: dict[str, float], above: dict[str, float] | None = None) -> str:
    last = "" if above is None else f"{_ms(above['p50'])} "
    return f"| {what} | {_ms(us['p50'])} | {_ms(us['p99'])} | {last}|"


def _ms(us: float) -> str:
    return f"{us / 1000:.2f} ms"


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else LATEST).read_text())), end="")
