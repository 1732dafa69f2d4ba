"""`cleave version`."""

from __future__ import annotations

import typer

from engine import __version__
from engine.cli.options import AddressOption, OutputOption, choose


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("version")(version)


def version(ctx: typer.Context, address: AddressOption = None, output: OutputOption = None) -> int:
    """Print this command's version."""
    import platform

    choices = choose(ctx, address, output)
    facts = {"version": __version__, "python": platform.python_version(), "platform": platform.platform()}
    if choices.json:
        from engine.cli.render import print_json

        print_json(facts)
    else:
        typer.echo(f"cleave {__version__} (Python {facts['python']}, {facts['platform']})")
    return 0
