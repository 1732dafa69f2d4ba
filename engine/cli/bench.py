"""`cleave bench`: times calls of a function beside a bare gRPC echo server, in turns, and shows how they differ.

Measures an engine of its own on free ports, which is gone afterwards, or with --address the one that runs there.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated

import typer

from engine.cli.options import AddressOption, OutputOption, choose

_DEFAULT_ROUNDS = 200


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    ctx: typer.Context,
    rounds: Annotated[
        int, typer.Option(min=2, max=100_000, help="Turns that each scenario and the echo server get.")
    ] = _DEFAULT_ROUNDS,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Time warm calls and cold starts over gRPC.

    Beside a bare gRPC echo server in the same run, in turns, with the same client, so that the difference is what the
    engine takes. Without --address it measures an engine of its own, which is gone afterwards; that needs root, as
    `cleave serve` does. Takes about a minute.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from engine.cli.benching.bed import test_beds
    from engine.cli.benching.facts import facts
    from engine.cli.benching.run import document, measure
    from engine.cli.benching.scenarios import OF_A_RUNNING_ENGINE, SCENARIOS
    from engine.cli.benching.show import print_text
    from engine.cli.render import print_json

    choices = choose(ctx, address, output)
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
