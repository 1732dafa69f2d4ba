"""`cleave signing`: code signing configurations, and which function has which. Stored; no signature is checked yet."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, usage

if TYPE_CHECKING:
    from engine.v1 import code_signing_pb2

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The configuration: csc-….")]
NameArgument = Annotated[str, typer.Argument(help="The function: its name or ARN.")]
DescriptionOption = Annotated[str | None, typer.Option(help="What it is for.")]


class Untrusted(enum.Enum):
    """What becomes of code that nobody signed who may."""

    WARN = "warn"
    ENFORCE = "enforce"


UntrustedOption = Annotated[Untrusted | None, typer.Option(help="Take other code, or refuse it (not served yet).")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Say who may sign code (stored, no signature is checked yet).", no_args_is_help=True)
    for name, command in (("list", list_configs), ("create", create), ("get", get), ("update", update)):
        group.command(name)(command)
    group.command("delete")(delete)
    group.command("functions")(functions)
    group.command("set")(set_of_function)
    group.command("show")(show_of_function)
    group.command("unset")(unset_of_function)
    app.add_typer(group, name="signing")


def list_configs(ctx: typer.Context, address: AddressOption = None, output: OutputOption = None) -> int:
    """List code signing configurations by id."""
    from engine.cli.render import note, plain, print_json, print_table
    from engine.v1 import code_signing_pb2 as pb

    choices = choose(ctx, address, output)
    request = pb.ListCodeSigningConfigsRequest(page_size=1000)
    found: list[pb.CodeSigningConfig] = []
    for page in _pages(choices, "cannot list code signing configurations", "ListCodeSigningConfigs", request):
        found += page.code_signing_configs
    if choices.json:
        print_json({"code_signing_configs": [plain(one) for one in found]})
    elif not found:
        note(f"There is none. Make one with:\n\n  {choices.command('signing', 'create', 'PROFILE_ARN')}")
    else:
        rows = [(_id(one.name), _policy(one), one.last_modified, one.description) for one in found]
        print_table(("ID", "OTHER CODE", "CHANGED", "DESCRIPTION"), rows)
    return ExitCode.OK


def create(
    ctx: typer.Context,
    profiles: Annotated[list[str], typer.Argument(metavar="ARN...", help="Versions of signing profiles that may.")],
    untrusted: UntrustedOption = None,
    description: DescriptionOption = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Make a code signing configuration."""
    from engine.v1 import code_signing_pb2 as pb

    choices = choose(ctx, address, output)
    request = pb.CreateCodeSigningConfigRequest(code_signing_config=_config("", profiles, untrusted, description))
    made = _ask(choices, "cannot make a code signing configuration", "CreateCodeSigningConfig", request)
    return _show(choices, made.code_signing_config)


def get(ctx: typer.Context, config: IdArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Show a code signing configuration."""
    from engine.v1 import code_signing_pb2 as pb

    choices = choose(ctx, address, output)
    request = pb.GetCodeSigningConfigRequest(name=_name(config))
    found = _ask(choices, f"cannot show {config}", "GetCodeSigningConfig", request)
    return _show(choices, found.code_signing_config)


def update(
    ctx: typer.Context,
    config: IdArgument,
    profiles: Annotated[
        list[str] | None, typer.Option("--profile", metavar="ARN", help="Who may instead; again for more.")
    ] = None,
    untrusted: UntrustedOption = None,
    description: DescriptionOption = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Change a code signing configuration: only what is given."""
    from google.protobuf.field_mask_pb2 import FieldMask

    from engine.v1 import code_signing_pb2 as pb

    choices = choose(ctx, address, output)
    given = {"signing_profile_version_arns": profiles, "untrusted_artifact": untrusted, "description": description}
    paths = [name for name, value in given.items() if value is not None]
    if not paths:
        raise usage(
            f"cannot change {config}", "nothing is to be changed", "give --profile, --untrusted or --description"
        )
    request = pb.UpdateCodeSigningConfigRequest(
        code_signing_config=_config(_name(config), profiles, untrusted, description), update_mask=FieldMask(paths=paths)
    )
    after = _ask(choices, f"cannot change {config}", "UpdateCodeSigningConfig", request)
    return _show(choices, after.code_signing_config)


def delete(ctx: typer.Context, config: IdArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Remove a code signing configuration that no function has."""
    from engine.v1 import code_signing_pb2 as pb

    choices = choose(ctx, address, output)
    _ask(
        choices,
        f"cannot remove {config}",
        "DeleteCodeSigningConfig",
        pb.DeleteCodeSigningConfigRequest(name=_name(config)),
    )
    return _done(choices, {"name": _name(config)}, f"{_id(config)} is gone.")


def functions(
    ctx: typer.Context, config: IdArgument, address: AddressOption = None, output: OutputOption = None
) -> int:
    """List the functions that have a code signing configuration."""
    from engine.cli.render import note
    from engine.v1 import code_signing_pb2 as pb

    choices = choose(ctx, address, output)
    request = pb.ListFunctionsByCodeSigningConfigRequest(name=_name(config), page_size=1000)
    found: list[str] = []
    what = f"cannot list the functions of {config}"
    for page in _pages(choices, what, "ListFunctionsByCodeSigningConfig", request):
        found += [name.removeprefix("functions/") for name in page.functions]
    if not found and not choices.json:
        note("No function has it.")
        return ExitCode.OK
    return _done(choices, {"functions": found}, "\n".join(found))


def set_of_function(
    ctx: typer.Context,
    name: NameArgument,
    config: IdArgument,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Give a function a code signing configuration."""
    from engine.v1 import code_signing_pb2 as pb

    choices = choose(ctx, address, output)
    function = _function(name)
    request = pb.PutFunctionCodeSigningConfigRequest(name=function, code_signing_config=_name(config))
    _ask(choices, f"cannot give {name} {config}", "PutFunctionCodeSigningConfig", request)
    return _done(choices, {"name": function, "code_signing_config": _name(config)}, f"{name} has {_id(config)}.")


def show_of_function(
    ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None
) -> int:
    """Show which code signing configuration a function has."""
    from engine.v1 import code_signing_pb2 as pb

    choices = choose(ctx, address, output)
    function = _function(name)
    request = pb.GetFunctionCodeSigningConfigRequest(name=function)
    config = _ask(choices, f"cannot show that of {name}", "GetFunctionCodeSigningConfig", request).code_signing_config
    return _done(choices, {"name": function, "code_signing_config": config}, f"{name} has {_id(config) or 'none'}.")


def unset_of_function(
    ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None
) -> int:
    """Take its code signing configuration from a function."""
    from engine.v1 import code_signing_pb2 as pb

    choices = choose(ctx, address, output)
    function = _function(name)
    request = pb.DeleteFunctionCodeSigningConfigRequest(name=function)
    _ask(choices, f"cannot take that of {name}", "DeleteFunctionCodeSigningConfig", request)
    return _done(choices, {"name": function}, f"{name} has none.")


def _ask(choices: Choices, what: str, method: str, request: Any) -> Any:
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of

    with connected(choices) as engine, failures_of(what, choices):
        ask: Callable[..., Any] = getattr(engine.code_signing, method)
        return ask(request, timeout=CONTROL_TIMEOUT_S)


def _pages(choices: Choices, what: str, method: str, request: Any) -> list[Any]:
    pages = [_ask(choices, what, method, request)]
    while pages[-1].next_page_token:
        request.page_token = pages[-1].next_page_token
        pages.append(_ask(choices, what, method, request))
    return pages


def _function(name: str) -> str:
    from engine.cli.client import function_ref

    return f"functions/{function_ref(name).name}"


def _name(config: str) -> str:
    return f"codeSigningConfigs/{_id(config)}"


def _id(config: str) -> str:
    """Of a resource name, an ARN or an id."""
    return config.rpartition("/")[2].rpartition(":")[2]


def _policy(config: code_signing_pb2.CodeSigningConfig) -> str:
    from engine.cli.render import enum_name
    from engine.v1 import code_signing_pb2 as pb

    return enum_name("UntrustedArtifact", pb.UntrustedArtifact.Name(config.untrusted_artifact))


def _config(
    name: str, profiles: list[str] | None, untrusted: Untrusted | None, description: str | None
) -> code_signing_pb2.CodeSigningConfig:
    from engine.v1 import code_signing_pb2 as pb

    policies = {
        None: pb.UNTRUSTED_ARTIFACT_UNSPECIFIED,
        Untrusted.WARN: pb.UNTRUSTED_ARTIFACT_WARN,
        Untrusted.ENFORCE: pb.UNTRUSTED_ARTIFACT_ENFORCE,
    }
    return pb.CodeSigningConfig(
        name=name,
        signing_profile_version_arns=profiles,
        untrusted_artifact=policies[untrusted],
        description=description or "",
    )


def _show(choices: Choices, config: code_signing_pb2.CodeSigningConfig) -> int:
    from engine.cli.render import plain, print_json, print_table

    if choices.json:
        print_json({"code_signing_config": plain(config)})
        return ExitCode.OK
    rows = [
        ("id", _id(config.name)),
        *(("profile", arn) for arn in config.signing_profile_version_arns),
        ("other code", _policy(config)),
        ("description", config.description),
    ]
    print_table(("WHAT", "VALUE"), [row for row in rows if row[1]])
    return ExitCode.OK


def _done(choices: Choices, document: dict[str, Any], text: str) -> int:
    from engine.cli.render import print_json

    if choices.json:
        print_json(document)
    else:
        typer.echo(text)
    return ExitCode.OK
