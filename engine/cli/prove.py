"""`cleave doctor --prove`: which engine is asked, what it said of its host, and how the findings look.

The questions are engine.cli.prove_probes', asking them engine.cli.prove_run's.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer

from engine.cli.benching.processes import own_engine
from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
from engine.cli.options import Choices
from engine.cli.problems import ExitCode, Problem
from engine.cli.prove_calls import Calls, signals_noted
from engine.cli.prove_host import Host
from engine.cli.prove_run import Prover
from engine.cli.render import plain, print_table
from engine.config import load
from engine.v1 import host_pb2

WHAT = "cannot prove the limits"
WEAKER = "weaker form"
"""In the detail of a check whose weaker form the operator accepted."""


def prove(choices: Choices) -> tuple[dict[str, Any], bool]:
    """The engine's report on its host with "proof", a list of findings, in it; and whether the engine was running
    before. Where none is, one of the command's own is asked, with the operator's settings, in a folder that goes with
    it. Some 13 s. Raises Problem."""
    with signals_noted() as stopped, contextlib.ExitStack() as stack:
        report = _unless_unreachable(choices)
        running = report is not None
        if report is None:
            own = stack.enter_context(own_engine(what=WHAT, environment=dict(os.environ)))
            choices = Choices(address=own.grpc, output=choices.output)
            report = _ask(choices)
        weaker = _in_weaker_form(report["checks"])
        began = time.monotonic()
        engine = stack.enter_context(connected(choices))
        stack.enter_context(failures_of(WHAT, choices))
        calls, host = Calls(engine, stopped), Host()
        stack.callback(calls.clear)
        calls.clear_left()
        stack.enter_context(host.secret())
        begins = stack.enter_context(_progress())
        prover = Prover(calls, host, load(None, os.environ, {}).init_timeout_ms)
        report["proof"] = [finding.document(weaker) for finding in prover.findings(begins)]
        report["proof_s"] = round(time.monotonic() - began, 1)
        return report, running


def held(proof: Sequence[dict[str, Any]]) -> bool:
    """Whether every limit that was asked for holds, and one was."""
    asked = [finding["held"] for finding in proof if finding["held"] is not None]
    return bool(asked) and all(asked)


def print_proof(proof: Sequence[dict[str, Any]], took_s: float) -> None:
    """The table, and where a limit does not hold, why it was asked that way."""
    print_table(
        ("LIMIT", "ASKED", "FOUND", "VERDICT"),
        [(f["limit"], f["asked"], f["found"], f["verdict"]) for f in proof],
        styles=[{True: "", False: "bold red", None: "dim"}[finding["held"]] for finding in proof],
    )
    broken = [finding for finding in proof if finding["held"] is False]
    count = sum(finding["held"] is True for finding in proof)
    typer.echo(f"\n{count} of {count + len(broken)} limits held; {took_s:g} s")
    if broken:
        typer.echo("")
        print_table(("NOT HELD", "HOW IT WAS ASKED"), [(finding["limit"], finding["reason"]) for finding in broken])
        typer.echo("\nRun nobody's code here whom you do not trust. `cleave doctor` says what should hold it, and how.")


def _in_weaker_form(checks: Sequence[dict[str, Any]]) -> frozenset[str]:
    """The limits whose weaker form is in force, as the operator accepted it. Some engines name it in a field."""
    return frozenset(
        check["limit"] for check in checks if check["enforced"] and (check.get("weaker") or WEAKER in check["detail"])
    )


def _unless_unreachable(choices: Choices) -> dict[str, Any] | None:
    try:
        return _ask(choices)
    except Problem as problem:
        if problem.exit_code is not ExitCode.UNREACHABLE:
            raise
        return None


def _ask(choices: Choices) -> dict[str, Any]:
    with connected(choices) as engine, failures_of(WHAT, choices):
        return plain(engine.host.GetHost(host_pb2.GetHostRequest(), timeout=CONTROL_TIMEOUT_S))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is asked at the moment, on standard error where that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield lambda limit: None
        return
    with console.status("Proving") as status:
        yield lambda limit: status.update(f"Proving: {limit}")
