"""The functions of `cleave doctor --prove`: made when they are first asked for, invoked, and removed whatever happens.

Guarantees: their names start with cleave-prove-; `clear` ends what is under way and deletes them, `clear_left` those of
runs that were killed; a signal is noted (signals_noted) and ends the wait for an answer, nothing else.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import secrets
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import orjson

from engine.cli import holder
from engine.cli import prove_handlers as handlers
from engine.cli import prove_probes as probes
from engine.cli.client import CONTROL_TIMEOUT_S, Engine
from engine.cli.upload import upload
from engine.v1 import functions_pb2, invocations_pb2, reports_pb2, resources_pb2

NAME_PREFIX = "cleave-prove-"
_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.1
_NEEDED_S = 3600
"""No run takes as long."""
_NEVER_READY = "import time\nwhile True:\n    time.sleep(1)\n"
_ALONE = "from __future__ import annotations\n\n{source}\ndef handler(event, context):\n    return {name}(event)\n"
"""A handler in a file of its own, where what else app.py takes would count."""
Invocation = Any
"""A call under way: grpc's future of an InvokeResponse."""
Answer = invocations_pb2.InvokeResponse | grpc.RpcError


@dataclass
class Calls:
    """Those of one run, to one engine."""

    engine: Engine
    stopped: threading.Event  # set: wait for no answer any more
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    _code_blob: str = ""
    _made: list[str] = field(default_factory=list)
    _under_way: list[Invocation] = field(default_factory=list)

    def clear(self) -> None:
        """End what is under way and delete the functions."""
        for call in self._under_way:
            call.cancel()
        while self._made:
            request = functions_pb2.DeleteFunctionRequest(name=f"functions/{self._made.pop()}")
            with contextlib.suppress(grpc.RpcError):
                self.engine.functions.DeleteFunction(request, timeout=CONTROL_TIMEOUT_S)

    def clear_left(self) -> None:
        """Delete the functions of runs that were killed: those whose process is gone; where that cannot be told, those
        that no run needs any more."""
        pages = functions_pb2.ListFunctionsRequest()
        while True:
            page = self.engine.functions.ListFunctions(pages, timeout=CONTROL_TIMEOUT_S)
            for function in page.functions:
                name = function.name.removeprefix("functions/")
                if name.startswith(NAME_PREFIX) and _is_left(name, function.update_time.ToSeconds()):
                    self._made.append(name)
            pages.page_token = page.next_page_token
            if not pages.page_token:
                return self.clear()

    def function(
        self,
        kind: str,
        *,
        handler: str = "app.handler",
        memory_mb: int = 256,
        timeout_s: float,
        egress: resources_pb2.Egress.ValueType = resources_pb2.EGRESS_NONE,
    ) -> str:
        """The function of this kind, made when it is first asked for. Raises grpc.RpcError."""
        name = f"{NAME_PREFIX}{holder.mark()}-{kind}"
        if name in self._made:
            return name
        if not self._code_blob:
            self._code_blob = upload(self.engine, _code(), quiet=True).code_blob
        config = resources_pb2.FunctionConfig(
            handler=handler,
            memory_mb=memory_mb,
            timeout_ms=round(timeout_s * 1000),
            tmp_mb=probes.TMP_MB,
            description="made by `cleave doctor --prove`, and removed at its end",
            egress=egress,
        )
        self._made.append(name)  # before it is: a signal may come in between
        self.engine.functions.CreateFunction(
            functions_pb2.CreateFunctionRequest(
                function_id=name, function=resources_pb2.Function(config=config, code_blob=self._code_blob)
            ),
            timeout=CONTROL_TIMEOUT_S,
        )
        return name

    def begin(self, name: str, event: dict[str, Any]) -> Invocation:
        """Send an event and do not wait."""
        request = invocations_pb2.InvokeRequest(name=f"functions/{name}", payload=orjson.dumps(event))
        call = self.engine.invocations.Invoke.future(request, timeout=_WITHIN_S)
        self._under_way.append(call)
        return call

    def ask(self, name: str, handler: Callable[[dict[str, Any]], Any], event: dict[str, Any] | None = None) -> Answer:
        """Run a handler once. Raises grpc.RpcError if no engine answers any more."""
        return self.answer_of(self.begin(name, {**(event or {}), "probe": handler.__name__}))

    def answer_of(self, call: Invocation) -> Answer:
        """What an invocation ended in. Raises grpc.RpcError if no engine answers any more, KeyboardInterrupt after a
        signal."""
        while True:
            if self.stopped.is_set():
                raise KeyboardInterrupt
            try:
                response: invocations_pb2.InvokeResponse = call.result(timeout=_LOOK_EVERY_S)
                return response
            except grpc.FutureTimeoutError:
                continue
            except grpc.RpcError as error:
                assert isinstance(error, grpc.Call)
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    raise
                return error


def _is_left(name: str, touched_s: int) -> bool:
    gone = holder.is_gone(name)
    return time.time() - touched_s > _NEEDED_S if gone is None else gone


def outcome(answer: Answer) -> str:
    """How it ended, or why it did not run."""
    if isinstance(answer, grpc.RpcError):
        return refusal(answer)
    return reports_pb2.Outcome.Name(answer.report.outcome).removeprefix("OUTCOME_").lower()


def peak_bytes(answer: Answer) -> int:
    """The most memory of its sandbox so far."""
    return 0 if isinstance(answer, grpc.RpcError) else answer.report.peak_memory_bytes


def refusal(error: grpc.RpcError) -> str:
    """The engine's words."""
    assert isinstance(error, grpc.Call)
    return error.details() or error.code().name


def said(answer: Answer) -> str:
    """The message of a function's error."""
    if isinstance(answer, grpc.RpcError):
        return ""
    try:
        return str(orjson.loads(answer.function_error.document)["errorMessage"])
    except (ValueError, LookupError, TypeError):
        return ""


def _code() -> io.BytesIO:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        # A fixed date: the same bytes each time.
        archive.writestr(zipfile.ZipInfo("app.py"), Path(handlers.__file__).read_bytes())
        alone = _ALONE.format(source=inspect.getsource(handlers.memory), name=handlers.memory.__name__)
        archive.writestr(zipfile.ZipInfo("alone.py"), alone)
        archive.writestr(zipfile.ZipInfo("never.py"), _NEVER_READY)
    return data


@contextlib.contextmanager
def signals_noted() -> Iterator[threading.Event]:
    """Let Ctrl-C, SIGTERM and SIGHUP set an event for as long as the context lasts, and raise KeyboardInterrupt at its
    end: raised at once, they would stop gRPC or a clean-up in the middle. For the main thread."""
    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda signum, frame: stopped.set()) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped.is_set():
        raise KeyboardInterrupt
