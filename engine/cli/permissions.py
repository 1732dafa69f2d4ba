"""`cleave permissions`: who may invoke a function, a version or an alias. Stored; nothing decides by it yet."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from engine.cli.options import AddressOption, OutputOption, choose
from engine.cli.problems import ExitCode
from engine.model.function import LATEST

NameArgument = Annotated[str, typer.Argument(help="The function, or with a colon a version or an alias: hello:live.")]
StatementArgument = Annotated[str, typer.Argument(help="What the statement is called.")]
EtagOption = Annotated[str, typer.Option(help="Only this state of the policy.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Say who may invoke a function (stored, not enforced yet).", no_args_is_help=True)
    for name, command in (("get", get), ("add", add), ("remove", remove), ("put", put), ("delete", delete)):
        group.command(name)(command)
    app.add_typer(group, name="permissions")


def get(ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Show a policy."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.cli.render import print_json
    from engine.v1 import policies_pb2

    choices = choose(ctx, address, output)
    function, resource = _named(name)
    with asking(choices, f"cannot show the policy of {name}", function) as engine:
        request = policies_pb2.GetPolicyRequest(name=resource)
        answer = engine.policies.GetPolicy(request, timeout=CONTROL_TIMEOUT_S)
    policy = json.loads(answer.policy)
    if choices.json:
        print_json({"policy": policy, "etag": answer.etag})
    else:
        typer.echo(json.dumps(policy, indent=2))
    return ExitCode.OK


def add(
    ctx: typer.Context,
    name: NameArgument,
    statement: StatementArgument,
    principal: Annotated[str, typer.Option(help="*, an account, an ARN of IAM, or a service: s3.amazonaws.com.")],
    action: Annotated[str, typer.Option(help="What it allows.")] = "lambda:InvokeFunction",
    source_arn: Annotated[str, typer.Option(help="Only on behalf of this resource.")] = "",
    source_account: Annotated[str, typer.Option(help="Only on behalf of this account.")] = "",
    etag: EtagOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Add a statement to a policy."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.cli.render import print_json
    from engine.v1 import policies_pb2

    choices = choose(ctx, address, output)
    function, resource = _named(name)
    with asking(choices, f"cannot add to the policy of {name}", function) as engine:
        request = policies_pb2.AddPermissionRequest(
            name=resource,
            statement_id=statement,
            action=action,
            principal=principal,
            source_arn=source_arn,
            source_account=source_account,
            etag=etag,
        )
        answer = engine.policies.AddPermission(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"statement": json.loads(answer.statement), "etag": answer.etag})
    else:
        typer.echo(f"Added {statement} to the policy of {name}.")
    return ExitCode.OK


def remove(
    ctx: typer.Context,
    name: NameArgument,
    statement: StatementArgument,
    etag: EtagOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Remove a statement from a policy."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.cli.render import print_json
    from engine.v1 import policies_pb2

    choices = choose(ctx, address, output)
    function, resource = _named(name)
    with asking(choices, f"cannot remove from the policy of {name}", function) as engine:
        request = policies_pb2.RemovePermissionRequest(name=resource, statement_id=statement, etag=etag)
        engine.policies.RemovePermission(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"statement_id": statement})
    else:
        typer.echo(f"Removed {statement} from the policy of {name}.")
    return ExitCode.OK


def put(
    ctx: typer.Context,
    name: NameArgument,
    policy: Annotated[typer.FileText, typer.Argument(metavar="FILE", help="The policy, as JSON; - reads it here.")],
    etag: EtagOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Put a whole policy in place of what there is."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.cli.render import print_json
    from engine.v1 import policies_pb2

    choices = choose(ctx, address, output)
    function, resource = _named(name)
    with asking(choices, f"cannot put a policy for {name}", function) as engine:
        request = policies_pb2.PutPolicyRequest(name=resource, policy=policy.read(), etag=etag)
        answer = engine.policies.PutPolicy(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"policy": json.loads(answer.policy), "etag": answer.etag})
    else:
        typer.echo(f"{name} has that policy.")
    return ExitCode.OK


def delete(
    ctx: typer.Context,
    name: NameArgument,
    etag: EtagOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Remove a policy with all of its statements."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.cli.render import print_json
    from engine.v1 import policies_pb2

    choices = choose(ctx, address, output)
    function, resource = _named(name)
    with asking(choices, f"cannot remove the policy of {name}", function) as engine:
        request = policies_pb2.DeletePolicyRequest(name=resource, etag=etag)
        engine.policies.DeletePolicy(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"name": resource})
    else:
        typer.echo(f"{name} has no policy any more.")
    return ExitCode.OK


def _named(name: str) -> tuple[str, str]:
    """The function's name, and the resource name of what is meant."""
    from engine.cli.client import function_ref

    ref = function_ref(name)
    return ref.name, ref.resource_name() if ref.qualifier != LATEST else f"functions/{ref.name}"
