"""One function's life in one sandbox: the init phase, then one event at a time. runtime.py says what is sent.

Guarantees: every EVENT is answered by one frame, after any chunks, unless user code ends the process; what the handler
wrote is in the log's pipe before that frame is sent.
"""

from __future__ import annotations

import os
import time

from . import errors, interpreter, loader, logsetup, marshal, moments, snapstart, wire
from .answer import Answer
from .channel import Channel, ProtocolError
from .context import LambdaContext
from .farewell import Farewell
from .inflow import InputStream, StreamingEvent
from .streaming import PLAIN, Runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .stdio import Stdio

    Handler = Callable[[Any, Any], Any]
    Frame = tuple[int, bytes]  # kind and body

_FAULT_STATUS = 70  # EX_SOFTWARE of sysexits.h: the stream could not be followed

_TEXT_OR_NONE = (str, type(None))
_SPEC = {"handler": str, "environment": dict, "result_limit_bytes": int, "log_format": _TEXT_OR_NONE}
_META = {"request_id": str, "timeout_ms": int, "deadline_ms": int, "trace_id": _TEXT_OR_NONE}
_META["stream_limit_bytes"] = (int, type(None))
_DUE = {wire.EVENT: wire.EVENT_LIMIT_BYTES, wire.INPUT: wire.CHUNK_LIMIT_BYTES, wire.INPUT_END: 0, wire.LEAVE: 0}


class Guest:
    """What answers the engine."""

    def __init__(self, events_fd: int, answers_fd: int, stdio: Stdio) -> None:
        self.stdio = stdio
        self._channel = Channel(events_fd, answers_fd)
        self._runner = Runner(self._channel)
        self._farewell = Farewell()
        self._pid = 0
        self._spec: dict[str, Any] = {}
        self._json_log = False
        self._request_id = ""
        self._tenant_id: str | None = None
        self._kept: list[object] = []
        self._moments: moments.Moments | None = None  # of the event under way, if it asks for them
        stdio.install()

    def serve(self) -> int:
        """Serve until the engine ends the stream; returns the exit status. User code's exits come out of here. The
        process and its descriptors are the guest's from here on, not before."""
        self._pid = os.getpid()
        self.stdio.take()
        os.set_inheritable(self._channel.events_fd, False)
        os.set_inheritable(self._channel.answers_fd, False)
        try:
            return self._serve()
        except (ProtocolError, OSError) as error:
            if not isinstance(error, (BrokenPipeError, ConnectionResetError)):
                self.stdio.write(f"the control stream of the sandbox is lost: {error}\n")
            return _FAULT_STATUS

    def _serve(self) -> int:
        spec = self._channel.receive({wire.SPEC: wire.SPEC_LIMIT_BYTES})
        if spec is None:
            return 0
        self._prepare(_json_object(spec[1], _SPEC))
        # A frame of another kind is left to who reads events.
        ahead = self._channel.next_kind() == wire.PREPARE
        if ahead:
            self._channel.receive({wire.PREPARE: 0})
        event = None if ahead else self._receive_event()
        if event is None and not ahead:
            return 0
        began = time.time()
        handler = self._initialize()
        if handler is None:
            return 1
        self._mark(moments.READY)
        if self._farewell.noticed():
            self._channel.send(wire.FAREWELL)
        self._channel.send(wire.READY)
        if event is None:
            event = self._receive_event()
            deadline_ms = 0 if event is None else event[0]["deadline_ms"]
        else:
            if not event[0].get("covers_init"):
                began = time.time()
            deadline_ms = int(began * 1000) + event[0]["timeout_ms"]
        while event is not None:
            kind, body = self._invoke(handler, event[0], event[1], deadline_ms)
            event = None
            if os.getpid() != self._pid:  # user code has forked and returned twice
                return 0
            self.stdio.settle()
            self._tell_moments()
            if self._farewell.noticed():
                self._channel.send(wire.FAREWELL)
            self._channel.send(kind, body)
            del body
            event = self._receive_event()
            if event is not None:
                deadline_ms = event[0]["deadline_ms"]
        return 0

    def _receive_event(self) -> tuple[dict[str, Any], memoryview] | None:
        kind = 0
        while kind != wire.EVENT:  # what is before it is left of the last event's input
            received = self._channel.receive(_DUE)
            if received is None:
                return None
            kind, body = received
            if kind == wire.LEAVE:
                self._farewell.say(self._runner)
                return None
        start = wire.META.size
        end = start + wire.META.unpack_from(body)[0] if len(body) >= start else 0
        if not start <= end <= len(body):
            raise ProtocolError("the meta of an event is longer than the event")
        view = memoryview(body)
        meta = _json_object(view[start:end], _META)
        self._moments = moments.Moments() if meta.get("timeline") else None
        return meta, view[end:]

    def _mark(self, moment: int) -> None:
        if self._moments is not None:
            self._moments.mark(moment)

    def _tell_moments(self) -> None:
        if self._moments is not None:
            self._moments.mark(moments.ANSWERED)
            self._channel.send(wire.TIMELINE, self._moments.frame())

    def _prepare(self, spec: dict[str, Any]) -> None:
        """All that needs no code: with the first event, and not before, the code is there."""
        self._spec = spec
        environment = spec["environment"]
        log_format = spec.get("log_format") or environment.get("AWS_LAMBDA_LOG_FORMAT", "")
        self._json_log = log_format.upper() == "JSON"
        try:
            self._kept.append(interpreter.prepare(environment))
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"not an environment: {error}") from None
        logsetup.arm(self._request_ids, self._json_log)
        snapstart.arm()

    def _initialize(self) -> Handler | None:
        """The init phase; None where it failed and the engine was told so."""
        root = interpreter.task_root(self._spec["environment"])
        interpreter.enter(root)
        self._mark(moments.PREPARED)
        failure = None
        try:
            handler = loader.load(self._spec["handler"], root)
            self._mark(moments.IMPORTED)
            self._runner.prepare(handler)
        except Exception as error:
            failure = self._failure(error)
        self.stdio.settle()
        if failure is None:
            self.stdio.mark()
            return handler
        self._tell_moments()
        self._channel.send(wire.INIT_ERROR, failure)
        return None

    def _request_ids(self) -> tuple[str, str | None]:
        return self._request_id, self._tenant_id

    def _failure(self, error: BaseException) -> bytes:
        """Write the record of an error to the log; returns its document."""
        document = errors.document(error, self._request_id)
        self.stdio.settle()
        self.stdio.write(errors.log_record(document, self._json_log))
        return marshal.encode(document)

    def _invoke(self, handler: Handler, meta: dict[str, Any], payload: memoryview, deadline_ms: int) -> Frame:
        self._request_id = meta["request_id"]
        self._tenant_id = meta.get("tenant_id")
        interpreter.set_trace_id(meta.get("trace_id"))
        source: InputStream | None = None
        answer = Answer(self._channel, meta.get("stream_limit_bytes") or 0, self._spec["result_limit_bytes"])
        try:
            context = LambdaContext(self._spec, meta, deadline_ms, answer)
            event = bytes(payload) if meta.get("raw_payload") else _decode(payload)
            payload.release()  # nobody holds it twice while the handler runs
            if meta.get("input"):
                source = InputStream(self._channel)
                event = StreamingEvent(event, source)
            result = handler(event, context)
            if type(result) not in PLAIN:
                result = self._runner.settle(result, answer)
            body = b"" if answer.used else _encode(result)
        except Exception as error:
            last = answer.end()
            return last if answer.overflowed else (wire.ERROR, self._failure(error))
        finally:
            if source is not None:
                source.end()
        if not answer.used:
            if len(body) <= self._spec["result_limit_bytes"]:
                answer.end()
                return wire.RESULT, body
            answer.write_large(body)
        return answer.end()


def _json_object(data: bytes | bytearray | memoryview, kinds: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with these members of these types."""
    try:
        value = marshal.decode(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProtocolError("not a JSON object")
    for name, kind in kinds.items():
        if not isinstance(value.get(name), kind):
            raise ProtocolError(f"{name} is of type {type(value.get(name)).__name__}")
    return value


def _decode(payload: memoryview) -> Any:
    try:
        return marshal.decode(payload) if payload else {}
    except (ValueError, RecursionError) as error:
        raise errors.Fault(errors.UNMARSHAL_ERROR, f"Unable to unmarshal input: {error}") from None


def _encode(result: Any) -> bytes:
    """As AWS does, bytes are the answer as they are, and everything else is written as JSON."""
    if isinstance(result, bytes):
        return result
    try:
        return marshal.encode(result)
    except Exception as error:
        raise errors.Fault(errors.MARSHAL_ERROR, f"Unable to marshal response: {error}") from None
