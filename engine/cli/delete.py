"""`cleave delete`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from engine.cli.options import AddressOption, OutputOption, choose
from engine.cli.problems import Problem, usage
from engine.model.function import LATEST


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("delete")(delete)


def delete(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The function: its name or ARN.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Only a terminal is asked.")] = False,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Delete a function with everything that belongs to it."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of, function_ref, not_found
    from engine.v1 import functions_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    if ref.qualifier != LATEST:
        what, why = f"cannot delete {name}", "this deletes functions as a whole, and it names a part of one"
        kind, rest = ("versions", [f"{ref.name}:{ref.qualifier}"])
        if not ref.qualifier.isdigit():
            kind, rest = "aliases", [ref.name, ref.qualifier]
        raise usage(what, why, choices.command(kind, "delete", *rest))
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Delete {ref.name} with its code and settings?", abort=True, err=True)
    what = f"cannot delete {ref.name}"
    with connected(choices) as engine:
        try:
            with failures_of(what, choices):
                request = functions_pb2.DeleteFunctionRequest(name=ref.resource_name())
                engine.functions.DeleteFunction(request, timeout=CONTROL_TIMEOUT_S)
        except Problem as problem:
            raise not_found(engine, what, ref.name, choices, problem) from None
    if choices.json:
        from engine.cli.render import print_json

        print_json({"deleted": ref.resource_name()})
    else:
        typer.echo(f"Deleted {ref.name}.")
    return 0
