"""`cleave concurrency`: what a function has for itself, and which environments are ready ahead of its invocations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import AddressOption, OutputOption, choose
from engine.cli.problems import ExitCode, usage
from engine.model.function import LATEST

if TYPE_CHECKING:
    from engine.model.names import FunctionRef
    from engine.v1 import concurrency_pb2

NameArgument = Annotated[str, typer.Argument(help="The function: its name or ARN.")]
PartArgument = Annotated[str, typer.Argument(help="A version or an alias: the function's name, a colon, and it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Reserve concurrency for a function, and have environments ready.", no_args_is_help=True)
    group.command("get")(get)
    group.command("reserve")(reserve)
    group.command("unreserve")(unreserve)
    group.command("provision")(provision)
    group.command("unprovision")(unprovision)
    group.command("account")(account)
    app.add_typer(group, name="concurrency")


def get(ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Show what a function has for itself, and what is provisioned of it."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import enum_name, plain, print_json, print_table
    from engine.v1 import concurrency_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    configs: list[concurrency_pb2.ProvisionedConcurrencyConfig] = []
    with asking(choices, f"cannot show the concurrency of {ref.name}", ref.name) as engine:
        asked = concurrency_pb2.GetFunctionConcurrencyRequest(name=f"functions/{ref.name}")
        reserved = engine.concurrency.GetFunctionConcurrency(asked, timeout=CONTROL_TIMEOUT_S)
        request = concurrency_pb2.ListProvisionedConcurrencyConfigsRequest(
            parent=f"functions/{ref.name}", page_size=1000
        )
        while True:
            page = engine.concurrency.ListProvisionedConcurrencyConfigs(request, timeout=CONTROL_TIMEOUT_S)
            configs += page.configs
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    document = plain(reserved)
    if choices.json:
        print_json(document | {"provisioned": [plain(config) for config in configs]})
        return ExitCode.OK
    own = document["reserved_concurrent_executions"]
    typer.echo(f"Reserved: {'nothing of its own' if own is None else own}")
    if configs:
        rows = [
            (
                config.name.rpartition("/")[2],
                str(config.requested),
                str(config.allocated),
                str(config.available),
                enum_name("ProvisionedStatus", concurrency_pb2.ProvisionedStatus.Name(config.status)),
                config.status_reason,
            )
            for config in configs
        ]
        print_table(("PROVISIONED", "REQUESTED", "ALLOCATED", "AVAILABLE", "STATUS", "WHY"), rows)
    return ExitCode.OK


def reserve(
    ctx: typer.Context,
    name: NameArgument,
    executions: Annotated[int, typer.Argument(min=0, help="Invocations at once. 0 stops the function.")],
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Give a function concurrency of its own, which is also its limit."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import plain, print_json
    from engine.v1 import concurrency_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    with asking(choices, f"cannot reserve concurrency for {ref.name}", ref.name) as engine:
        request = concurrency_pb2.PutFunctionConcurrencyRequest(
            name=f"functions/{ref.name}", reserved_concurrent_executions=executions
        )
        answer = engine.concurrency.PutFunctionConcurrency(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json(plain(answer))
    else:
        typer.echo(f"Reserved {answer.reserved_concurrent_executions} for {ref.name}.")
    return ExitCode.OK


def unreserve(
    ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None
) -> int:
    """Take back what a function has of its own."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import print_json
    from engine.v1 import concurrency_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    with asking(choices, f"cannot take back the concurrency of {ref.name}", ref.name) as engine:
        request = concurrency_pb2.DeleteFunctionConcurrencyRequest(name=f"functions/{ref.name}")
        engine.concurrency.DeleteFunctionConcurrency(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"reserved_concurrent_executions": None})
    else:
        typer.echo(f"{ref.name} has nothing of its own.")
    return ExitCode.OK


def provision(
    ctx: typer.Context,
    name: PartArgument,
    environments: Annotated[int, typer.Argument(min=1, help="How many.")],
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Ask for environments of a version or an alias that are ready before they are invoked."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.cli.render import enum_name, plain, print_json
    from engine.v1 import concurrency_pb2

    choices = choose(ctx, address, output)
    ref = _part(name, "provision")
    with asking(choices, f"cannot provision {ref.name}:{ref.qualifier}", ref.name) as engine:
        request = concurrency_pb2.PutProvisionedConcurrencyConfigRequest(
            name=ref.resource_name(), requested=environments
        )
        config = engine.concurrency.PutProvisionedConcurrencyConfig(request, timeout=CONTROL_TIMEOUT_S).config
    if choices.json:
        print_json({"config": plain(config)})
    else:
        status = enum_name("ProvisionedStatus", concurrency_pb2.ProvisionedStatus.Name(config.status))
        why = f": {config.status_reason}" if config.status_reason else ""
        typer.echo(f"Asked for {config.requested} of {ref.name}:{ref.qualifier}; {status}{why}.")
    return ExitCode.OK


def unprovision(
    ctx: typer.Context, name: PartArgument, address: AddressOption = None, output: OutputOption = None
) -> int:
    """Ask for no environments any more."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.cli.render import print_json
    from engine.v1 import concurrency_pb2

    choices = choose(ctx, address, output)
    ref = _part(name, "unprovision")
    with asking(choices, f"cannot unprovision {ref.name}:{ref.qualifier}", ref.name) as engine:
        request = concurrency_pb2.DeleteProvisionedConcurrencyConfigRequest(name=ref.resource_name())
        engine.concurrency.DeleteProvisionedConcurrencyConfig(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"deleted": ref.resource_name()})
    else:
        typer.echo(f"Nothing is provisioned of {ref.name}:{ref.qualifier}.")
    return ExitCode.OK


def account(ctx: typer.Context, address: AddressOption = None, output: OutputOption = None) -> int:
    """Show the limits of the account, and what of them is used."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.render import plain, print_json, print_table
    from engine.v1 import concurrency_pb2

    choices = choose(ctx, address, output)
    with connected(choices) as engine, failures_of("cannot show the account", choices):
        request = concurrency_pb2.GetAccountSettingsRequest()
        document = plain(engine.concurrency.GetAccountSettings(request, timeout=CONTROL_TIMEOUT_S))
    if choices.json:
        print_json(document)
    else:
        print_table(("FIELD", "VALUE"), [(key, str(value)) for key, value in document.items()])
    return ExitCode.OK


def _part(name: str, verb: str) -> FunctionRef:
    from engine.cli.client import function_ref

    ref = function_ref(name)
    if ref.qualifier == LATEST:
        why = "what is not published cannot be provisioned"
        raise usage(f"cannot {verb} {name}", why, f"name a version or an alias, such as {ref.name}:1")
    return ref
