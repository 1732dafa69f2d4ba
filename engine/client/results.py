"""What a call gives back, and how it fails, whichever way it went: over gRPC or to an engine in this process.

What the engine refuses is an error of engine.errors. A function's own failure is FunctionFailed, so that the two never
mix, as in engine.model.outcome.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypedDict

from engine.errors import EngineError, InvalidArgument, InvalidPayload
from engine.model.function import Egress, LogFormat, LogLevel
from engine.model.invocation import CognitoIdentity, Completion, InvokeRequest, Report
from engine.model.layer import LayerRef, parse_layer
from engine.model.names import FunctionRef, parse_aws_name, parse_resource_name

Level = Literal["trace", "debug", "info", "warn", "error", "fatal"]


class FunctionOptions(TypedDict, total=False):
    """A function's settings; one that is not given keeps its value, on create its default. MB is 2^20 bytes."""

    runtime: str  # such as "python3.11"; default: the engine's own Python
    handler: str  # "module.function"; default: "app.handler"
    memory_mb: int  # 128 to 10,240; default: 128
    timeout_ms: int  # 1,000 to 900,000; default: 3,000
    tmp_mb: int  # 512 to 10,240; default: 512
    environment: Mapping[str, str]  # all of it
    description: str
    role: str  # an ARN
    egress: Egress | Literal["none", "internet"]
    log_format: LogFormat | Literal["text", "json"]  # default: text
    log_level: LogLevel | Level  # of a log in JSON, the least of the function's own lines that is kept
    system_log_level: LogLevel | Level  # the same of the engine's: debug, info or warn
    log_group: str  # that the function is told of; default: /aws/lambda/{function}
    dead_letter_arn: str  # of a queue or a topic; this and the next three are kept, and nothing acts on them yet
    kms_key_arn: str
    tracing: bool
    snap_start: bool
    preload: list[str] | tuple[str, ...]  # modules of the interpreter to import ahead
    own_layout: bool  # an address-space layout of its own for each sandbox; default: False
    layers: Sequence[str | LayerRef]  # lowest first, at most 5: name:version, or an ARN


class InvokeOptions(TypedDict, total=False):
    """What an invocation may be given beside its event."""

    qualifier: str | None  # a version or an alias
    request_id: str  # a UUID to run it under; default: made
    client_context: object  # for context.client_context: an object of JSON
    tenant_id: str | None  # for whom it runs: the sandboxes of a tenant serve nobody else
    identity: CognitoIdentity | None  # for context.identity
    timeline: bool  # fill report.timeline
    raw: bool  # the handler gets the event, which has to be bytes, as bytes; not of a conversation


ENUMS: Mapping[str, type[enum.Enum]] = MappingProxyType(
    {"egress": Egress, "log_format": LogFormat, "log_level": LogLevel, "system_log_level": LogLevel}
)
"""The settings that may be given by name."""


class FunctionFailed(Exception):
    """The function failed: its code's fault, not the engine's. The traceback inside the function is a note of it."""

    def __init__(self, completion: Completion) -> None:
        assert completion.error is not None
        self.type = completion.error.type
        """AWS's errorType, such as "ValueError" or "Sandbox.Timedout"."""
        self.document = completion.error.document
        """AWS's error document: JSON, verbatim."""
        self.report = completion.report
        said = _object(self.document)
        self.message = str(said.get("errorMessage", ""))
        super().__init__(f"{self.type}: {self.message}" if self.message else self.type)
        stack = said.get("stackTrace")
        if isinstance(stack, list) and stack:
            self.add_note("In the function:\n" + "".join(str(line) for line in stack).rstrip())


class TimedOut(EngineError, TimeoutError):
    """The caller's own time was up before the answer came; what ran is killed."""

    grpc_code = "DEADLINE_EXCEEDED"
    http_status = 504
    reason = "TIMED_OUT"


@dataclass(frozen=True, slots=True)
class Result:
    """How an invocation ended."""

    payload: bytes
    """What the function returned: JSON, or what its handler yielded."""
    report: Report
    log: bytes = b""
    """The end of its log, at most 4 KB, if asked for."""
    error: FunctionFailed | None = field(default=None, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the function returned."""
        return self.error is None

    @property
    def value(self) -> Any:
        """The payload's JSON. Raises FunctionFailed if the function failed, ValueError if it is no JSON."""
        if self.error is not None:
            raise self.error
        return json.loads(self.payload)


def result_of(completion: Completion, *, check: bool) -> Result:
    """A completion as its caller gets it. Raises FunctionFailed where it is to be checked."""
    error = None if completion.error is None else FunctionFailed(completion)
    if error is not None and check:
        raise error
    return Result(completion.payload, completion.report, completion.log_tail, error)


def event_bytes(event: object) -> bytes:
    """An event as JSON text; bytes are JSON text already. Raises TypeError, ValueError for what JSON has not."""
    if isinstance(event, bytes | bytearray | memoryview):
        return bytes(event)
    return b"" if event is None else json.dumps(event).encode()


def request_of(name: str, event: object, options: InvokeOptions, *, log: bool, talk: bool = False) -> InvokeRequest:
    """An invocation. Raises TypeError, ValueError, InvalidArgument for what cannot be sent."""
    if unknown := options.keys() - InvokeOptions.__annotations__.keys():
        known = ", ".join(InvokeOptions.__annotations__)
        raise TypeError(f"an invocation has no {', '.join(sorted(unknown))}; it has {known}")
    raw, payload = options.get("raw", False), event_bytes(event)
    if talk and payload and not payload.lstrip().startswith(b"{"):
        raise InvalidPayload(
            "the event of a conversation is a JSON object",
            fix="send an object, or none; what is not an event goes into the chunks",
            fields={"event": "must be a JSON object"},
        )
    if raw and talk:
        raise TypeError("the event of a conversation cannot be raw: it is an object, which brings the input along")
    if raw and not isinstance(event, bytes | bytearray | memoryview):
        raise TypeError(f"a raw event is bytes, not {type(event).__name__}")
    return InvokeRequest(
        ref_of(name, options.get("qualifier")),
        payload,
        options.get("request_id", ""),
        event_bytes(options.get("client_context")),
        options.get("timeline", False),
        log,
        raw=raw,
        tenant_id=options.get("tenant_id"),
        identity=options.get("identity"),
    )


def ref_of(name: str, qualifier: str | None = None) -> FunctionRef:
    """A function as users name it: its name, name:qualifier, ARN or functions/{function}. Raises InvalidArgument."""
    return parse_resource_name(name) if name.startswith("functions/") else parse_aws_name(name, qualifier)


def layer_of(layer: str | LayerRef) -> LayerRef:
    """A layer version as users name it. Raises InvalidArgument."""
    return parse_layer(layer, "layers") if isinstance(layer, str) else layer


def checked(options: FunctionOptions) -> dict[str, Any]:
    """The options as keywords. Raises TypeError for one that does not exist, InvalidArgument for no such
    egress and for what is no layer's name."""
    values: dict[str, Any] = dict(options)
    if unknown := values.keys() - FunctionOptions.__annotations__.keys():
        known = ", ".join(FunctionOptions.__annotations__)
        raise TypeError(f"a function has no {', '.join(sorted(unknown))}; it has {known}")
    for name in values.keys() & ENUMS.keys():
        values[name] = _member(name, ENUMS[name], values[name])
    if "preload" in values:
        values["preload"] = tuple(dict.fromkeys(values["preload"]))
    if "layers" in values:
        values["layers"] = tuple(layer_of(layer) for layer in values["layers"])
    return values


def _member(name: str, kind: type[enum.Enum], value: Any) -> enum.Enum:
    members = {member.name.lower(): member for member in kind}
    if isinstance(value, kind):
        return value
    if value in members:
        return members[value]
    names = " or ".join(f'"{known}"' for known in members)
    what = name.replace("_", " ")
    article = "an" if what[0] in "aeiou" else "a"
    raise InvalidArgument(
        f"{value!r} is not {article} {what}", fix=f"use {names}", fields={f"config.{name}": f"must be {names}"}
    )


def timed_out(timeout_s: float | None) -> TimedOut:
    """The error of a call that took too long."""
    took = "in time" if timeout_s is None else f"within {timeout_s:g} s"
    return TimedOut(f"the call did not end {took}", fix="give it more time with timeout_s")


def _object(document: bytes) -> dict[str, Any]:
    try:
        said = json.loads(document)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
