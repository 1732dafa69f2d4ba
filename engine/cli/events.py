"""`cleave events`: how asynchronous events are delivered, and those that wait. `cleave invoke --async` sends one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode

if TYPE_CHECKING:
    from engine.v1 import events_pb2

NameArgument = Annotated[
    str, typer.Argument(help="The function, or with a colon a version or an alias of it: hello:live.")
]
RetriesOption = Annotated[
    int | None, typer.Option("--retries", metavar="0-2", help="Runs after one in which the function failed.")
]
AgeOption = Annotated[
    int | None, typer.Option("--max-age", metavar="SECONDS", help="How old an event may get: 60 to 21600.")
]
SuccessOption = Annotated[
    str | None, typer.Option("--on-success", metavar="ARN", help="Kept; nothing is sent there yet.")
]
FailureOption = Annotated[
    str | None, typer.Option("--on-failure", metavar="ARN", help="Kept; nothing is sent there yet.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Show asynchronous events, and how they are delivered.", no_args_is_help=True)
    for name, command in (("queue", queue), ("list", list_configs), ("get", get), ("put", put), ("update", update)):
        group.command(name)(command)
    group.command("delete")(delete)
    app.add_typer(group, name="events")


def queue(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="The function; without one all of them.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the oldest.")] = 50,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """List the events that were accepted and are not done with, the oldest first."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import note, plain, print_json, print_table
    from engine.v1 import events_pb2

    choices = choose(ctx, address, output)
    of = function_ref(name).name if name else "-"
    found: list[events_pb2.QueuedEvent] = []
    with asking(choices, "cannot list the events", of) as engine:
        request = events_pb2.ListQueuedEventsRequest(parent=f"functions/{of}")
        while len(found) < limit:
            request.page_size = min(1_000, limit - len(found))
            page = engine.events.ListQueuedEvents(request, timeout=CONTROL_TIMEOUT_S)
            found += page.events
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    if choices.json:
        print_json({"events": [plain(event) for event in found], "more": bool(request.page_token)})
    elif not found:
        note("None waits.")
    else:
        print_table(("FUNCTION", "REQUEST ID", "ACCEPTED", "FAILED", "NEXT TRY", "LAST ERROR"), map(_row, found))
        if request.page_token:
            note(f"There are more: --limit {limit * 10} shows them.")
    return ExitCode.OK


def list_configs(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The function: its name or ARN.")],
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """List how the events of a function, its versions and its aliases are delivered."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import note, plain, print_json, print_table
    from engine.v1 import events_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    found: list[events_pb2.EventInvokeConfig] = []
    with asking(choices, f"cannot list the configurations of {ref.name}", ref.name) as engine:
        request = events_pb2.ListEventInvokeConfigsRequest(parent=f"functions/{ref.name}", page_size=1_000)
        while True:
            page = engine.events.ListEventInvokeConfigs(request, timeout=CONTROL_TIMEOUT_S)
            found += page.configs
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    if choices.json:
        print_json({"configs": [plain(config) for config in found]})
    elif not found:
        note(f"It has none: two retries, six hours. Set one with:\n\n  {choices.command('events', 'put', ref.name)}")
    else:
        rows = [(config.name.removeprefix("functions/"), *_limits(config)) for config in found]
        print_table(("OF", "RETRIES", "MAX AGE"), rows)
    return ExitCode.OK


def get(ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Show a configuration."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.v1 import events_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    with asking(choices, f"cannot show the configuration of {name}", ref.name) as engine:
        request = events_pb2.GetEventInvokeConfigRequest(name=ref.resource_name())
        config = engine.events.GetEventInvokeConfig(request, timeout=CONTROL_TIMEOUT_S).config
    return _show(choices, config)


def put(
    ctx: typer.Context,
    name: NameArgument,
    retries: RetriesOption = None,
    max_age: AgeOption = None,
    on_success: SuccessOption = None,
    on_failure: FailureOption = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Set a configuration: what is not given has its default from then on."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.v1 import events_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    given = _given(retries, max_age, on_success, on_failure)
    with asking(choices, f"cannot set the configuration of {name}", ref.name) as engine:
        config = events_pb2.EventInvokeConfig(name=ref.resource_name(), **given)
        request = events_pb2.PutEventInvokeConfigRequest(config=config)
        config = engine.events.PutEventInvokeConfig(request, timeout=CONTROL_TIMEOUT_S).config
    return _show(choices, config)


def update(
    ctx: typer.Context,
    name: NameArgument,
    retries: RetriesOption = None,
    max_age: AgeOption = None,
    on_success: SuccessOption = None,
    on_failure: FailureOption = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Change a configuration: only what is given; an empty ARN takes a destination away."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.v1 import events_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    given = _given(retries, max_age, on_success, on_failure)
    with asking(choices, f"cannot change the configuration of {name}", ref.name) as engine:
        config = events_pb2.EventInvokeConfig(name=ref.resource_name(), **given)
        request = events_pb2.UpdateEventInvokeConfigRequest(config=config)
        request.update_mask.paths[:] = list(given)
        config = engine.events.UpdateEventInvokeConfig(request, timeout=CONTROL_TIMEOUT_S).config
    return _show(choices, config)


def delete(ctx: typer.Context, name: NameArgument, address: AddressOption = None, output: OutputOption = None) -> int:
    """Remove a configuration: two retries and six hours from then on."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking, function_ref
    from engine.cli.render import print_json
    from engine.v1 import events_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    with asking(choices, f"cannot remove the configuration of {name}", ref.name) as engine:
        request = events_pb2.DeleteEventInvokeConfigRequest(name=ref.resource_name())
        engine.events.DeleteEventInvokeConfig(request, timeout=CONTROL_TIMEOUT_S)
    if choices.json:
        print_json({"name": ref.resource_name()})
    else:
        typer.echo(f"{name} has no configuration of its events any more.")
    return ExitCode.OK


def _given(retries: int | None, max_age: int | None, on_success: str | None, on_failure: str | None) -> dict[str, Any]:
    values = {
        "maximum_retry_attempts": retries,
        "maximum_event_age_s": max_age,
        "on_success": on_success,
        "on_failure": on_failure,
    }
    return {name: value for name, value in values.items() if value is not None}


def _limits(config: events_pb2.EventInvokeConfig) -> tuple[str, str]:
    retries = str(config.maximum_retry_attempts) if config.HasField("maximum_retry_attempts") else "2 (default)"
    age = f"{config.maximum_event_age_s} s" if config.HasField("maximum_event_age_s") else "21600 s (default)"
    return retries, age


def _row(event: events_pb2.QueuedEvent) -> tuple[str, ...]:
    due = "running" if event.running else event.due_time.ToJsonString() if event.HasField("due_time") else "next"
    return (
        event.name.removeprefix("functions/"),
        event.request_id,
        event.accept_time.ToJsonString(),
        str(event.failed_attempts),
        due,
        event.last_error,
    )


def _show(choices: Choices, config: events_pb2.EventInvokeConfig) -> int:
    from engine.cli.render import plain, print_json

    if choices.json:
        print_json({"config": plain(config)})
        return ExitCode.OK
    retries, age = _limits(config)
    typer.echo(f"retries: {retries}\nmaximum age: {age}")
    for what, arn in (("on success", config.on_success), ("on failure", config.on_failure)):
        if arn:
            typer.echo(f"{what}: {arn} (nothing is sent there yet)")
    return ExitCode.OK
