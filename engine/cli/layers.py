"""`cleave layers`: archives that functions share. Publish, list, read and delete their versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli import layer_permissions
from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, usage

if TYPE_CHECKING:
    from engine.model.layer import LayerRef
    from engine.v1 import layers_pb2, layers_pb2_grpc

LayerArgument = Annotated[str, typer.Argument(metavar="NAME:VERSION", help="The layer version, or its ARN.")]
RuntimeOption = Annotated[str, typer.Option(help="Only those for this runtime.")]
ArchitectureOption = Annotated[str, typer.Option(help="Only those for this processor: x86_64 or arm64.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Publish, list and delete layers: files that functions share.", no_args_is_help=True)
    for name, command in (("publish", publish), ("list", list_layers), ("get", get), ("delete", delete)):
        group.command(name)(command)
    layer_permissions.register(group)
    app.add_typer(group, name="layers")


def publish(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The layer.")],
    path: Annotated[
        Path, typer.Argument(help="A folder or a zip; what is in it is found at /opt, Python's modules in python/.")
    ],
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    license_info: Annotated[str, typer.Option("--license", help="Its license.")] = "",
    runtime: Annotated[list[str] | None, typer.Option(help="A runtime that it is for; repeat it.")] = None,
    architecture: Annotated[list[str] | None, typer.Option(help="A processor that it is for; repeat it.")] = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Make the next version of a layer from a folder or a zip."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.render import plain, print_json, size
    from engine.cli.upload import open_zip, upload
    from engine.v1 import layers_pb2

    choices = choose(ctx, address, output)
    with open_zip(path) as (archive, _), connected(choices) as engine, failures_of(f"cannot publish {name}", choices):
        blob = upload(engine, archive, quiet=choices.json)
        request = layers_pb2.PublishLayerVersionRequest(
            parent=f"layers/{name}",
            layer_version=layers_pb2.LayerVersion(
                code_blob=blob.code_blob,
                description=description,
                license_info=license_info,
                compatible_runtimes=runtime or (),
                compatible_architectures=architecture or (),
            ),
        )
        layer = engine.layers.PublishLayerVersion(request, timeout=CONTROL_TIMEOUT_S).layer_version
    if choices.json:
        print_json({"layer_version": plain(layer)})
    else:
        short = f"{name}:{layer.version}"
        typer.echo(f"Published {short}, {size(layer.code_size_bytes)}. Give it to a function with:\n")
        typer.echo(f"  {choices.command('deploy', 'FOLDER', '--layer', short)}")
    return ExitCode.OK


def list_layers(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Its versions. Default: the latest of every layer.")] = None,
    runtime: RuntimeOption = "",
    architecture: ArchitectureOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """List layers, or the versions of one, newest first."""
    from engine.cli.client import connected, failures_of
    from engine.cli.render import note, plain, print_json, print_table, size

    choices = choose(ctx, address, output)
    what = "cannot list layers" if name is None else f"cannot list the versions of {name}"
    with connected(choices) as engine, failures_of(what, choices):
        found = _all_layers(engine.layers, name, runtime, architecture)
    if choices.json:
        print_json({"layer_versions": [plain(layer) for layer in found]})
    elif not found:
        note(f"There is none. Make one with:\n\n  {choices.command('layers', 'publish', name or 'deps', 'FOLDER')}")
    else:
        rows = [
            (
                _short(layer),
                size(layer.code_size_bytes),
                " ".join(layer.compatible_runtimes),
                layer.create_time.ToJsonString(),
                layer.description,
            )
            for layer in found
        ]
        print_table(("LAYER", "SIZE", "RUNTIMES", "CREATED", "DESCRIPTION"), rows)
    return ExitCode.OK


def get(ctx: typer.Context, layer: LayerArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Show a layer version."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.v1 import layers_pb2

    choices = choose(ctx, address, output)
    ref = layer_ref(layer)
    with connected(choices) as engine, failures_of(f"cannot show {layer}", choices):
        request = layers_pb2.GetLayerVersionRequest(name=ref.resource_name())
        found = engine.layers.GetLayerVersion(request, timeout=CONTROL_TIMEOUT_S).layer_version
    return _show(choices, found)


def delete(ctx: typer.Context, layer: LayerArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Delete a layer version. Functions that use it keep it."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.render import print_json
    from engine.v1 import layers_pb2

    choices = choose(ctx, address, output)
    ref = layer_ref(layer)
    with connected(choices) as engine, failures_of(f"cannot delete {layer}", choices):
        request = layers_pb2.DeleteLayerVersionRequest(name=ref.resource_name())
        engine.layers.DeleteLayerVersion(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"name": ref.resource_name()})
    else:
        typer.echo(f"{ref.name}:{ref.version} is there no more. Functions that use it keep it.")
    return ExitCode.OK


def layer_ref(text: str) -> LayerRef:
    """A layer version as users name it. Raises Problem."""
    from engine.errors import InvalidArgument
    from engine.model.layer import parse_layer

    try:
        return parse_layer(text)
    except InvalidArgument:
        why = "it is no version of a layer"
        raise usage(f"{text} cannot be used", why, "write NAME:VERSION, as of: cleave layers list") from None


def _all_layers(
    stub: layers_pb2_grpc.LayerServiceStub, name: str | None, runtime: str, architecture: str
) -> list[layers_pb2.LayerVersion]:
    """Raises grpc.RpcError."""
    from engine.cli.client import CONTROL_TIMEOUT_S
    from engine.v1 import layers_pb2

    found: list[layers_pb2.LayerVersion] = []
    token = ""
    while True:
        if name is None:
            every = layers_pb2.ListLayersRequest(
                page_size=1000, page_token=token, compatible_runtime=runtime, compatible_architecture=architecture
            )
            layers = stub.ListLayers(every, timeout=CONTROL_TIMEOUT_S)
            found += layers.latest_versions
            token = layers.next_page_token
        else:
            request = layers_pb2.ListLayerVersionsRequest(
                parent=f"layers/{name}",
                page_size=1000,
                page_token=token,
                compatible_runtime=runtime,
                compatible_architecture=architecture,
            )
            versions = stub.ListLayerVersions(request, timeout=CONTROL_TIMEOUT_S)
            found += versions.layer_versions
            token = versions.next_page_token
        if not token:
            return found


def _short(layer: layers_pb2.LayerVersion) -> str:
    return f"{layer.name.split('/')[1]}:{layer.version}"


def _show(choices: Choices, layer: layers_pb2.LayerVersion) -> int:
    from engine.cli.render import plain, print_json, size

    if choices.json:
        print_json({"layer_version": plain(layer)})
        return ExitCode.OK
    typer.echo(f"{_short(layer)}  {layer.arn}")
    typer.echo(f"{size(layer.code_size_bytes)}, published {layer.create_time.ToJsonString()}")
    for what, text in (
        ("for", " ".join((*layer.compatible_runtimes, *layer.compatible_architectures))),
        ("license", layer.license_info),
        ("description", layer.description),
    ):
        if text:
            typer.echo(f"{what}: {text}")
    return ExitCode.OK
