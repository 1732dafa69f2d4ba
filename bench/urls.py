"""Requests a second through a function URL, beside workerd answering the same: `python -m bench.urls [--rounds N]`.

Theory of operation: a turn is one load on the engine and one on workerd, each by wrk: 32 connections of one thread for
SECONDS, whole answers read. Which goes first alternates; the other idles meanwhile. Each side answers "ok" from the
least that a handler can be: the engine from sandboxes of a Python function, workerd from a worker in its one process.
Before the first turn each has had a load that is not counted: as many sandboxes are warm then as there are connections.

Guarantees that a load with an answer other than 2xx, or with an error of a socket, ends the run. Where wrk or workerd
is missing, the row says what installs it, and its limit is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import select
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import web
from engine.cli.benching.bed import Bed, test_beds
from engine.cli.benching.comparison import times
from engine.cli.benching.show import ms
from engine.cli.problems import Problem
from engine.cli.render import print_table

NAME = "url-1769"
CONNECTIONS = 32
SECONDS = 2
UP_WITHIN_S = 10
INSTALL = "as root on Debian: .ci/prerequisites bench; elsewhere see bench/workerd/package.json and wrk's package"
HEAD = ("BY WRK, 32 CONNECTIONS", "TURNS", "REQUESTS/S", "P50", "P99", "URL IS FASTER, TIMES")

_FOLDER = Path(__file__).with_name("workerd")
_KINDS = {"x86_64": "64", "aarch64": "arm64"}
_LATENCY = re.compile(r"^ +(50|99)% +([0-9.]+)(us|ms|s)$", re.MULTILINE)
_US = {"us": 1, "ms": 1_000, "s": 1_000_000}


@dataclass(frozen=True)
class Load:
    """What wrk says of one load."""

    per_s: float
    p50_us: float
    p99_us: float


def measure(bed: Bed, rounds: int, seconds: int = SECONDS) -> dict[str, Any]:
    """The row of so many turns. Raises Problem where a side fails, or where what it takes is missing."""
    host = bed.url(bed.function(web.MEMORY_MB, "ok", web.CODE))
    loads: dict[str, list[Load]] = {"engine": [], "workerd": []}
    with workerd() as rival:
        sides = {"engine": (bed.http_address, host), "workerd": (rival, rival)}
        for turn in range(-1, rounds):
            for side in sorted(sides, reverse=bool(turn % 2)):
                load = loaded(*sides[side], seconds)
                if turn >= 0:  # the first is for starts
                    loads[side].append(load)
    return {
        "name": NAME,
        "memory_mb": web.MEMORY_MB,
        "connections": CONNECTIONS,
        "seconds": seconds,
        "turns": rounds,
        "by_wrk": {side: _summary(found) for side, found in loads.items()},
        "per_workerd": times(*([load.per_s for load in loads[side]] for side in ("engine", "workerd"))),
    }


def table(rows: Sequence[dict[str, Any]]) -> list[Sequence[str]]:
    """A line for each side, where it was measured."""
    lines: list[Sequence[str]] = []
    for row in (row for row in rows if "per_workerd" in row):
        by = row["per_workerd"]
        for side, words, ratio in (
            ("engine", "function URL", f"{by['times']:.2f} ±{by['resolution']:.2f}"),
            ("workerd", "workerd", ""),
        ):
            load = row["by_wrk"][side]
            lines.append(
                (words, str(row["turns"]), f"{load['per_s']:,.0f}", ms(load["p50_us"]), ms(load["p99_us"]), ratio)
            )
    return lines


def loaded(address: str, host: str, seconds: int) -> Load:
    """One load on `address`, with `host` as the name asked for. Raises Problem."""
    program = shutil.which("wrk")
    if program is None:
        raise Problem("cannot measure", "wrk is not installed", INSTALL)
    command = [program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-H", f"Host: {host}"]
    ran = subprocess.run([*command, f"http://{address}/"], capture_output=True, text=True)
    return read(ran.stdout if ran.returncode == 0 else f"wrk failed: {ran.stderr or ran.stdout}")


def read(said: str) -> Load:
    """What wrk printed. Raises Problem for answers that are none, and for what is no account of a load."""
    rate = re.search(r"^Requests/sec: +([0-9.]+)$", said, re.MULTILINE)
    latency = {percent: float(number) * _US[unit] for percent, number, unit in _LATENCY.findall(said)}
    if rate is None or latency.keys() != {"50", "99"} or "Non-2xx" in said or "Socket errors" in said:
        raise Problem("cannot measure", f"not every request was answered: {said.strip()[-500:]}", "cleave logs")
    return Load(float(rate[1]), latency["50"], latency["99"])


@contextlib.contextmanager
def workerd() -> Iterator[str]:
    """workerd with bench/workerd/worker.js; yields its address. Raises Problem."""
    kind = _KINDS.get(platform.machine(), platform.machine())
    program = _FOLDER / "node_modules" / "@cloudflare" / f"workerd-linux-{kind}" / "bin" / "workerd"
    if not program.exists():
        raise Problem("cannot measure", "workerd is not installed", INSTALL)
    read_fd, write_fd = os.pipe()
    with open(read_fd, "rb", 0) as control:
        command = [str(program), "serve", "config.capnp", f"--control-fd={write_fd}"]
        with subprocess.Popen(command, cwd=_FOLDER, stdin=subprocess.DEVNULL, pass_fds=[write_fd]) as process:
            os.close(write_fd)
            try:
                yield f"127.0.0.1:{_port(control.fileno())}"
            finally:
                process.terminate()


def _port(control: int) -> int:
    """Of the line that workerd writes when it listens."""
    said = b""
    while not said.endswith(b"\n"):
        came = select.select([control], [], [], UP_WITHIN_S)[0]
        piece = os.read(control, 4_096) if came else b""
        if not piece:
            raise Problem("cannot measure", "workerd does not start; its error is above", INSTALL)
        said += piece
    return int(json.loads(said.splitlines()[-1])["port"])


def _summary(loads: Sequence[Load]) -> dict[str, float]:
    return {
        name: round(statistics.median(getattr(load, name) for load in loads), 1)
        for name in ("per_s", "p50_us", "p99_us")
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.urls", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns (default: 5)")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"of each load (default: {SECONDS})")
    asked = parser.parse_args(arguments)
    try:
        with test_beds({web.CODE: web.code}) as beds:
            row = measure(beds.bed(), asked.rounds, asked.seconds)
    except Problem as problem:
        print(problem.text(), file=sys.stderr)
        return int(problem.exit_code)
    print_table(HEAD, table([row]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
