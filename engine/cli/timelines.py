"""`cleave timeline`: where the time of an invocation went that is over, and which ones the engine still knows of."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import Problem, usage

if TYPE_CHECKING:
    from engine.cli.client import Engine
    from engine.v1 import timelines_pb2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("timeline")(timeline)


def timeline(
    ctx: typer.Context,
    request_id: Annotated[str, typer.Argument(metavar="[REQUEST_ID]", help="The invocation; none: list them.")] = "",
    name: Annotated[str, typer.Option("--function", "-f", help="List only those of this function.")] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1_000, help="List so many.")] = 20,
    slowest: Annotated[bool, typer.Option("--slowest", help="List the slowest, and not the newest.")] = False,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Show where the time of an invocation went; without an id, list those that are known.

    The engine keeps the last that are over: failures, cold starts and slow ones for longer than others. `cleave
    invoke --timeline` asks for more detail, when it invokes.
    """
    from engine.cli.client import connected

    choices = choose(ctx, address, output)
    if request_id and (name or slowest):
        raise usage("cannot show a timeline", "an id names one invocation already", "give an id, or choose from a list")
    with connected(choices) as engine:
        if request_id:
            _show(engine, request_id, choices)
        else:
            _list(engine, name, lines, slowest, choices)
    return 0


def _show(engine: Engine, request_id: str, choices: Choices) -> None:
    from engine.cli.client import CONTROL_TIMEOUT_S, failures_of
    from engine.cli.render import plain, print_json, report_line
    from engine.cli.timeline import picture
    from engine.v1 import timelines_pb2

    what = f"cannot show the timeline of {request_id}"
    try:
        with failures_of(what, choices):
            request = timelines_pb2.GetTimelineRequest(request_id=request_id)
            found = engine.timelines.GetTimeline(request, timeout=CONTROL_TIMEOUT_S).invocation
    except Problem as problem:
        if problem.code != "NOT_FOUND":
            raise
        raise Problem(
            what, problem.why, choices.command("timeline"), code=problem.code, reason=problem.reason
        ) from None
    if choices.json:
        print_json({"invocation": plain(found)})
        return
    print(f"{found.name.removeprefix('functions/')}, ended {_time(found)}")
    for line in (*picture(found.report), report_line(found.report)):
        print(line)


def _list(engine: Engine, name: str, lines: int, slowest: bool, choices: Choices) -> None:
    from engine.cli.client import CONTROL_TIMEOUT_S, failures_of, function_ref
    from engine.cli.render import note, outcome, plain, print_json, print_table, start_kind
    from engine.v1 import timelines_pb2

    request = timelines_pb2.ListTimelinesRequest(
        name=function_ref(name).resource_name() if name else "", limit=lines, slowest=slowest
    )
    with failures_of("cannot list invocations", choices):
        found = engine.timelines.ListTimelines(request, timeout=CONTROL_TIMEOUT_S).invocations
    if choices.json:
        print_json({"invocations": [plain(one) for one in found]})
    elif not found:
        note("No invocation is known.")
    else:
        head = (
            "ENDED (UTC)",
            "REQUEST ID",
            "FUNCTION",
            "START",
            "OUTCOME",
            "QUEUE",
            "START",
            "INIT",
            "HANDLER",
            "TOTAL MS",
        )
        rows = [
            (
                _time(one),
                one.report.request_id,
                one.name.removeprefix("functions/"),
                start_kind(one.report) if one.report.start_kind else "-",
                outcome(one.report),
                *(
                    _ms(getattr(one.report, part))
                    for part in ("queue_us", "start_us", "init_us", "handler_us", "total_us")
                ),
            )
            for one in found
        ]
        print_table(head, rows)


def _time(one: timelines_pb2.PastInvocation) -> str:
    return one.end_time.ToDatetime(UTC).isoformat(" ", "milliseconds").replace("+00:00", "")


def _ms(us: int) -> str:
    return f"{us / 1_000:.2f}" if us else "-"
