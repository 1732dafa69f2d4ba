"""`cleave layers permissions`: who may use a layer version. Stored; nothing decides by it yet."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from engine.cli.options import AddressOption, OutputOption, choose
from engine.cli.problems import ExitCode

LayerArgument = Annotated[str, typer.Argument(metavar="NAME:VERSION", help="The layer version, or its ARN.")]
StatementArgument = Annotated[str, typer.Argument(help="What the statement is called.")]
EtagOption = Annotated[str, typer.Option(help="Only this state of the policy.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Say who may use a layer version (stored, not enforced yet).", no_args_is_help=True)
    for name, command in (("get", get), ("add", add), ("remove", remove)):
        group.command(name)(command)
    app.add_typer(group, name="permissions")


def get(ctx: typer.Context, layer: LayerArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Show the policy of a layer version."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.layers import layer_ref
    from engine.cli.render import print_json
    from engine.v1 import layers_pb2

    choices = choose(ctx, address, output)
    name = layer_ref(layer).resource_name()
    with connected(choices) as engine, failures_of(f"cannot show the policy of {layer}", choices):
        request = layers_pb2.GetLayerVersionPolicyRequest(name=name)
        answer = engine.layers.GetLayerVersionPolicy(request, timeout=CONTROL_TIMEOUT_S)
    policy = json.loads(answer.policy)
    if choices.json:
        print_json({"policy": policy, "etag": answer.etag})
    else:
        typer.echo(json.dumps(policy, indent=2))
    return ExitCode.OK


def add(
    ctx: typer.Context,
    layer: LayerArgument,
    statement: StatementArgument,
    principal: Annotated[str, typer.Option(help="*, an account, or an ARN of IAM.")],
    organization: Annotated[str, typer.Option(help="Only for this organization.")] = "",
    etag: EtagOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Add a statement to the policy of a layer version."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.layers import layer_ref
    from engine.cli.render import print_json
    from engine.v1 import layers_pb2

    choices = choose(ctx, address, output)
    request = layers_pb2.AddLayerVersionPermissionRequest(
        name=layer_ref(layer).resource_name(),
        statement_id=statement,
        principal=principal,
        organization_id=organization,
        etag=etag,
    )
    with connected(choices) as engine, failures_of(f"cannot add to the policy of {layer}", choices):
        answer = engine.layers.AddLayerVersionPermission(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"statement": json.loads(answer.statement), "etag": answer.etag})
    else:
        typer.echo(f"Added {statement} to the policy of {layer}.")
    return ExitCode.OK


def remove(
    ctx: typer.Context,
    layer: LayerArgument,
    statement: StatementArgument,
    etag: EtagOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Remove a statement from the policy of a layer version."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.layers import layer_ref
    from engine.cli.render import print_json
    from engine.v1 import layers_pb2

    choices = choose(ctx, address, output)
    name = layer_ref(layer).resource_name()
    with connected(choices) as engine, failures_of(f"cannot remove from the policy of {layer}", choices):
        request = layers_pb2.RemoveLayerVersionPermissionRequest(name=name, statement_id=statement, etag=etag)
        engine.layers.RemoveLayerVersionPermission(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"statement_id": statement})
    else:
        typer.echo(f"Removed {statement} from the policy of {layer}.")
    return ExitCode.OK
