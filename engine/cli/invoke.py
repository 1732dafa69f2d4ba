"""`cleave invoke`: the result on standard output, everything about it on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.options import AddressOption, Choices, OutputOption, choose
from engine.cli.problems import ExitCode, Problem, usage

if TYPE_CHECKING:
    from engine.model.names import FunctionRef
    from engine.v1 import invocations_pb2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("invoke")(invoke)


def invoke(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The function: its name or ARN.")],
    data: Annotated[
        str | None, typer.Option("--data", "-d", metavar="JSON|@FILE|-", help="The event; - reads standard input.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="The event is bytes, which the handler gets as they are; print no line end.")
    ] = False,
    log: Annotated[bool, typer.Option("--log", help="Show the end of its log.")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="Print the result, and the log, as they are made.")] = False,
    later: Annotated[
        bool, typer.Option("--async", help="Run it later, at least once; print the request id once the event is safe.")
    ] = False,
    timeline: Annotated[bool, typer.Option("--timeline", help="Show where the time and the memory went.")] = False,
    request_id: Annotated[str, typer.Option(metavar="UUID", help="Run it under this id.", show_default=False)] = "",
    qualifier: Annotated[str | None, typer.Option(help="A version or an alias.")] = None,
    client_context: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE|-", help="For context.client_context.", show_default=False)
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="ID", help="Run it for this tenant, whose sandboxes serve nobody else.")
    ] = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Run a function once and print its result.

    Its REPORT line, with the kind of start and the times, follows on standard error.

    A function that fails prints AWS's error document in place of a result, with --stream on standard error. Exit codes:
    0 it returned; 1 the engine refused; 2 wrong arguments; 3 the function failed; 4 no engine answers; 130 interrupted.
    """
    from engine.cli.client import connected, failures_of, function_ref, not_found
    from engine.v1 import invocations_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name, qualifier)
    asked: dict[str, Any] = {
        "name": ref.resource_name(),
        "payload": event_of(data),
        "payload_encoding": invocations_pb2.PAYLOAD_ENCODING_RAW if raw else invocations_pb2.PAYLOAD_ENCODING_JSON,
        "request_id": request_id,
        "log_mode": invocations_pb2.LOG_MODE_TAIL if log else invocations_pb2.LOG_MODE_NONE,
        "timeline": timeline,
        "client_context": event_of(client_context, "client context", "--client-context"),
        "tenant_id": tenant,
    }
    what = f"cannot invoke {ref.name}"
    if later:
        if stream or log or timeline:
            raise usage(what, "nobody waits for what --stream, --log or --timeline show", "leave them out, or --async")
        return _send(choices, ref, asked)
    with connected(choices) as engine:
        try:
            with failures_of(what, choices):
                if stream:
                    frames = engine.invocations.InvokeStream(invocations_pb2.InvokeStreamRequest(**asked))
                    response = _whole(frames, show=not choices.json)
                else:
                    response = engine.invocations.Invoke(invocations_pb2.InvokeRequest(**asked))
        except Problem as problem:
            raise not_found(engine, what, ref.name, choices, problem) from None
    if choices.json:
        _print_document(response)
    else:
        logs = choices.command("logs", ref.name, "--request-id", response.report.request_id)
        _print_text(response, logs, shown=stream, line_end=b"" if raw else b"\n")
    return ExitCode.FUNCTION_ERROR if response.WhichOneof("result") == "function_error" else ExitCode.OK


def _send(choices: Choices, ref: FunctionRef, asked: dict[str, Any]) -> int:
    """Have the event run later."""
    from engine.cli.client import CONTROL_TIMEOUT_S, asking
    from engine.cli.render import note, print_json
    from engine.v1 import invocations_pb2

    fields = {name: asked[name] for name in invocations_pb2.InvokeAsyncRequest.DESCRIPTOR.fields_by_name}
    with asking(choices, f"cannot invoke {ref.name}", ref.name) as engine:
        request = invocations_pb2.InvokeAsyncRequest(**fields)
        request_id = engine.invocations.InvokeAsync(request, timeout=CONTROL_TIMEOUT_S).request_id
    if choices.json:
        print_json({"request_id": request_id})
    else:
        typer.echo(request_id)
        note(f"It runs when there is room. See what it wrote:\n\n  {choices.command('logs', ref.name)}")
    return ExitCode.OK


def event_of(data: str | None, what: str = "event", flag: str = "-d") -> bytes:
    """What an option gives as text, @FILE or - for standard input. Raises Problem."""
    if data is None:
        return b""
    if data == "-":
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        why = f"{data[1:] or 'the file after @'} cannot be read: {error.strerror}"
        raise usage(f"cannot read the {what}", why, f"give {flag} JSON, {flag} @FILE or {flag} -") from None


def _whole(frames: Iterator[invocations_pb2.InvokeStreamResponse], *, show: bool) -> invocations_pb2.InvokeResponse:
    """The frames of a stream as one response; with `show` its chunks and lines are printed as they come, not kept."""
    from engine.cli.render import note, visible, write
    from engine.v1 import invocations_pb2

    response = invocations_pb2.InvokeResponse()
    chunks: list[bytes] = []
    lines: list[bytes] = []
    open_line = False
    for frame in frames:
        match frame.WhichOneof("frame"):
            case "chunk" if show:
                write(frame.chunk)
                open_line = not frame.chunk.endswith(b"\n")
            case "chunk":
                chunks.append(frame.chunk)
            case "log" if show:
                note(visible(frame.log.text).decode())
            case "log":
                lines.append(frame.log.text + b"\n")
            case "finished":
                response.report.CopyFrom(frame.finished.report)
                if frame.finished.HasField("function_error"):
                    response.function_error.CopyFrom(frame.finished.function_error)
                else:
                    response.payload = b"".join(chunks)
    if open_line and sys.stdout.isatty():
        write(b"\n")
    response.log_tail = b"".join(lines)
    return response


def _print_text(response: invocations_pb2.InvokeResponse, logs: str, *, shown: bool, line_end: bytes) -> None:
    from engine.cli.render import note, report_line, text_of, write
    from engine.cli.timeline import picture

    failed = response.WhichOneof("result") == "function_error"
    if not shown:
        write(response.function_error.document + b"\n" if failed else response.payload + line_end)
    elif failed:
        note(text_of(response.function_error.document))
    if response.log_tail:
        note(text_of(response.log_tail).rstrip("\n"))
    for line in picture(response.report):
        note(line)
    note(report_line(response.report))
    if failed:
        note(f"Error: the function failed: {response.function_error.type}\n  Fix: {logs}")


def _print_document(response: invocations_pb2.InvokeResponse) -> None:
    from engine.cli.render import json_value, outcome, plain, print_json, text_of

    document: dict[str, Any] = {"outcome": outcome(response.report)}
    if response.WhichOneof("result") == "function_error":
        error = response.function_error
        document["function_error"] = {"type": error.type, "document": json_value(error.document)}
    else:
        document["result"] = json_value(response.payload)
    document["report"] = plain(response.report)
    if response.log_tail:
        document["log"] = text_of(response.log_tail)
    print_json(document)
