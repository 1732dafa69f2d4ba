"""The engine's own log: one JSON document a line, or text where a person reads along.

    log = oplog.logger()                      # anywhere, at any time
    log.info("function_created", function="thumbs", code_size_bytes=4096)
    with oplog.bound(request_id=request_id):  # every line of this task carries it
        ...

A line has `time`, `level`, `event` (snake_case: a name to search for, never a sentence) and what was given; levels are
the standard library's, whose loggers (uvicorn, gRPC, asyncio) come out the same way. What functions write is not here
but in engine.observe.function_logs.

Guarantees: no payload and no secret gets out by accident. Bytes are never shown, only counted; values under the names
in WITHHELD are not shown at any depth; a traceback shows code and no variables.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

WITHHELD = frozenset(
    {
        "authorization", "body", "client_context", "cookie", "credentials", "document", "environment", "log_tail",
        "password", "payload", "result", "secret", "security_token", "token",
    }
)  # fmt: skip
"""Names whose values are payloads or secrets."""
_CHATTY = ("asyncio", "uvicorn")  # tell at info what is debugging to an operator


def configure(level: str, format: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (standard error). `level` is debug, info, warning or error;
    `format` is json, text, or auto: text where `stream` is a terminal. Called once, by whoever starts the process."""
    target = sys.stderr if stream is None else stream
    text = format == "text" or (format == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_shared()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _text_renderer(colors=target.isatty()) if text else structlog.processors.JSONRenderer(_to_json),
            ],
        )
    )
    structlog.configure(
        processors=_processors(),
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """Change what is logged from here on; the reload of settings calls it."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING if level == "info" else root.level)


def logger() -> FilteringBoundLogger:
    """The engine's logger. Before configure(), warnings and worse go to standard error and the rest nowhere, so that
    what prints its answer on standard output can use what logs."""
    log: FilteringBoundLogger = structlog.wrap_logger(
        logging.getLogger("engine"), processors=_processors(), wrapper_class=structlog.stdlib.BoundLogger
    )
    return log


def bound(**fields: str) -> AbstractContextManager[None]:
    """Put `fields`, such as request_id, on every line of the current task while the context lasts."""
    return structlog.contextvars.bound_contextvars(**fields)


def withhold(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processor that keeps payloads and secrets out."""
    for key, value in event.items():
        if not key.startswith("_"):
            event[key] = _safe(key, value)
    return event


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.format_exc_info,
        withhold,
    ]


def _processors() -> list[Processor]:
    wrap: Processor = structlog.stdlib.ProcessorFormatter.wrap_for_formatter
    return [structlog.stdlib.filter_by_level, *_shared(), wrap]


def _safe(key: str, value: Any) -> Any:
    if key.lower() in WITHHELD:
        return f"[withheld: {len(value)}]" if hasattr(value, "__len__") else "[withheld]"
    match value:
        case bytes() | bytearray() | memoryview():
            return f"[{len(value)} bytes]"
        case Mapping():
            return {str(name): _safe(str(name), inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_safe("", inner) for inner in value]
        case _:
            return value


def _to_json(event: Any, **_: Any) -> str:
    first = {key: event[key] for key in ("time", "level", "event") if key in event}
    return orjson.dumps(first | event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _text_renderer(*, colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=colors, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )
