"""`cleave bench`: times calls of a function, cold and warm, as one client or as many.

Without a name it times functions of its own beside a bare gRPC echo server, in turns, and shows how they differ: on an
engine of its own on free ports, which is gone afterwards, or with --address on the one that runs there. With the name
of a function it puts a load on that one.
"""

from __future__ import annotations

import enum
import sys
from functools import partial
from typing import Annotated, Any

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, usage

_DEFAULT_ROUNDS = 200
_DEFAULT_DURATION_S = 5.0


class Start(enum.Enum):
    """Which calls are timed."""

    BOTH = "both"
    COLD = "cold"
    WARM = "warm"


class Trace(enum.Enum):
    """How the calls of an open loop come."""

    STEADY = "steady"
    BURST = "burst"
    DIURNAL = "diurnal"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A function to put a load on: its name or ARN.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", metavar="JSON|@FILE|-", help="The event; - reads standard input.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, max=100_000, help="Calls a second, sent when they are due: an open loop."),
    ] = None,
    trace: Annotated[
        Trace | None,
        typer.Option(
            help="How the calls of --rate come: at random moments; ten times as many in the first of every ten seconds;"
            " or half as many at the beginning and the end, with the most in the middle. Default: steady."
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Callers that wait for their answers: a closed loop. Default: 1."),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(min=0.1, max=86_400, help=f"Seconds for each kind of start. Default: {_DEFAULT_DURATION_S:g}."),
    ] = None,
    start: Annotated[
        Start | None,
        typer.Option(help="Time cold starts, warm calls, or first the one and then the other. Default: both."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=2, max=100_000, help=f"Without a name: turns that each scenario gets. Default: {_DEFAULT_ROUNDS}."
        ),
    ] = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Time warm calls and cold starts over gRPC.

    With the name of a function: as many callers as --concurrency, each calling again when it has its answer; or with
    --rate so many calls a second, each timed from when it was due, so that what waits behind a slow one is slow too.
    Cold starts are made of copies of the function, which are deleted afterwards. Exits with 3 if the function failed,
    with 1 if the engine refused calls or did not keep up.

    Without: beside a bare gRPC echo server in the same run, in turns, with the same client, so that the difference is
    what the engine takes. Without --address it measures an engine of its own, which is gone afterwards; that needs
    root, as `cleave serve` does. Takes about a minute.
    """
    choices = choose(ctx, address, output)
    loads = {
        "--data": data,
        "--rate": rate,
        "--trace": trace,
        "--concurrency": concurrency,
        "--duration": duration,
        "--start": start,
    }
    given = [option for option, value in loads.items() if value is not None]
    if name is None and given:
        raise usage("cannot measure", f"{given[0]} is for a load on a function", "name one: cleave bench NAME")
    if name is not None and rounds is not None:
        raise usage("cannot measure", "--rounds is for the bench without a function", "give --duration instead")
    if rate is not None and concurrency is not None:
        raise usage(
            "cannot measure", "an open loop has a rate and a closed loop has callers", "give --rate or --concurrency"
        )
    if trace is not None and rate is None:
        raise usage("cannot measure", "--trace says how the calls of an open loop come", "give --rate with it")
    if name is None:
        return _compare(choices, rounds or _DEFAULT_ROUNDS)
    from engine.cli.benching.load import Load
    from engine.cli.invoke import event_of

    load = Load(
        duration or _DEFAULT_DURATION_S, rate or 0.0, concurrency or 1, trace="" if trace is None else trace.value
    )
    starts = ["cold", "warm"] if start is None or start is Start.BOTH else [start.value]
    return _load(choices, name, event_of(data), load, starts)


def _load(choices: Choices, name: str, event: bytes, load: Any, starts: list[str]) -> int:
    from engine.cli.benching.facts import facts
    from engine.cli.benching.loads import HEAD, failures, table
    from engine.cli.benching.own import measure_own
    from engine.cli.benching.processes import stopped_by_signals
    from engine.cli.benching.run import document
    from engine.cli.benching.show import lines
    from engine.cli.render import note, print_json, print_table

    began = facts()
    with stopped_by_signals():
        rows, function_failed = measure_own(
            choices, name, event, load, starts, (lambda text: None) if choices.json else note
        )
    result = document(rows, began)
    failed = failures(result)
    if choices.json:
        print_json(result)
    else:
        for line in lines(result):
            print(line)
        print()
        print_table(HEAD, table(result))
        for line in failed:
            note(line)
    return ExitCode.FUNCTION_ERROR if function_failed else ExitCode.FAILED if failed else ExitCode.OK


def _compare(choices: Choices, rounds: int) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from engine.cli.benching.bed import test_beds
    from engine.cli.benching.facts import facts
    from engine.cli.benching.run import document, measure
    from engine.cli.benching.scenarios import OF_A_RUNNING_ENGINE, SCENARIOS
    from engine.cli.benching.show import print_text
    from engine.cli.render import print_json

    progress = Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        auto_refresh=False,  # drawn between rounds: a thread of its own would run beside what is timed
        transient=True,
        disable=choices.json or not sys.stderr.isatty(),
    )
    began, rows = facts(), []
    running = choices if choices.address_flag else None
    with test_beds() as beds, progress:
        for scenario in SCENARIOS if running is None else OF_A_RUNNING_ENGINE:
            task = progress.add_task(scenario.name, total=scenario.rounds(rounds))
            advance = partial(progress.update, task, advance=1, refresh=True)
            rows.append(measure(scenario, beds.bed(scenario.engine, running), scenario.rounds(rounds), advance))
    result = document(rows, began)
    if choices.json:
        print_json(result)
    else:
        print_text(result)
    return 0
