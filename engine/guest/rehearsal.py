"""Runs the guest's own path inside a zygote, so that its forks find warm code and pages that are allocated already.

Each page that a fork is the first to write costs it 2.5 to 4.3 µs, and code that has never run allocates: rehearsing
saves a start about 0.7 ms. But each page that a parked sandbox writes is its own for good: where it cannot be told
which they will be (pages.py) it rehearses with the streams that it goes on to use, and no failure. Works without any
file, for the zygote may have entered its minimal root. Guarantees: what a run changes in the process is as before when
it returns; a path that does not work is an error here, in the zygote.
"""

from __future__ import annotations

import _socket
import builtins
import os
import sys
import time
from marshal import dumps

from . import interpreter, loader, marshal, reseed, wire
from .loop import Guest
from .stdio import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_MODULE = "cleave_rehearsed"
_SOME_FILE = "/etc/nsswitch.conf"
_SOURCE = b"""
def handler(event, context):
    print("rehearsal", context.aws_request_id, context.get_remaining_time_in_millis())
    if event["fail"]:
        raise ValueError("rehearsal")
    return {"text": event["text"], "numbers": [1, 2.5, None, True]}
"""
_VARIABLES = (
    *("_HANDLER", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
    *("AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_EXECUTION_ENV"),
    *("AWS_LAMBDA_LOG_FORMAT", "STAGE", "LOG_LEVEL", "TABLE_NAME", "BUCKET", "QUEUE_URL", "SECRET_ARN"),
)
"""As a function has them, AWS's and some of its own: where the C library keeps them depends on their names."""
_TEXT = "characters \u00e4\u20ac and a line\n" * 8
_packed: dict[bytes, bytes] = {}
"""Its bytecode, compiled once: a fork that rehearses again has no memory of its own for that."""


def rehearse(times: int, stdio: Stdio, *, whole: bool = True) -> None:
    """Serve `times` functions with three events each. `stdio` are the streams on descriptors 1 and 2. Raises
    RuntimeError where the answers are not as expected.

    Not `whole`: for a fork of who rehearsed all of it. Without the event that fails, and without a copy of what no run
    has changed there: each page that either writes is memory of the fork's own, for as long as it lives.
    """
    before = _State(whole)
    fails = (False, False, True) if whole else (False, False)
    expected = [wire.READY, wire.RESULT, wire.RESULT, *([wire.ERROR] if whole else [])]
    try:
        for _ in range(times):
            reseed.after_fork()
            answers = _serve_once(stdio, fails)
            if answers != expected:
                raise RuntimeError(f"the guest's rehearsal answered with frames {answers}, not {expected}")
            before.restore()
    finally:
        before.restore()


def _serve_once(stdio: Stdio, fails: Iterable[bool]) -> list[int]:
    engine, guest = _socket.socketpair()
    log_out, log_in = os.pipe()
    kept = (os.dup(1), os.dup(2))
    try:
        os.dup2(log_in, 1)
        os.dup2(log_in, 2)
        engine.sendall(frames(fails))
        engine.shutdown(_socket.SHUT_WR)
        _load()
        Guest(guest.fileno(), guest.fileno(), stdio).serve()
        guest.close()
        return kinds(_all_from(engine))
    finally:
        stdio.settle()
        stdio.close()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for fd in (log_in, log_out, *kept):
            os.close(fd)
        engine.close()
        guest.close()


def frames(fails: Iterable[bool], handler: str = f"{_MODULE}.handler") -> bytes:
    """What an engine sends for a function and such events."""
    events = [wire.frame(wire.EVENT, _event(fail)) for fail in fails]
    return b"".join((wire.frame(wire.SPEC, marshal.encode(_spec(handler))), *events))


def _load() -> None:
    """The handler's module, by each step of the loader's, though no file of it is there."""
    path = f"/var/task/{_MODULE}.py"
    loader.read_file(_SOME_FILE)
    packed = _packed.get(_SOURCE)
    if packed is None:
        packed = _packed[_SOURCE] = dumps(compile(_SOURCE, path, "exec", dont_inherit=True))
    code = loader.unpack(loader.UNCHECKED + bytes(8) + packed, path)
    loader.run_code(_MODULE, path, path, code or compile(_SOURCE, path, "exec", dont_inherit=True))


def _spec(handler: str) -> dict[str, Any]:
    # Each time other values: the C library's own calls keep every variable that they have seen once.
    own = dict.fromkeys(_VARIABLES, f"value {time.perf_counter_ns()}")
    return {
        "handler": handler,
        "environment": {**interpreter.COMMON, **own},
        "memory_mb": 128,
        "function_name": "rehearsal",
        "function_version": "$LATEST",
        "log_group_name": "/aws/lambda/rehearsal",
        "log_stream_name": "rehearsal",
        "result_limit_bytes": 4096,
        "log_format": "Text",
    }


def _event(fail: bool) -> bytes:
    deadline_ms = int(time.time() * 1000) + 60_000
    meta = marshal.encode(
        {
            "request_id": "00000000-0000-0000-0000-000000000000",
            "deadline_ms": deadline_ms,
            "timeout_ms": 60_000,
            "function_arn": "arn:aws:lambda:us-east-1:000000000000:function:rehearsal",
            "trace_id": "Root=1-00000000-000000000000000000000000",
        }
    )
    return wire.META.pack(len(meta)) + meta + marshal.encode({"fail": fail, "text": _TEXT})


def _all_from(engine: _socket.socket) -> bytes:
    received = b""
    while piece := engine.recv(65_536):
        received += piece
    return received


def kinds(frames: bytes) -> list[int]:
    """The kinds of whole frames."""
    found = []
    while frames:
        length, kind = wire.HEADER.unpack_from(frames)
        found.append(kind)
        frames = frames[wire.HEADER.size + length :]
    return found


class _State:
    """What a guest changes in its interpreter, as it is now."""

    def __init__(self, whole: bool) -> None:
        self._environ = dict(os.environ)
        try:
            self._folder: str | None = os.getcwd()
        except OSError:
            self._folder = None
        self._path = list(sys.path)
        self._meta_path = list(sys.meta_path)
        # A copy counts references, and so writes to the page of every module and of every name.
        self._importers = dict(sys.path_importer_cache) if whole else None
        self._modules = dict(sys.modules) if whole else None
        self._n_importers, self._n_modules = len(sys.path_importer_cache), len(sys.modules)
        self._main = sys.modules.get("__main__")
        self._argv = list(sys.argv)
        self._no_bytecode = sys.dont_write_bytecode
        self._streams = {
            name: getattr(sys, name) for name in ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
        }
        self._builtins = {name: vars(builtins).get(name) for name in ("exit", "quit")}
        self._logging = _logging_state()

    def restore(self) -> None:
        """Put everything back; may be called again and again."""
        interpreter.set_environment(self._environ)
        time.tzset()
        if self._folder is not None:
            os.chdir(self._folder)
        sys.path[:] = self._path
        sys.meta_path[:] = self._meta_path
        _restore_mapping(sys.path_importer_cache, self._importers, self._n_importers)
        _restore_mapping(sys.modules, self._modules, self._n_modules)
        if self._main is not None:
            sys.modules["__main__"] = self._main
        sys.argv[:] = self._argv
        sys.dont_write_bytecode = self._no_bytecode
        for name, stream in self._streams.items():
            setattr(sys, name, stream)
        for name, value in self._builtins.items():
            if value is not None:
                setattr(builtins, name, value)
            elif hasattr(builtins, name):
                delattr(builtins, name)
        if self._logging is not None:
            root, handlers, level, formatter, converter = self._logging
            root.handlers[:] = handlers
            root.setLevel(level)
            formatter.converter = converter


def _logging_state() -> tuple[Any, list[Any], int, Any, Any] | None:
    logging = sys.modules.get("logging")
    if logging is None:
        return None
    root = logging.getLogger()
    return root, list(root.handlers), root.level, logging.Formatter, logging.Formatter.converter


def _restore_mapping(current: dict[str, Any], saved: dict[str, Any] | None, count: int) -> None:
    """As `saved`; where nothing was, without what came after the first `count`."""
    while len(current) > count:
        current.popitem()
    if saved is None:
        return
    for name in set(current) - set(saved):
        del current[name]
    current.update(saved)
