"""`cleave deploy`: packs, uploads, and creates or updates. Changes of an existing function only what was given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.options import AddressOption, OutputOption, choose
from engine.cli.problems import usage

if TYPE_CHECKING:
    from engine.cli.upload import Stored
    from engine.v1 import resources_pb2

_DEFAULT_HANDLER = "app.handler"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("deploy")(deploy)


def deploy(
    ctx: typer.Context,
    path: Annotated[
        str,
        typer.Argument(help="The function's folder, a zip of it, or s3://BUCKET/KEY of one for the engine to fetch."),
    ] = ".",
    name: Annotated[str | None, typer.Option(help="The function's name. Default: the folder's.")] = None,
    handler: Annotated[str | None, typer.Option(help=f"module.function. Default: {_DEFAULT_HANDLER}.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Such as python3.11. Default: the engine's own Python.")] = None,
    memory: Annotated[int | None, typer.Option(metavar="MB", help="128 to 10240; 1769 is one vCPU.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="For one invocation, 1 to 900.")] = None,
    tmp: Annotated[int | None, typer.Option(metavar="MB", help="The size of /tmp, 512 to 10240.")] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="A variable; repeat it. Replaces those there are.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    role: Annotated[str | None, typer.Option(metavar="ARN", help="The role that it acts as.")] = None,
    egress: Annotated[str | None, typer.Option(metavar="none|internet", help="Where it may connect to.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="text|json", help="How its log looks.")] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="Of a log in JSON: trace, debug, info, warn, error or fatal.")
    ] = None,
    system_log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="Of the engine's lines in it: debug, info or warn.")
    ] = None,
    log_group: Annotated[str | None, typer.Option(metavar="NAME", help="The log group that it is told of.")] = None,
    dead_letters: Annotated[
        str | None, typer.Option(metavar="ARN", help="A queue or a topic for failed events. Kept, as the next three.")
    ] = None,
    kms_key: Annotated[str | None, typer.Option(metavar="ARN", help="The key of its environment.")] = None,
    tracing: Annotated[bool | None, typer.Option("--tracing/--no-tracing", help="Trace every call.")] = None,
    snap_start: Annotated[
        bool | None, typer.Option("--snap-start/--no-snap-start", help="Start versions from a snapshot.")
    ] = None,
    preload: Annotated[
        str | None,
        typer.Option(metavar="MODULES", help="Import ahead, with commas between: of the interpreter, not of the code."),
    ] = None,
    own_layout: Annotated[
        bool | None,
        typer.Option("--own-layout/--no-own-layout", help="An address-space layout of its own for each sandbox."),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VERSION", help="A layer, merged at /opt; repeat it. Replaces those there are."),
    ] = None,
    no_layers: Annotated[bool, typer.Option("--no-layers", help="Take away the layers there are.")] = False,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Create a function from a folder, a zip or an object in S3, or update it.

    An update changes the code and what is given; the rest stays as it is.

    Folders are packed without .git, __pycache__, .venv, node_modules and what a .cleaveignore in them lists.
    """
    from engine.cli.buckets import source_of
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of, function_ref
    from engine.cli.render import note, plain, print_json
    from engine.cli.upload import existing_function, opened
    from engine.v1 import functions_pb2, resources_pb2

    choices = choose(ctx, address, output)
    source = source_of(path)
    ref = function_ref(name if name is not None else _default_name(path, source.stem if source else None))
    logging = (log_format, log_level, system_log_level, log_group)
    config, paths = _config(
        handler, runtime, memory, timeout, tmp, env, description, role, egress, logging, preload, own_layout
    )
    kept = {"dead_letter_arn": dead_letters, "kms_key_arn": kms_key, "tracing": tracing, "snap_start": snap_start}
    for field, value in kept.items():
        if value is not None:
            setattr(config, field, value)
            paths.append(f"config.{field}")
    if layer or no_layers:
        config.layers[:] = [_layer(name) for name in layer or ()]
        paths.append("config.layers")
    what = f"cannot deploy {ref.name}"
    with opened(source or Path(path)) as code, connected(choices) as engine, failures_of(what, choices):
        existing = existing_function(engine, ref.resource_name())
        warnings = _warnings(code.names, config.handler or (existing.config.handler if existing else _DEFAULT_HANDLER))
        for warning in [] if choices.json else warnings:
            note(f"Warning: {warning}")
        blob = code.store(engine, quiet=choices.json)
        function = resources_pb2.Function(config=config, code_blob=blob.code_blob)
        if existing is None:
            create = functions_pb2.CreateFunctionRequest(function_id=ref.name, function=function)
            function = engine.functions.CreateFunction(create, timeout=CONTROL_TIMEOUT_S).function
        else:
            function.name, function.etag = existing.name, existing.etag
            update = functions_pb2.UpdateFunctionRequest(function=function)
            update.update_mask.paths[:] = ["code_blob", *paths]
            function = engine.functions.UpdateFunction(update, timeout=CONTROL_TIMEOUT_S).function

    invoke = choices.command("invoke", ref.name, "-d", "{}")
    action = "created" if existing is None else "updated"
    if choices.json:
        print_json({"action": action, "function": plain(function), "warnings": warnings, "invoke": invoke})
    else:
        _tell(action, function, blob, invoke)
    return 0


def _tell(action: str, function: resources_pb2.Function, blob: Stored, invoke: str) -> None:
    from engine.cli.render import size

    config = function.config
    typer.echo(
        f"{action.capitalize()} {function.name}: {config.runtime}, {config.handler}, {config.memory_mb} MB,", nl=False
    )
    typer.echo(f" {config.timeout_ms / 1000:g} s, {size(blob.size_bytes)} of code. Invoke it with:\n\n  {invoke}")
    if config.preload:
        taken = size(function.preload_memory_bytes)
        typer.echo(f"\nImported ahead: {', '.join(config.preload)}, {taken} once for all functions with the same.")


def _default_name(path: str, stem: str | None) -> str:
    """`stem` is of the object, where the path names one."""
    from engine.model.names import FUNCTION_NAME

    resolved = Path(path).resolve()
    name = stem or (resolved.stem if resolved.is_file() else resolved.name)
    if not FUNCTION_NAME.fullmatch(name):
        suggestion = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64] or "hello"
        why = f"{name!r} cannot be a function's name: letters, digits, - and _, at most 64"
        raise usage(f"cannot deploy {path}", why, f"cleave deploy {path} --name {suggestion}")
    return name


def _config(
    handler: str | None,
    runtime: str | None,
    memory: int | None,
    timeout: float | None,
    tmp: int | None,
    env: Sequence[str] | None,
    description: str | None,
    role: str | None,
    egress: str | None,
    logging: tuple[str | None, str | None, str | None, str | None],
    preload: str | None,
    own_layout: bool | None,
) -> tuple[resources_pb2.FunctionConfig, list[str]]:
    """What was given, and the paths of an update mask that name it."""
    from engine.v1 import resources_pb2

    given: dict[str, Any] = {
        "handler": handler,
        "runtime": runtime,
        "memory_mb": memory,
        "timeout_ms": None if timeout is None else round(timeout * 1000),
        "tmp_mb": tmp,
        "environment": _environment(env) if env else None,
        "description": description,
        "role": role,
        "egress": None if egress is None else _named("--egress", egress, "Egress"),
        "log_format": None if logging[0] is None else _named("--log-format", logging[0], "LogFormat"),
        "log_level": None if logging[1] is None else _named("--log-level", logging[1], "LogLevel"),
        "system_log_level": None if logging[2] is None else _named("--system-log-level", logging[2], "LogLevel"),
        "log_group": logging[3],
        "own_layout": own_layout,
        "preload": None if preload is None else [name.strip() for name in preload.split(",") if name.strip()],
    }
    given = {field: value for field, value in given.items() if value is not None}
    try:
        return resources_pb2.FunctionConfig(**given), [f"config.{field}" for field in given]
    except ValueError as error:  # an integer that does not fit its field
        raise usage("the settings cannot be used", str(error), "cleave deploy --help") from None


def _layer(name: str) -> str:
    """The resource name of a layer version. Raises Problem."""
    from engine.errors import InvalidArgument
    from engine.model.layer import parse_layer

    try:
        return parse_layer(name).resource_name()
    except InvalidArgument:
        why = "it is no version of a layer"
        raise usage(
            f"--layer {name} cannot be used", why, "write --layer NAME:VERSION, as of: cleave layers list"
        ) from None


def _environment(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            # The value may be a secret that lost its name: it is not repeated here.
            raise usage("--env cannot be used", "one of them is not NAME=value", "write --env NAME=value")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _named(flag: str, text: str, kind: str) -> int:
    """The value of an enum of engine.v1 by its name without the prefix."""
    from engine.cli.render import enum_name
    from engine.v1 import resources_pb2

    values = resources_pb2.DESCRIPTOR.enum_types_by_name[kind].values
    known = {enum_name(kind, value.name): value.number for value in values if value.number}
    if text.lower() not in known:
        why = f"it is {' or '.join(known)}"
        raise usage(f"{flag} {text} cannot be used", why, f"write {flag} {next(iter(known))}")
    return known[text.lower()]


def _warnings(names: Sequence[str] | None, handler: str) -> list[str]:
    module = handler.rpartition(".")[0]
    if (
        names is None
        or not module
        or any(name.startswith((f"{module}.", f"{module}/", module.replace(".", "/"))) for name in names)
    ):
        return []
    return [f"the handler {handler} names the module {module}, which is not in what is deployed; see --handler"]
