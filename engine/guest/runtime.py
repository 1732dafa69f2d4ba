"""The loop of a guest: specification, init phase, then one event at a time until the engine ends the stream.

Theory of operation. A zygote forks; the fork, alone in its sandbox, calls run(). Descriptor 0 is /dev/null, 1 and 2 are
one pipe to the engine (the log), wire.EVENTS_FD and wire.ANSWERS_FD are the control stream. The engine sends

    SPEC   {"handler", "environment" (complete), "memory_mb", "function_name", "function_version", "log_group_name",
            "log_stream_name", "result_limit_bytes", "log_format": "Text" | "JSON"}
    EVENT  meta {"request_id", "deadline_ms" (since the epoch), "timeout_ms", "function_arn", and where there are any
            "client_context" (JSON text), "identity" (JSON text or object), "trace_id", "tenant_id", "covers_init"
            (true: the timeout runs from the init phase on), "timeline" (true: send MOMENTS with the answer),
            "raw_payload" (true: the handler gets it as bytes), where the answer is to be streamed "stream_limit_bytes",
            and where an input follows "input": true}; the payload
    PREPARE in the place of the first EVENT, where the init phase is wanted ahead of it

and the guest answers as wire.py says. An exit of user code (SystemExit and whatever else is no Exception) ends the
process with Python's own status and no frame. Everything a handler wrote is in the pipe before its answer is.
Nothing that the engine relies on is decided here: user code shares this process.
"""

from __future__ import annotations

from . import bytecode, exits, interpreter, pages, rehearsal, wire
from .loop import Guest
from .stdio import Stdio, make_ahead

__all__ = ["anticipate", "bytecode", "pages", "rehearse", "run"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run(guest: Guest | None = None) -> NoReturn:
    """Be the guest of this process until it ends; `guest` is what `anticipate` made in the zygote. Called in a fork
    that reseed.after_fork has made its own."""
    guest = guest or Guest(wire.EVENTS_FD, wire.ANSWERS_FD, Stdio())
    try:
        status = guest.serve()
    except BaseException as error:
        status = exits.status_of(error)
    exits.leave(status, guest.stdio)


def rehearse(guest: Guest, times: int = 20, *, whole: bool = True) -> None:
    """Run the whole path in this process, a zygote that is about to freeze, and leave no trace of it. Not `whole`: in a
    fork of one."""
    rehearsal.rehearse(times, guest.stdio, whole=whole)


def anticipate(
    flush: Callable[[], None] | None = None, put_environment: Callable[[dict[bytes, bytes]], None] | None = None
) -> Guest:
    """Do once, in a zygote, what each start would do for itself. `flush` writes what C code has printed, and
    `put_environment` sets all variables."""
    interpreter.anticipate(put_environment)
    return Guest(wire.EVENTS_FD, wire.ANSWERS_FD, make_ahead(flush))
