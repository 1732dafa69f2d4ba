"""`cleave serve`: reads the settings and runs an engine. Its flags are made from the settings' own description."""

from __future__ import annotations

import gc
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine import __version__
from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, Problem, usage
from engine.config import FIELDS, Settings, load
from engine.config_docs import toml
from engine.config_fields import Field
from engine.errors import EngineError, field_violations

if TYPE_CHECKING:
    from engine.cli.serving import Serviceable


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(_with_flags(serve))


def serve(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The TOML file of settings. CLEAVE_CONFIG names it too.")
    ] = None,
    address: AddressOption = None,
    output: OutputOption = None,
    **flags: object,
) -> int:
    """Run an engine until SIGTERM or Ctrl-C.

    Either drains it; a second one ends it at once. SIGHUP reads the settings again and takes what can change.

    Settings come from one TOML file, CLEAVE_… variables and these flags, each overriding the one before.
    """
    choices = choose(ctx, address, output)
    return run(
        choices, config, {name: value for name, value in flags.items() if value not in (None, [], ())}, make_service
    )


def run(
    choices: Choices,
    config: Path | None,
    flags: dict[str, object],
    service: Callable[[Settings], Serviceable],
) -> int:
    """Serve with what `service` makes. Raises Problem."""
    from engine.cli import serving

    def read_settings() -> Settings:
        return load(config, os.environ, flags)

    if choices.address_flag:
        raise usage("cannot serve", "--address is where a client connects", "cleave serve --grpc-address HOST:PORT")
    try:
        settings = read_settings()
    except EngineError as error:
        fields = dict(field_violations(error))
        raise Problem(
            "cannot read the settings",
            error.message,
            error.fix,
            exit_code=ExitCode.USAGE,
            reason=error.reason,
            fields=fields,
        ) from None

    def announce(grpc_address: str, http_address: str) -> None:
        if choices.json:
            from engine.cli.render import print_json

            print_json({"serving": {"grpc_address": grpc_address, "http_address": http_address, "pid": os.getpid()}})
        elif sys.stdout.isatty():
            typer.echo(
                f"Cleave {__version__} serves gRPC at {grpc_address} and the AWS Lambda API at http://{http_address}"
            )
            typer.echo("A first function:  cleave init hello && cleave deploy hello        Ctrl-C stops")

    try:
        return serving.run(settings, read_settings, service, announce)
    except EngineError as error:
        raise Problem("cannot serve", error.message, error.fix or "cleave doctor", reason=error.reason) from error
    except OSError as error:
        raise Problem("cannot serve", str(error), "cleave doctor") from error


def make_service(settings: Settings) -> Serviceable:
    """The engine itself. The one place of the command that imports it."""
    # What is imported and made stays; to walk it again and again while it grows takes the collector a quarter of the
    # whole start. The service has it work again once it serves.
    gc.disable()
    from engine.service import Service

    return Service(settings, own_process=True)


def _with_flags(command: Callable[..., int]) -> Callable[..., int]:
    """`command` with one flag for each setting in place of its **flags."""

    def with_flags(*args: Any, **kwargs: Any) -> int:
        return command(*args, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    fixed = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    flags = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_flag(field))
        for field in FIELDS.values()
    ]
    with_flags.__doc__ = command.__doc__
    with_flags.__signature__ = signature.replace(parameters=[*fixed, *flags])  # type: ignore[attr-defined]
    with_flags.__annotations__ = {parameter.name: parameter.annotation for parameter in [*fixed, *flags]}
    return with_flags


def _flag(field: Field) -> Any:
    default = "" if field.default is None else f" Default: {toml(field.default)}."
    text = f"{field.doc}{default}"
    if field.is_bool:
        return Annotated[
            bool | None, typer.Option(f"{field.flag}/--no-{field.flag[2:]}", help=text, show_default=False)
        ]
    kind = list[str] | None if field.is_list else str | None
    return Annotated[kind, typer.Option(field.flag, help=text, metavar=_metavar(field), show_default=False)]


def _metavar(field: Field) -> str:
    suffixes = {"_s": "SECONDS", "_ms": "MILLISECONDS", "_dir": "DIR", "_address": "HOST:PORT"}
    return next((unit for suffix, unit in suffixes.items() if field.name.endswith(suffix)), "VALUE")
