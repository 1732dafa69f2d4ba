"""`cleave tags`: names and values that users give to functions, event source mappings, code signing configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, usage

NameArgument = Annotated[str, typer.Argument(help="A function, or eventSourceMappings/UUID, or codeSigningConfigs/ID.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Show, set and remove the tags of a resource.", no_args_is_help=True)
    group.command("list")(list_tags)
    group.command("add")(add)
    group.command("remove")(remove)
    app.add_typer(group, name="tags")


def list_tags(
    ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None
) -> int:
    """List the tags of a resource by name."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.v1 import tags_pb2

    choices = choose(ctx, address, output)
    shown, resource = _named(name)
    with asking(choices, f"cannot list the tags of {shown}", shown) as engine:
        request = tags_pb2.ListTagsRequest(name=resource)
        found = engine.tags.ListTags(request, timeout=CONTROL_TIMEOUT_S).tags
    return _show(choices, found)


def add(
    ctx: typer.Context,
    name: NameArgument,
    tags: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="The tags.")],
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Give a resource tags, in place of those with the same names."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.v1 import tags_pb2

    choices = choose(ctx, address, output)
    shown, resource = _named(name)
    given = dict(_pair(text) for text in tags)
    with asking(choices, f"cannot tag {shown}", shown) as engine:
        request = tags_pb2.AddTagsRequest(name=resource, tags=given)
        found = engine.tags.AddTags(request, timeout=CONTROL_TIMEOUT_S).tags
    return _show(choices, found)


def remove(
    ctx: typer.Context,
    name: NameArgument,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The names of the tags.")],
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Take tags from a resource."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.v1 import tags_pb2

    choices = choose(ctx, address, output)
    shown, resource = _named(name)
    with asking(choices, f"cannot remove tags of {shown}", shown) as engine:
        request = tags_pb2.RemoveTagsRequest(name=resource, tag_names=names)
        found = engine.tags.RemoveTags(request, timeout=CONTROL_TIMEOUT_S).tags
    return _show(choices, found)


def _named(name: str) -> tuple[str, str]:
    """What is shown of a resource, and its name in engine.v1."""
    from engine.cli.client import function_ref

    if name.startswith(("eventSourceMappings/", "codeSigningConfigs/")):
        return name, name
    function = function_ref(name).name
    return function, f"functions/{function}"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise usage(f"{text!r} is no tag", "it has no name and value", "write NAME=VALUE")
    return name, value


def _show(choices: Choices, tags: Mapping[str, str]) -> int:
    from engine.cli.render import note, print_json, print_table

    if choices.json:
        print_json({"tags": dict(sorted(tags.items()))})
    elif tags:
        print_table(("TAG", "VALUE"), sorted(tags.items()))
    else:
        note("It has none.")
    return ExitCode.OK
