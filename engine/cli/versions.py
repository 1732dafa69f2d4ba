"""`cleave versions`: publish what a function is, list what was published, delete one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import AddressOption, OutputOption, choose
from engine.cli.problems import ExitCode, usage
from engine.model.function import LATEST

if TYPE_CHECKING:
    from engine.v1 import resources_pb2

NameArgument = Annotated[str, typer.Argument(help="The function: its name or ARN.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Publish, list and delete versions of a function.", no_args_is_help=True)
    group.command("publish")(publish)
    group.command("list")(list_versions)
    group.command("delete")(delete)
    app.add_typer(group, name="versions")


def publish(
    ctx: typer.Context,
    name: NameArgument,
    description: Annotated[str, typer.Option(help="What the version is for. Default: the function's own.")] = "",
    code_sha256: Annotated[str, typer.Option(metavar="HEX", help="Publish only this code.")] = "",
    etag: Annotated[str, typer.Option(help="Publish only this state of the function.")] = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Make a version of what the function is. Where nothing has changed since the last one, it stays the last one."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import plain, print_json
    from engine.v1 import versions_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    with asking(choices, f"cannot publish {ref.name}", ref.name) as engine:
        request = versions_pb2.PublishVersionRequest(
            parent=f"functions/{ref.name}",
            description=description,
            code_blob=f"blobs/{code_sha256}" if code_sha256 else "",
            etag=etag,
        )
        version = engine.versions.PublishVersion(request, timeout=CONTROL_TIMEOUT_S).version
    if choices.json:
        print_json({"version": plain(version)})
    else:
        typer.echo(f"Version {version.version} of {ref.name}. Run it with:")
        typer.echo(f"\n  {choices.command('invoke', f'{ref.name}:{version.version}')}")
    return ExitCode.OK


def list_versions(
    ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None
) -> int:
    """List the versions of a function by number."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import note, plain, print_json, print_table, size
    from engine.v1 import versions_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    versions: list[resources_pb2.Function] = []
    with asking(choices, f"cannot list the versions of {ref.name}", ref.name) as engine:
        request = versions_pb2.ListVersionsRequest(parent=f"functions/{ref.name}", page_size=1000)
        while True:
            page = engine.versions.ListVersions(request, timeout=CONTROL_TIMEOUT_S)
            versions += page.versions
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    if choices.json:
        print_json({"versions": [plain(version) for version in versions]})
    elif not versions:
        note(f"{ref.name} has no version. Make one with:\n\n  {choices.command('versions', 'publish', ref.name)}")
    else:
        rows = [
            (
                version.version,
                f"{version.config.memory_mb} MB",
                size(version.code_size_bytes),
                version.code_blob.removeprefix("blobs/")[:12],
                version.create_time.ToDatetime().isoformat(" ", "seconds"),
                version.config.description,
            )
            for version in versions
        ]
        print_table(("VERSION", "MEMORY", "CODE", "SHA-256", "PUBLISHED (UTC)", "DESCRIPTION"), rows)
    return ExitCode.OK


def delete(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The version: the function's name, a colon, and the number.")],
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Delete a version. One that an alias points at is refused."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import print_json
    from engine.v1 import versions_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    if ref.qualifier == LATEST or not ref.qualifier.isdigit():
        raise usage(f"cannot delete {name}", "it names no version", f"give one such as {ref.name}:1")
    with asking(choices, f"cannot delete {ref.name}:{ref.qualifier}", ref.name) as engine:
        request = versions_pb2.DeleteVersionRequest(name=ref.resource_name())
        engine.versions.DeleteVersion(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"deleted": ref.resource_name()})
    else:
        typer.echo(f"Deleted version {ref.qualifier} of {ref.name}.")
    return ExitCode.OK
