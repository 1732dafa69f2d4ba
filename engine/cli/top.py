"""`cleave top`: what an engine does, as a picture in the terminal that is drawn anew each second.

On a terminal it takes the whole screen and gives it back as it was, however it ends; elsewhere, and with --once, it
writes lines. What the numbers are is engine.cli.top_view's.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from engine.cli.options import AddressOption, Choices, Output, OutputOption, choose
from engine.cli.top_order import Order

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from engine.cli.top_view import View

_DRAWN_PER_S = 4
"""So soon after its size has changed is the terminal filled anew."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("top")(top)


def top(
    ctx: typer.Context,
    sort: Annotated[Order, typer.Option(help="What comes first: the most of it; names from A to Z.")] = Order.CALLS,
    interval: Annotated[float, typer.Option(min=0.1, max=3_600, help="Seconds from one picture to the next.")] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Show what was counted since the engine started, and end.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The same as --output json.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Functions at most; 0: all that fit.")] = 0,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Watch an engine: functions, concurrency, starts, throttles, CPU, memory and times.

    With --output json it is one document; without --once, one document a line. Ctrl-C ends it.
    """
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.top_view import view
    from engine.v1 import metrics_pb2

    choices = choose(ctx, address, Output.JSON if json else output)
    with connected(choices) as engine, failures_of("cannot watch the engine", choices):
        if once:
            now = engine.metrics.GetMetrics(metrics_pb2.GetMetricsRequest(), timeout=CONTROL_TIMEOUT_S).metrics
            _write(view(now, None, sort), lines, choices)
            return 0
        request = metrics_pb2.WatchMetricsRequest(interval_ms=round(interval * 1_000))
        views = _views((answer.metrics for answer in engine.metrics.WatchMetrics(request)), sort)
        if choices.json or not sys.stdout.isatty():
            for found in views:
                _write(found, lines, choices)
                if not choices.json:
                    print(flush=True)
        else:
            _draw(views, lines, choices)
    return 0


def _views(all_metrics: Iterator[Any], sort: Order) -> Iterator[View]:
    from engine.cli.top_view import view

    before = None
    for now in all_metrics:
        yield view(now, before, sort)
        before = now


def _write(found: View, lines: int, choices: Choices) -> None:
    from engine.cli.render import print_json, print_table
    from engine.cli.top_view import HEAD, cells, summary

    rows = found.functions[: lines or None]
    if choices.json:
        print_json(asdict(found) | {"functions": [asdict(row) for row in rows]})
        return
    for line in summary(found, choices.address):
        print(line)
    print_table(HEAD, cells(rows))


def _draw(views: Iterator[View], lines: int, choices: Choices) -> None:
    from rich.console import Console
    from rich.live import Live

    with (
        _sigterm_as_interrupt(),
        Live(
            console=Console(),
            screen=True,
            refresh_per_second=_DRAWN_PER_S,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live,
    ):
        for found in views:
            live.update(_Picture(found, lines, choices.address), refresh=True)


class _Picture:
    """One view, in as many lines as the terminal has at the moment."""

    def __init__(self, found: View, lines: int, address: str) -> None:
        self._found = found
        self._lines = lines
        self._address = address

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        from engine.cli.top_view import HEAD, cells, summary

        above = summary(self._found, self._address)
        for line in above:
            yield Text(line, no_wrap=True, overflow="ellipsis")
        room = max(0, options.max_height - len(above) - 2) if options.max_height else 0
        rows = self._found.functions[: min(room, self._lines) if self._lines else room]
        table = Table(box=None, pad_edge=False, header_style="bold reverse", expand=True)
        for title in HEAD:
            left = title == HEAD[0]
            table.add_column(title, justify="left" if left else "right", no_wrap=True, ratio=1 if left else None)
        for row in cells(rows):
            table.add_row(*(Text(cell) for cell in row))
        yield Text("")
        yield table


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Have SIGTERM end it as Ctrl-C does, so that the screen is given back. Whatever the signal broke off says so by an
    error of its own at times: that is no other end."""
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
