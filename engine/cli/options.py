"""The choices that every command takes, before or after its name: where the engine is and how answers look."""

from __future__ import annotations

import enum
import shlex
from dataclasses import dataclass
from typing import Annotated

import typer

ADDRESS_VARIABLE = "CLEAVE_GRPC_ADDRESS"
DEFAULT_ADDRESS = "127.0.0.1:50051"


class Output(enum.Enum):
    """How answers look."""

    TEXT = "text"
    JSON = "json"


AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help=f"Where the engine's gRPC listens: {DEFAULT_ADDRESS}, or {ADDRESS_VARIABLE}.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Output | None,
    typer.Option(
        "--output",
        "-o",
        help="json: one JSON document on standard output, errors too.",
        show_default=False,
    ),
]


@dataclass
class Choices:
    """What was chosen so far; typer carries it from the command's group to the command."""

    address: str = DEFAULT_ADDRESS
    address_flag: str | None = None
    output: Output = Output.TEXT

    @property
    def json(self) -> bool:
        """Answers are JSON."""
        return self.output is Output.JSON

    def command(self, *words: str) -> str:
        """A command line that reaches the same engine, ready to be pasted into a shell."""
        where = ["--address", self.address_flag] if self.address_flag else []
        return shlex.join(["cleave", words[0], *where, *words[1:]])


def choose(ctx: typer.Context, address: str | None, output: Output | None) -> Choices:
    """Take in what was given at this level."""
    choices: Choices = ctx.obj
    if address is not None:
        choices.address = choices.address_flag = address
    if output is not None:
        choices.output = output
    return choices
