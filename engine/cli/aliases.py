"""`cleave aliases`: names for versions, with a part of the invocations for another version where that is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, usage

if TYPE_CHECKING:
    from engine.v1 import aliases_pb2

NameArgument = Annotated[str, typer.Argument(help="The function: its name or ARN.")]
AliasArgument = Annotated[str, typer.Argument(help="The alias.")]
WeightOption = Annotated[
    list[str] | None,
    typer.Option(metavar="VERSION=SHARE", help="Another version, and its share of the invocations: 2=0.1."),
]
DescriptionOption = Annotated[str | None, typer.Option(help="What it is for.")]
EtagOption = Annotated[str, typer.Option(help="Only this state of the alias.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Name versions of a function, and share invocations between two.", no_args_is_help=True)
    for name, command in (("list", list_aliases), ("create", create), ("get", get), ("update", update)):
        group.command(name)(command)
    group.command("delete")(delete)
    app.add_typer(group, name="aliases")


def list_aliases(
    ctx: typer.Context,
    name: NameArgument,
    version: Annotated[str, typer.Option(help="Only those that may run this version.")] = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """List the aliases of a function by name."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import note, plain, print_json, print_table
    from engine.v1 import aliases_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    found: list[aliases_pb2.Alias] = []
    with asking(choices, f"cannot list the aliases of {ref.name}", ref.name) as engine:
        request = aliases_pb2.ListAliasesRequest(parent=f"functions/{ref.name}", page_size=1000, version=version)
        while True:
            page = engine.aliases.ListAliases(request, timeout=CONTROL_TIMEOUT_S)
            found += page.aliases
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    if choices.json:
        print_json({"aliases": [plain(alias) for alias in found]})
    elif not found:
        note(f"There is none. Make one with:\n\n  {choices.command('aliases', 'create', ref.name, 'live', '1')}")
    else:
        rows = [
            (
                alias.name.rpartition("/")[2],
                alias.version,
                ", ".join(f"{other}={share:g}" for other, share in alias.weights.items()),
                alias.update_time.ToDatetime().isoformat(" ", "seconds"),
                alias.description,
            )
            for alias in found
        ]
        print_table(("ALIAS", "VERSION", "SHARES", "CHANGED (UTC)", "DESCRIPTION"), rows)
    return ExitCode.OK


def create(
    ctx: typer.Context,
    name: NameArgument,
    alias: AliasArgument,
    version: Annotated[str, typer.Argument(help="The version: a number, or $LATEST.")],
    weight: WeightOption = None,
    description: DescriptionOption = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Name a version."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.v1 import aliases_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    resource = aliases_pb2.Alias(version=version, weights=_shares(weight), description=description or "")
    with asking(choices, f"cannot create {ref.name}:{alias}", ref.name) as engine:
        request = aliases_pb2.CreateAliasRequest(parent=f"functions/{ref.name}", alias_id=alias, alias=resource)
        made = engine.aliases.CreateAlias(request, timeout=CONTROL_TIMEOUT_S).alias
    _show(choices, made)
    return ExitCode.OK


def get(
    ctx: typer.Context,
    name: NameArgument,
    alias: AliasArgument,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Show one alias."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.v1 import aliases_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    with asking(choices, f"cannot show {ref.name}:{alias}", ref.name) as engine:
        request = aliases_pb2.GetAliasRequest(name=f"functions/{ref.name}/aliases/{alias}")
        found = engine.aliases.GetAlias(request, timeout=CONTROL_TIMEOUT_S).alias
    _show(choices, found)
    return ExitCode.OK


def update(
    ctx: typer.Context,
    name: NameArgument,
    alias: AliasArgument,
    version: Annotated[str | None, typer.Option(help="Point it at this version: a number, or $LATEST.")] = None,
    weight: WeightOption = None,
    no_weights: Annotated[bool, typer.Option("--no-weights", help="Share with no other version any more.")] = False,
    description: DescriptionOption = None,
    etag: EtagOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Change what is given of an alias."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.v1 import aliases_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    what = f"cannot change {ref.name}:{alias}"
    if weight and no_weights:
        raise usage(what, "--weight and --no-weights exclude each other", "give one of them")
    paths = [
        path
        for path, given in (
            ("version", version is not None),
            ("weights", weight or no_weights),
            ("description", description is not None),
        )
        if given
    ]
    if not paths:
        raise usage(what, "nothing is to be changed", "give --version, --weight, --no-weights or --description")
    resource = aliases_pb2.Alias(
        name=f"functions/{ref.name}/aliases/{alias}",
        etag=etag,
        version=version or "",
        weights=_shares(weight),
        description=description or "",
    )
    with asking(choices, what, ref.name) as engine:
        request = aliases_pb2.UpdateAliasRequest(alias=resource)
        request.update_mask.paths[:] = paths
        changed = engine.aliases.UpdateAlias(request, timeout=CONTROL_TIMEOUT_S).alias
    _show(choices, changed)
    return ExitCode.OK


def delete(
    ctx: typer.Context,
    name: NameArgument,
    alias: AliasArgument,
    etag: EtagOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Delete an alias; its versions stay."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import print_json
    from engine.v1 import aliases_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    resource_name = f"functions/{ref.name}/aliases/{alias}"
    with asking(choices, f"cannot delete {ref.name}:{alias}", ref.name) as engine:
        engine.aliases.DeleteAlias(
            aliases_pb2.DeleteAliasRequest(name=resource_name, etag=etag), timeout=CONTROL_TIMEOUT_S
        )
    if choices.json:
        print_json({"deleted": resource_name})
    else:
        typer.echo(f"Deleted alias {alias} of {ref.name}.")
    return ExitCode.OK


def _show(choices: Choices, alias: aliases_pb2.Alias) -> None:
    from engine.cli.render import plain, print_json, print_table

    document = plain(alias)
    if choices.json:
        print_json({"alias": document})
        return
    shares = document.pop("weights")
    rows = document | {f"weights.{version}": f"{share:g}" for version, share in shares.items()}
    print_table(("FIELD", "VALUE"), [(key, str(value)) for key, value in rows.items() if value not in ("", None)])


def _shares(weights: Sequence[str] | None) -> Mapping[str, float]:
    shares = {}
    for weight in weights or ():
        version, _, share = weight.partition("=")
        try:
            shares[version] = float(share)
        except ValueError:
            raise usage(f"--weight {weight!r} cannot be", "it is no VERSION=SHARE", "give one such as 2=0.1") from None
    return shares
