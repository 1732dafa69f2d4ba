"""`cleave sources`: event source mappings, which say whose events go to which function. Stored; nothing polls yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, usage
from engine.model.function import LATEST

if TYPE_CHECKING:
    from engine.v1 import event_sources_pb2

FunctionArgument = Annotated[
    str, typer.Argument(help="The function, or with a colon a version or an alias: hello:live.")
]
IdArgument = Annotated[str, typer.Argument(metavar="UUID", help="The mapping.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", help="Events in one invocation, at most.")]
WindowOption = Annotated[int | None, typer.Option("--window-s", help="Seconds to wait for more of a batch.")]
PositionOption = Annotated[
    str | None, typer.Option("--from", metavar="POSITION", help="TRIM_HORIZON, LATEST or AT_TIMESTAMP, of a stream.")
]
FilterOption = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="PATTERN", help="Events to take, as EventBridge has it; again for more."),
]
EnabledOption = Annotated[bool | None, typer.Option("--enabled/--disabled", help="Whether the source may be polled.")]
SettingsOption = Annotated[
    str, typer.Option("--settings", metavar="JSON", help='Other settings, by AWS\'s names: \'{"Topics": ["clicks"]}\'.')
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Say which queue or stream's events go to which function (stored, nothing polls yet).",
        no_args_is_help=True,
    )
    for name, command in (("list", list_sources), ("create", create), ("get", get), ("update", update)):
        group.command(name)(command)
    group.command("delete")(delete)
    app.add_typer(group, name="sources")


def list_sources(
    ctx: typer.Context,
    function: Annotated[str, typer.Argument(help="Only those of this function.")] = "",
    source: Annotated[str, typer.Option(metavar="ARN", help="Only those of this source.")] = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """List event source mappings by UUID."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.render import enum_name, note, plain, print_json, print_table
    from engine.v1 import event_sources_pb2 as pb

    choices = choose(ctx, address, output)
    found: list[pb.EventSourceMapping] = []
    request = pb.ListEventSourceMappingsRequest(event_source_arn=source, page_size=1000)
    if function:
        request.function = _function(function)
    with connected(choices) as engine, failures_of("cannot list event source mappings", choices):
        while True:
            page = engine.event_sources.ListEventSourceMappings(request, timeout=CONTROL_TIMEOUT_S)
            found += page.event_source_mappings
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    if choices.json:
        print_json({"event_source_mappings": [plain(one) for one in found]})
    elif not found:
        note(f"There is none. Make one with:\n\n  {choices.command('sources', 'create', 'FUNCTION', 'ARN')}")
    else:
        rows = [
            (
                _id(one.name),
                one.function.removeprefix("functions/"),
                one.event_source_arn or ",".join(one.settings.topics),
                enum_name("EventSourceMappingState", pb.EventSourceMappingState.Name(one.state)),
            )
            for one in found
        ]
        print_table(("UUID", "FUNCTION", "SOURCE", "STATE"), rows)
    return ExitCode.OK


def create(
    ctx: typer.Context,
    function: FunctionArgument,
    source: Annotated[str, typer.Argument(metavar="[ARN]", help="The source; none for Kafka of one's own.")] = "",
    batch_size: BatchOption = None,
    window_s: WindowOption = None,
    position: PositionOption = None,
    filters: FilterOption = None,
    enabled: EnabledOption = None,
    settings: SettingsOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Give a function the events of a source."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.v1 import event_sources_pb2 as pb

    choices = choose(ctx, address, output)
    mapping = pb.EventSourceMapping(function=_function(function), event_source_arn=source, enabled=enabled)
    mapping.settings.CopyFrom(_settings(batch_size, window_s, position, filters, settings)[0])
    with connected(choices) as engine, failures_of(f"cannot give {function} the events of {source}", choices):
        request = pb.CreateEventSourceMappingRequest(event_source_mapping=mapping)
        made = engine.event_sources.CreateEventSourceMapping(request, timeout=CONTROL_TIMEOUT_S)
    return _show(choices, made.event_source_mapping)


def get(ctx: typer.Context, mapping: IdArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Show an event source mapping."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.v1 import event_sources_pb2 as pb

    choices = choose(ctx, address, output)
    with connected(choices) as engine, failures_of(f"cannot show {mapping}", choices):
        request = pb.GetEventSourceMappingRequest(name=_name(mapping))
        found = engine.event_sources.GetEventSourceMapping(request, timeout=CONTROL_TIMEOUT_S)
    return _show(choices, found.event_source_mapping)


def update(
    ctx: typer.Context,
    mapping: IdArgument,
    function: Annotated[str, typer.Option(help="Another function, version or alias.")] = "",
    batch_size: BatchOption = None,
    window_s: WindowOption = None,
    filters: FilterOption = None,
    enabled: EnabledOption = None,
    settings: SettingsOption = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Change an event source mapping: only what is given. A setting that is empty is taken away."""
    from google.protobuf.field_mask_pb2 import FieldMask

    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.v1 import event_sources_pb2 as pb

    choices = choose(ctx, address, output)
    message, paths = _settings(batch_size, window_s, None, filters, settings)
    changed = pb.EventSourceMapping(name=_name(mapping), enabled=enabled, settings=message)
    if enabled is not None:
        paths.append("enabled")
    if function:
        changed.function = _function(function)
        paths.append("function")
    if not paths:
        raise usage(
            f"cannot change {mapping}", "nothing is to be changed", "give --batch-size, --enabled or another option"
        )
    with connected(choices) as engine, failures_of(f"cannot change {mapping}", choices):
        request = pb.UpdateEventSourceMappingRequest(event_source_mapping=changed, update_mask=FieldMask(paths=paths))
        after = engine.event_sources.UpdateEventSourceMapping(request, timeout=CONTROL_TIMEOUT_S)
    return _show(choices, after.event_source_mapping)


def delete(ctx: typer.Context, mapping: IdArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Remove an event source mapping."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.render import plain, print_json
    from engine.v1 import event_sources_pb2 as pb

    choices = choose(ctx, address, output)
    with connected(choices) as engine, failures_of(f"cannot remove {mapping}", choices):
        request = pb.DeleteEventSourceMappingRequest(name=_name(mapping))
        was = engine.event_sources.DeleteEventSourceMapping(request, timeout=CONTROL_TIMEOUT_S).event_source_mapping
    if choices.json:
        print_json({"event_source_mapping": plain(was)})
    else:
        typer.echo(
            f"{was.function.removeprefix('functions/')} gets no more of {was.event_source_arn or _id(was.name)}."
        )
    return ExitCode.OK


def _settings(
    batch_size: int | None, window_s: int | None, position: str | None, filters: list[str] | None, text: str
) -> tuple[event_sources_pb2.EventSourceSettings, list[str]]:
    """The settings that are given, and their paths in a mask."""
    import orjson
    from google.protobuf.json_format import ParseDict, ParseError

    from engine.v1 import event_sources_pb2 as pb

    try:
        document = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError as error:
        raise usage(
            "cannot read the settings", f"they are no JSON: {error}", "give --settings '{\"BatchSize\": 5}'"
        ) from None
    if not isinstance(document, dict):
        raise usage("cannot read the settings", "they are no JSON object", "give --settings '{\"BatchSize\": 5}'")
    given: dict[str, Any] = {
        "BatchSize": batch_size,
        "MaximumBatchingWindowInSeconds": window_s,
        "StartingPosition": position,
        "FilterCriteria": {"Filters": [{"Pattern": one} for one in filters]} if filters else None,
    }
    document |= {name: value for name, value in given.items() if value is not None}
    try:
        message = ParseDict(document, pb.EventSourceSettings())
    except ParseError as error:
        raise usage(
            "cannot use the settings", str(error), "use AWS's names, as CreateEventSourceMapping has them"
        ) from None
    fields = pb.EventSourceSettings.DESCRIPTOR.fields
    return message, [f"settings.{field.name}" for field in fields if field.json_name in document]


def _function(name: str) -> str:
    from engine.cli.client import function_ref

    ref = function_ref(name)
    return ref.resource_name() if ref.qualifier != LATEST else f"functions/{ref.name}"


def _name(mapping: str) -> str:
    return mapping if mapping.startswith("eventSourceMappings/") else f"eventSourceMappings/{mapping}"


def _id(name: str) -> str:
    return name.rpartition("/")[2]


def _show(choices: Choices, mapping: event_sources_pb2.EventSourceMapping) -> int:
    from google.protobuf.json_format import MessageToDict

    from engine.cli.render import enum_name, plain, print_json, print_table
    from engine.v1 import event_sources_pb2 as pb

    if choices.json:
        print_json({"event_source_mapping": plain(mapping)})
        return ExitCode.OK
    rows = [
        ("uuid", _id(mapping.name)),
        ("function", mapping.function.removeprefix("functions/")),
        ("source", mapping.event_source_arn),
        ("state", enum_name("EventSourceMappingState", pb.EventSourceMappingState.Name(mapping.state))),
    ]
    rows += [(name, str(value)) for name, value in MessageToDict(mapping.settings).items()]
    print_table(("WHAT", "VALUE"), [row for row in rows if row[1]])
    return ExitCode.OK
