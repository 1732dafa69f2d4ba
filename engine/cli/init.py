"""`cleave init`: a first function to change. Writes one file and overwrites none."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.options import AddressOption, OutputOption, choose
from engine.cli.problems import Problem

APP = '''\
"""A function as AWS Lambda runs it.

    cleave deploy . --name hello
    cleave invoke hello -d '{"name": "world"}'
    cleave logs hello

What stands at module level is the init phase: it runs once a sandbox, before the first event. handler() runs once an
event. /tmp can be written to, the folder of this file cannot. There is no network unless the function is deployed with
--egress internet.
"""

import os

GREETING = os.environ.get("GREETING", "Hello")  # cleave deploy . --name hello --env GREETING=Ahoy


def handler(event, context):
    """Return something that JSON can hold; raise, and the caller gets AWS's error document."""
    name = event.get("name", "world")
    print(f"greeting {name}, {context.get_remaining_time_in_millis()} ms left")
    return {"message": f"{GREETING}, {name}!", "request_id": context.aws_request_id}
'''


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write it; made if missing.")] = Path(),
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Write a first function, app.py, to change and to deploy."""
    choices = choose(ctx, address, output)
    file = folder / "app.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(APP)
    except FileExistsError:
        raise Problem(
            f"cannot write {file}",
            "it exists and is not overwritten",
            f"cleave init {shlex.quote(str(folder / 'hello'))}",
        ) from None
    except OSError as error:
        raise Problem(
            f"cannot write {file}", error.strerror or str(error), "cleave init DIR in a folder you own"
        ) from None
    following = choices.command("deploy", str(folder))
    if choices.json:
        from engine.cli.render import print_json

        print_json({"created": [str(file)], "next": following})
    else:
        typer.echo(f"Wrote {file}. Deploy it with:\n\n  {following}")
    return 0
