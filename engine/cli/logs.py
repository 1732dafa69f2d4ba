"""`cleave logs`: what a function wrote, and on request what it writes from here on."""

from __future__ import annotations

import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import Problem, usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.v1 import invocations_pb2


_BATCH_LINES = 500
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("logs")(logs)


def logs(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The function: its name or ARN.")],
    follow: Annotated[
        bool, typer.Option("--follow", "--tail", "-f", help="Go on with each line that is written.")
    ] = False,
    request_id: Annotated[str, typer.Option(metavar="UUID", help="Only this invocation.", show_default=False)] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="The newest so many; 0: all that are kept.")] = 0,
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="From then on: 10m, 2h, 1d ago, or ISO 8601.", show_default=False),
    ] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Up to then; as --since.", show_default=False)] = "",
    contains: Annotated[
        str, typer.Option("--filter", metavar="TEXT", help="Only lines that have this text.", show_default=False)
    ] = "",
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Print a function's log, oldest line first.

    With --output json it is one document; with --follow too, one document a line.
    """
    from engine.cli.client import UPLOAD_TIMEOUT_S, connected, failures_of, function_ref, not_found
    from engine.v1 import logs_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    request = logs_pb2.TailLogsRequest(
        name=ref.resource_name(),
        request_id=request_id,
        limit=lines,
        follow=follow,
        contains=contains.encode(),
        batch_lines=_BATCH_LINES,
    )
    if since:
        request.since.FromDatetime(_moment("--since", since))
    if until:
        request.until.FromDatetime(_moment("--until", until))
    what = f"cannot read the log of {ref.name}"
    with connected(choices) as engine:
        try:
            with failures_of(what, choices):
                answers = engine.logs.TailLogs(request, timeout=None if follow else UPLOAD_TIMEOUT_S)
                _show((line for answer in answers for line in answer.lines), follow, choices)
        except Problem as problem:
            raise not_found(engine, what, ref.name, choices, problem) from None
    return 0


def _moment(flag: str, text: str) -> datetime:
    """When an option means, in UTC. Raises Problem."""
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return datetime.fromtimestamp(time.time() - float(ago[1]) * _SECONDS[ago[2]], UTC)
        return datetime.fromisoformat(text).astimezone(UTC)  # without an offset it is this machine's time
    except (ValueError, OverflowError, OSError):
        raise usage(
            "cannot read the log", f"{flag} {text} is not a time", "say 30s, 10m, 2h or 1d ago, or 2026-01-31T12:00Z"
        ) from None


def _show(lines: Iterable[invocations_pb2.LogLine], follow: bool, choices: Choices) -> None:
    from engine.cli.render import plain, print_json, visible, write

    if choices.json and not follow:
        print_json({"lines": [plain(line) for line in lines]})
        return
    terminal = sys.stdout.isatty()
    for line in lines:
        if choices.json:
            print_json(plain(line))
        else:
            text = visible(line.text) if terminal else line.text
            write(_time(line).encode() + b" " + text + b"\n")


def _time(line: invocations_pb2.LogLine) -> str:
    return line.time.ToDatetime(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
