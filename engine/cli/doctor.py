"""`cleave doctor`: what this machine is, and limit by limit whether and how the engine enforces it here.

Asks the running engine, which knows what it does; where none runs, runs its probe in this process and says so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, Problem
from engine.errors import EngineError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    ctx: typer.Context,
    prove: Annotated[
        bool, typer.Option("--prove", help="Run a function against each limit, and show what held. Takes some 15 s.")
    ] = False,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Show what enforces each limit on this machine.

    And what to do where nothing does. Asks the engine; where none runs, probes the machine itself. Exit code 1 if any
    limit is not enforced.

    With --prove, functions of its own try to get past each limit, and are removed afterwards; where no engine runs, in
    one that is started for it. Exit code 1 if any limit does not hold.
    """
    choices = choose(ctx, address, output)
    if prove:
        return _prove(choices)
    report, running = ask_or_probe(choices)
    enforced = all(check["enforced"] for check in report["checks"])
    document = {"ok": enforced, "engine_running": running, "address": choices.address, "host": _facts(), **report}
    if choices.json:
        from engine.cli.render import print_json

        print_json(document)
    else:
        _print_text(document)
    return ExitCode.OK if enforced else ExitCode.FAILED


def _prove(choices: Choices) -> int:
    from engine.cli.prove import held, print_proof, prove

    report, running = prove(choices)
    ok = held(report["proof"]) and all(check["enforced"] for check in report["checks"])
    document = {"ok": ok, "engine_running": running, "address": choices.address, "host": _facts(), **report}
    if choices.json:
        from engine.cli.render import print_json

        print_json(document)
    else:
        _print_text(document)
        typer.echo("")
        print_proof(report["proof"], report["proof_s"])
    return ExitCode.OK if ok else ExitCode.FAILED


def ask_or_probe(choices: Choices) -> tuple[dict[str, Any], bool]:
    """What GetHost says, or where no engine runs what it would; and whether one does. Raises Problem."""
    try:
        return ask_engine(choices), True
    except Problem as problem:
        if problem.exit_code is not ExitCode.UNREACHABLE:
            raise
        return probe_here(problem), False


def ask_engine(choices: Choices) -> dict[str, Any]:
    """What GetHost says. Raises Problem, with ExitCode.UNREACHABLE where no engine answers."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.render import plain
    from engine.v1 import host_pb2

    with connected(choices) as engine, failures_of("cannot ask the engine", choices):
        return plain(engine.host.GetHost(host_pb2.GetHostRequest(), timeout=CONTROL_TIMEOUT_S))


def probe_here(unreachable: Problem) -> dict[str, Any]:
    """The same document from the probe, run here. Raises Problem."""
    import asyncio
    from dataclasses import asdict

    from engine.config import load

    try:
        from engine.service import probe_host

        return asdict(asyncio.run(probe_host(load(None, os.environ, {}))))
    except ImportError as error:
        fix = "pip install --force-reinstall cleave"
        raise Problem("cannot probe this host", f"{unreachable.why}, and {error}", fix) from error
    except EngineError as error:
        raise Problem("cannot probe this host", error.message, error.fix or "cleave serve") from error


def _facts() -> dict[str, Any]:
    """This machine, as psutil sees it. Sizes in bytes."""
    import platform

    import psutil

    from engine.config import load

    try:
        folder = Path(load(None, os.environ, {}).data_dir)
    except EngineError:  # wrong settings: `serve` says what is wrong with them
        folder = Path("/")
    while not folder.exists():
        folder = folder.parent
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(folder))
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": psutil.cpu_count() or 0,
        "cpus_usable": len(os.sched_getaffinity(0)),
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "swap_bytes": psutil.swap_memory().total,
        "disk_path": str(folder),
        "disk_bytes": disk.total,
        "disk_free_bytes": disk.free,
        "uid": os.geteuid(),
    }


def _print_text(document: dict[str, Any]) -> None:
    from engine.cli.render import print_table, size

    host = document["host"]
    typer.echo(f"Machine  Linux {host['kernel']} {host['architecture']}, {host['cpus_usable']} of {host['cpus']} CPUs")
    typer.echo(f"Memory   {size(host['memory_available_bytes'])} free of {size(host['memory_bytes'])},", nl=False)
    typer.echo(f" swap {size(host['swap_bytes'])}")
    typer.echo(f"Disk     {size(host['disk_free_bytes'])} free of {size(host['disk_bytes'])} at {host['disk_path']}")
    if document["engine_running"]:
        counts = f"{document['sandboxes']} sandboxes ({document['idle_sandboxes']} idle)"
        typer.echo(f"Engine   {document['engine_version']} at {document['address']}, {counts},", nl=False)
        typer.echo(f" {document['concurrency']} invocations under way")
    else:
        typer.echo(f"Engine   none answers at {document['address']}; start one with: cleave serve")
    versions = {one["runtime"]: one["version"] for one in document.get("interpreters", ())}
    names = ", ".join(versions.get(name, name) for name in document["runtimes"])
    typer.echo(f"Pythons  {names or 'none'}; where they are: cleave runtimes list\n")
    checks = document["checks"]
    print_table(
        ("LIMIT", "ENFORCED", "MECHANISM", "DETAIL"),
        [(c["limit"], _enforced(c), c["mechanism"] or "-", c["detail"]) for c in checks],
        styles=[_STYLES[_enforced(check)] for check in checks],
    )
    if document["engine_running"]:
        _print_counts(document)
    missing = [check for check in checks if not check["enforced"]]
    if missing:
        typer.echo("")
        print_table(("LIMIT", "FIX"), [(check["limit"], check["fix"]) for check in missing])
        if all(check.get("weaker") for check in missing):
            named = dict.fromkeys(check["weaker"] for check in checks if check.get("weaker"))
            line = "accept_weaker = [" + ", ".join(f'"{name}"' for name in named) + "]"
            typer.echo(f"\nThe settings that would accept all of it in its weaker form:  {line}")


_STYLES = {"yes": "", "weaker": "yellow", "NO": "bold red"}


def _enforced(check: dict[str, Any]) -> str:
    """In full, in the weaker form that the settings accept, or not at all."""
    if not check["enforced"]:
        return "NO"
    return "weaker" if check.get("weaker") else "yes"


def _print_counts(document: dict[str, Any]) -> None:
    """What the running engine made and removed; nothing where none runs."""
    from engine.cli.render import print_table, size

    zygotes = document.get("zygotes", ())
    if zygotes:
        typer.echo("")
        shown = [
            (
                one["runtime"],
                ", ".join(one["preload"]) or "-",
                size(int(one["preload_memory_bytes"])) if one["preload"] and not one["trouble"] else "-",
                str(one["forks"]),
                one["trouble"] or f"{int(one['age_ms']) / 1000:.0f} s old",
            )
            for one in zygotes
        ]
        styles = ["bold red" if one["trouble"] else "" for one in zygotes]
        print_table(("FORKED FROM", "IMPORTED AHEAD", "MEMORY", "FORKS", "STATE"), shown, styles=styles)

    made = [count for count in document.get("resources", ()) if int(count["made"])]
    if made:
        typer.echo("")
        rows = [(c["kind"], c["made"], c["removed"], int(c["made"]) - int(c["removed"])) for c in made]
        print_table(("MADE", "SO FAR", "REMOVED", "THERE NOW"), [tuple(str(cell) for cell in row) for row in rows])
    if starts := document.get("starts"):
        typer.echo("")
        _print_starts(starts)
    befell = [count for count in document.get("events", ()) if int(count["count"])]
    if befell:
        typer.echo("Since the engine started: " + ", ".join(f"{c['count']} {c['kind']}" for c in befell))


def _print_starts(starts: list[dict[str, Any]]) -> None:
    """Its invocations by kind of start: how many, how many were well, and what their parts took."""
    from engine.cli.render import print_table

    parts = ("start", "init", "handler", "total")
    rows = []
    for stats in starts:
        well = sum(int(one["count"]) for one in stats["outcomes"] if one["outcome"] == "ok")
        times = [_times(stats[part]) for part in parts]
        rows.append((stats["kind"], str(stats["total"]["count"]), str(well), *times))
    print_table(("START", "COUNT", "OK", *(f"{part.upper()}, MS: P50 / P99" for part in parts)), rows)


def _times(times: dict[str, Any] | None) -> str:
    if not times or not times["count"]:
        return "-"
    return f"{times['p50_us'] / 1000:.2f} / {times['p99_us'] / 1000:.2f}"
