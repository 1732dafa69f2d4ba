"""`cleave runtimes`: which Pythons functions can run on, and how to point an engine to others.

What is added is written into the engine's data directory by whoever may write there, and not by a call: it names a
program that the engine runs. A running engine takes it within seconds; asking it makes it look at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.doctor import ask_engine, ask_or_probe
from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, Problem
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.config import Settings

DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="The engine's data directory. Default: what its settings say."),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The engine's file of settings.")]
PathArgument = Annotated[str, typer.Argument(metavar="PATH", help="A Python: its executable. It may be a venv's.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Show, add and remove the Pythons that functions run on.", no_args_is_help=True)
    group.command("list")(list_runtimes)
    group.command("add")(add)
    group.command("remove")(remove)
    app.add_typer(group, name="runtimes")


def list_runtimes(ctx: typer.Context, address: AddressOption = None, output: OutputOption = None) -> int:
    """List the Pythons of the engine; where none runs, those that one would find here."""
    from engine.cli.render import note, print_json, print_table

    choices = choose(ctx, address, output)
    report, running = ask_or_probe(choices)
    found = report["interpreters"]
    if choices.json:
        print_json({"engine_running": running, "interpreters": found})
    elif not found:
        note("There is no Python that the engine runs. Point it to one with:\n\n  cleave runtimes add PATH")
    else:
        print_table(("RUNTIME", "VERSION", "PATH"), [(one["runtime"], one["version"], one["path"]) for one in found])
    return ExitCode.OK


def add(
    ctx: typer.Context,
    path: PathArgument,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Point an engine to a Python, which it prefers to others of that version from then on.

    It is run first, to see what it is. Run this as the user that the engine runs as.
    """
    from engine.service import added_runtimes

    choices = choose(ctx, address, output)
    what = f"cannot add {path}"
    try:
        interpreter = added_runtimes(_settings(data_dir, config)).add(path)
    except EngineError as error:
        raise Problem(what, error.message, error.fix, reason=error.reason) from None
    served = _served(choices, interpreter.path)
    if choices.json:
        from engine.cli.render import print_json

        document = {"runtime": interpreter.runtime, "version": interpreter.version, "path": interpreter.path}
        print_json({"added": document, "served": served})
        return ExitCode.OK
    typer.echo(f"Added {interpreter.runtime}: {interpreter.version} at {interpreter.path}.", nl=False)
    typer.echo(" The engine has it." if served else " An engine with this data directory has it within seconds.")
    return ExitCode.OK


def remove(
    ctx: typer.Context,
    path: PathArgument,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Take back an added Python. Functions that run on it have none, unless there is another of the version."""
    from engine.service import added_runtimes

    choices = choose(ctx, address, output)
    try:
        added_runtimes(_settings(data_dir, config)).remove(path)
    except EngineError as error:
        raise Problem(f"cannot remove {path}", error.message, error.fix, reason=error.reason) from None
    _served(choices, path)
    if choices.json:
        from engine.cli.render import print_json

        print_json({"removed": path})
    else:
        typer.echo(f"Removed {path}.")
    return ExitCode.OK


def _settings(data_dir: Path | None, config: Path | None) -> Settings:
    from engine.config import load

    flags: dict[str, Any] = {} if data_dir is None else {"data_dir": str(data_dir)}
    return load(config, os.environ, flags)


def _served(choices: Choices, path: str) -> bool:
    """Have a running engine look, and whether it serves the interpreter. False where none answers."""
    try:
        return any(one["path"] == path for one in ask_engine(choices)["interpreters"])
    except Problem:
        return False
