"""`cleave settings`: recursion, runtime management and scaling of functions. Stored; nothing acts on them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, usage
from engine.model.function import LATEST

if TYPE_CHECKING:
    from engine.cli.client import Engine
    from engine.model.names import FunctionRef

NameArgument = Annotated[str, typer.Argument(help="The function, or with a colon a version of it: hello:1.")]


class Loop(enum.Enum):
    """What becomes of a function that leads to its own invocation."""

    TERMINATE = "terminate"
    ALLOW = "allow"


class Mode(enum.Enum):
    """When a runtime is renewed."""

    AUTO = "auto"
    FUNCTION_UPDATE = "function-update"
    MANUAL = "manual"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Small settings of functions: recursion, runtimes, scaling (stored, nothing acts on them).",
        no_args_is_help=True,
    )
    group.command("get")(get)
    group.command("set")(set_)
    app.add_typer(group, name="settings")


def get(ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Show the settings of a function, or those that a version has of its own."""
    from engine.cli.client import asking, function_ref

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    with asking(choices, f"cannot show the settings of {name}", ref.name) as engine:
        return _show(choices, engine, ref)


def set_(
    ctx: typer.Context,
    name: NameArgument,
    loop: Annotated[Loop | None, typer.Option("--recursive-loop", help="End loops, or let them go on.")] = None,
    mode: Annotated[Mode | None, typer.Option("--update-runtime", help="When its runtime is renewed.")] = None,
    runtime_arn: Annotated[str, typer.Option("--runtime-version-arn", help="For manual: which.")] = "",
    least: Annotated[int | None, typer.Option("--min-environments", help="Of a version: at least so many.")] = None,
    most: Annotated[int | None, typer.Option("--max-environments", help="Of a version: at most so many.")] = None,
    no_scaling: Annotated[bool, typer.Option("--no-scaling", help="Of a version: whatever there is.")] = False,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Change settings: only what is given."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.v1 import function_settings_pb2 as pb

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    what = f"cannot change the settings of {name}"
    scales = no_scaling or least is not None or most is not None
    if loop is None and mode is None and not scales:
        raise usage(what, "nothing is to be changed", "give --recursive-loop, --update-runtime or --min-environments")
    with asking(choices, what, ref.name) as engine:
        if loop is not None:
            request = pb.PutFunctionRecursionConfigRequest(
                name=f"functions/{ref.name}", recursive_loop=pb.RecursiveLoop.Value(f"RECURSIVE_LOOP_{loop.name}")
            )
            engine.function_settings.PutFunctionRecursionConfig(request, timeout=CONTROL_TIMEOUT_S)
        if mode is not None:
            config = pb.RuntimeManagementConfig(
                update_runtime_on=pb.UpdateRuntimeOn.Value(f"UPDATE_RUNTIME_ON_{mode.name}"),
                runtime_version_arn=runtime_arn,
            )
            manage = pb.PutRuntimeManagementConfigRequest(name=ref.resource_name(), config=config)
            engine.function_settings.PutRuntimeManagementConfig(manage, timeout=CONTROL_TIMEOUT_S)
        if scales:
            wanted = pb.FunctionScalingConfig(min_execution_environments=least, max_execution_environments=most)
            scale = pb.PutFunctionScalingConfigRequest(name=_version(ref), requested=None if no_scaling else wanted)
            engine.function_settings.PutFunctionScalingConfig(scale, timeout=CONTROL_TIMEOUT_S)
        return _show(choices, engine, ref)


def _version(ref: FunctionRef) -> str:
    return f"functions/{ref.name}/versions/{ref.qualifier}" if ref.qualifier == LATEST else ref.resource_name()


def _show(choices: Choices, engine: Engine, ref: FunctionRef) -> int:
    from engine.cli.client import CONTROL_TIMEOUT_S
    from engine.cli.render import plain, print_json, print_table
    from engine.v1 import function_settings_pb2 as pb

    ask = engine.function_settings
    recursion = pb.GetFunctionRecursionConfigRequest(name=f"functions/{ref.name}")
    runtime = pb.GetRuntimeManagementConfigRequest(name=ref.resource_name())
    found = {
        **plain(ask.GetFunctionRecursionConfig(recursion, timeout=CONTROL_TIMEOUT_S)),
        **plain(ask.GetRuntimeManagementConfig(runtime, timeout=CONTROL_TIMEOUT_S).config),
    }
    if ref.qualifier.isdigit():
        scaling = pb.GetFunctionScalingConfigRequest(name=ref.resource_name())
        found |= plain(ask.GetFunctionScalingConfig(scaling, timeout=CONTROL_TIMEOUT_S).requested)
    if choices.json:
        print_json({"settings": found})
    else:
        print_table(("WHAT", "VALUE"), [(name, str(value)) for name, value in found.items() if value not in (None, "")])
    return ExitCode.OK
