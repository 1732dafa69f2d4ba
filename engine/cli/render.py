"""How answers look: messages as JSON documents, tables, times and sizes for people. Asks the engine nothing."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

import orjson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from engine.v1 import reports_pb2

MB = 1 << 20


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    write(orjson.dumps(document, option=orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0) + b"\n")


def write(data: bytes) -> None:
    """Bytes on standard output, as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """A line for people, on standard error, so that standard output holds answers only."""
    print(text, file=sys.stderr, flush=True)


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON that a script likes: every field, names as in the .proto files, integers as integers, enum
    values without their prefix and in lower case, times in ISO 8601."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_value(field, item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(field, value)


def _value(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        return enum_name(field.enum_type.name, field.enum_type.values_by_number[value].name)
    match value:
        case Timestamp():
            return value.ToDatetime(UTC).isoformat()
        case Message():
            return plain(value)
        case bytes():
            return text_of(value)
        case _:
            return value


def enum_name(kind: str, name: str) -> str:
    """START_KIND_FORK of StartKind: "fork"."""
    prefix = "".join(f"_{c}" if c.isupper() else c for c in kind).upper().lstrip("_") + "_"
    return name.removeprefix(prefix).lower()


def text_of(data: bytes) -> str:
    """Bytes as text; what is not UTF-8 shows as replacement characters."""
    return data.decode("utf-8", errors="replace")


def json_value(data: bytes) -> Any:
    """JSON text to stand verbatim in a document; what is not JSON becomes a string, base64 if not UTF-8."""
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return data.decode()
        except UnicodeDecodeError:
            return base64.b64encode(data).decode()
    return orjson.Fragment(data)


def visible(data: bytes) -> bytes:
    """A line of a function's log for a terminal: control characters but tabs are shown, not obeyed. A carriage return,
    with which AWS joins the lines of a traceback, starts a new line."""
    text = text_of(data).replace("\r", "\n")
    return "".join(c if c.isprintable() or c in "\t\n" else repr(c)[1:-1] for c in text).encode()


def start_kind(report: reports_pb2.Report) -> str:
    """ "warm", "fork", …"""
    return enum_name("StartKind", reports_pb2.StartKind.Name(report.start_kind))


def outcome(report: reports_pb2.Report) -> str:
    """ "ok", "timeout", …"""
    return enum_name("Outcome", reports_pb2.Outcome.Name(report.outcome))


def report_line(report: reports_pb2.Report) -> str:
    """AWS's REPORT line, with the kind of start and where the time went."""
    parts = [
        f"REPORT RequestId: {report.request_id}",
        f"Start: {start_kind(report)}",
        f"Outcome: {outcome(report)}",
        f"Duration: {_ms(report.handler_us)}",
        f"Billed Duration: {report.billed_ms} ms",
        f"Memory Size: {report.memory_mb} MB",
        f"Max Memory Used: {-(-report.peak_memory_bytes // MB)} MB",
    ]
    if report.start_kind != reports_pb2.START_KIND_WARM:
        parts += [f"Start Duration: {_ms(report.start_us)}", f"Init Duration: {_ms(report.init_us)}"]
    if report.queue_us:
        parts.append(f"Queue Duration: {_ms(report.queue_us)}")
    if report.network_in_bytes or report.network_out_bytes:
        parts.append(f"Network: {report.network_in_bytes} B in, {report.network_out_bytes} B out")
    return "\t".join([*parts, f"CPU: {_ms(report.cpu_us)}", f"Total: {_ms(report.total_us)}"])


def size(count: int) -> str:
    """Bytes for people, in units of 1024."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, styles: Sequence[str] = ()) -> None:
    """A table on standard output: fitted to a terminal, never cut elsewhere. `styles` are rich's, one a row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=10_000, no_color=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in head:
        table.add_column(title, overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*(Text(cell) for cell in row), style=styles[number] if styles else None)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def _ms(microseconds: int) -> str:
    return f"{microseconds / 1000:.2f} ms"
