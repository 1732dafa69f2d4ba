"""Messages of engine.v1 as the engine's data, and a failed RPC as the error of engine.errors that it stands for.

The reverse of engine.rpc.convert and engine.rpc.status, which are the server's. Opens no connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from engine.client.results import FunctionOptions, checked, timed_out
from engine.config_address import split_address
from engine.errors import EngineError, InvalidArgument, Throttled, Unavailable
from engine.model.function import Egress, Function, FunctionConfig, FunctionState, LogFormat, LogLevel
from engine.model.invocation import Completion, FunctionError, InvokeRequest, LogLine, Report
from engine.model.kept import SETTINGS, by_awss_names
from engine.model.layer import LayerUse, parse_layer
from engine.model.outcome import OUTCOMES, StartKind
from engine.observe.log_query import NO_END, LogQuery
from engine.v1 import functions_pb2, invocations_pb2, logs_pb2, reports_pb2, resources_pb2

ADDRESS_VARIABLE = "CLEAVE_GRPC_ADDRESS"
DEFAULT_ADDRESS = "127.0.0.1:50051"
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20),  # a result of 6 MB and its envelope
    ("grpc.max_send_message_length", 16 << 20),  # the engine says no to large events, with a reason
    ("grpc.enable_http_proxy", 0),  # an engine listens on loopback, where no proxy leads
    ("grpc.use_local_subchannel_pool", 1),  # a channel that is closed leaves no connection for the next
]
UPLOAD_CHUNK_BYTES = 256 * 1024
_BATCH_LINES = 500
_OUTCOMES = {reports_pb2.Outcome.Value(row.proto): outcome for outcome, row in OUTCOMES.items()}
_KINDS = {reports_pb2.StartKind.Value(f"START_KIND_{kind.name}"): kind for kind in StartKind}

_PREFIXES: Mapping[str, tuple[Callable[[str], int], str]] = {
    "egress": (resources_pb2.Egress.Value, "EGRESS_"),
    "log_format": (resources_pb2.LogFormat.Value, "LOG_FORMAT_"),
    "log_level": (resources_pb2.LogLevel.Value, "LOG_LEVEL_"),
    "system_log_level": (resources_pb2.LogLevel.Value, "LOG_LEVEL_"),
}

Frame = invocations_pb2.InvokeStreamResponse | invocations_pb2.ConverseResponse


def address_of(address: str | None) -> str:
    """Where to connect: what was given, else CLEAVE_GRPC_ADDRESS, else the default. Raises InvalidArgument."""
    address = address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
    try:
        split_address(address)
    except ValueError as error:
        raise InvalidArgument(
            f"cannot connect: {error}", fix="give host:port, such as 127.0.0.1:50051", fields={"address": str(error)}
        ) from None
    return address


def config_to_proto(options: FunctionOptions) -> tuple[resources_pb2.FunctionConfig, list[str]]:
    """Options as a config, and the paths of an update mask that name them. Raises TypeError, InvalidArgument."""
    values = checked(options)
    paths = [f"config.{name}" for name in values]
    for name in values.keys() & _PREFIXES.keys():
        number, prefix = _PREFIXES[name]
        values[name] = number(f"{prefix}{values[name].name}")
    if "layers" in values:
        values["layers"] = [layer.resource_name() for layer in values["layers"]]
    try:
        return resources_pb2.FunctionConfig(**values), paths
    except ValueError as error:  # an integer that does not fit its field
        raise InvalidArgument(f"the settings cannot be: {error}", fix="see FunctionOptions for what may be") from None


def update_request(
    name: str, sha256: str | None, etag: str, options: FunctionOptions
) -> functions_pb2.UpdateFunctionRequest:
    """A change of what is given."""
    config, paths = config_to_proto(options)
    function = resources_pb2.Function(name=f"functions/{name}", config=config, etag=etag)
    if sha256 is not None:
        function.code_blob = f"blobs/{sha256}"
        paths.append("code_blob")
    if not paths:  # an empty mask would mean whatever is set
        paths.append("etag")
    request = functions_pb2.UpdateFunctionRequest(function=function)
    request.update_mask.paths[:] = paths
    return request


def function_from_proto(message: resources_pb2.Function) -> Function:
    """The whole resource."""
    config = message.config
    return Function(
        name=message.name.split("/")[1],
        config=FunctionConfig(
            runtime=config.runtime,
            handler=config.handler,
            memory_mb=config.memory_mb,
            timeout_ms=config.timeout_ms,
            tmp_mb=config.tmp_mb,
            environment=dict(config.environment),
            description=config.description,
            role=config.role,
            egress=Egress[resources_pb2.Egress.Name(config.egress).removeprefix("EGRESS_")],
            log_format=LogFormat[resources_pb2.LogFormat.Name(config.log_format).removeprefix("LOG_FORMAT_")],
            log_level=_level(config.log_level),
            system_log_level=_level(config.system_log_level),
            preload=tuple(config.preload),
            own_layout=config.own_layout,
            aws_settings={
                name: value
                for name, value in by_awss_names({name: getattr(config, name) for name in SETTINGS}).items()
                if value is not None
            },
            layers=tuple(
                LayerUse(parse_layer(layer.name), layer.code_blob.removeprefix("blobs/"), layer.code_size_bytes)
                for layer in message.layers
            ),
        ),
        code_sha256=message.code_blob.removeprefix("blobs/"),
        code_size_bytes=message.code_size_bytes,
        etag=message.etag,
        create_time=message.create_time.ToDatetime(UTC),
        update_time=message.update_time.ToDatetime(UTC),
        version=message.version,
        state=FunctionState[resources_pb2.State.Name(message.state).removeprefix("STATE_")],
        state_reason=message.state_reason,
    )


def _level(number: resources_pb2.LogLevel.ValueType) -> LogLevel:
    """The engine's default where an engine tells none: a log in text has no levels."""
    name = resources_pb2.LogLevel.Name(number).removeprefix("LOG_LEVEL_")
    return LogLevel.INFO if name == "UNSPECIFIED" else LogLevel[name]


def upload_frames(code: bytes) -> Iterator[functions_pb2.UploadCodeRequest]:
    """A zip as an upload's frames."""
    yield functions_pb2.UploadCodeRequest(header=functions_pb2.UploadCodeHeader(size_bytes=len(code)))
    for at in range(0, len(code), UPLOAD_CHUNK_BYTES):
        yield functions_pb2.UploadCodeRequest(chunk=code[at : at + UPLOAD_CHUNK_BYTES])


def invoke_fields(request: InvokeRequest) -> dict[str, Any]:
    """What InvokeRequest, InvokeStreamRequest and ConverseStart of engine.v1 have in common, and the first two's
    encoding where it is not JSON."""
    identity = request.identity
    raw = {"payload_encoding": invocations_pb2.PAYLOAD_ENCODING_RAW} if request.raw else {}
    return raw | {
        "name": request.ref.resource_name(),
        "payload": request.payload,
        "request_id": request.request_id,
        "client_context": request.client_context,
        "timeline": request.timeline,
        "log_mode": invocations_pb2.LOG_MODE_TAIL if request.log_tail else invocations_pb2.LOG_MODE_NONE,
        "tenant_id": request.tenant_id,
        "identity": None
        if identity is None
        else invocations_pb2.CognitoIdentity(
            cognito_identity_id=identity.id, cognito_identity_pool_id=identity.pool_id
        ),
    }


def completion_from_proto(message: invocations_pb2.InvokeResponse) -> Completion:
    """A whole answer."""
    error = message.function_error if message.HasField("function_error") else None
    return Completion(
        _report(message.report),
        payload=message.payload,
        error=None if error is None else FunctionError(error.type, error.document),
        log_tail=message.log_tail,
    )


def item_from_frame(frame: Frame) -> bytes | LogLine | Completion | None:
    """A frame of a stream: its chunk, its line, its end; None for its start."""
    match frame.WhichOneof("frame"):
        case "chunk":
            return frame.chunk
        case "log":
            return line_from_proto(frame.log)
        case "finished":
            last = frame.finished
            error = last.function_error if last.HasField("function_error") else None
            return Completion(
                _report(last.report), error=None if error is None else FunctionError(error.type, error.document)
            )
    return None


def line_from_proto(line: invocations_pb2.LogLine) -> LogLine:
    """A line of a log."""
    return LogLine(line.time.seconds * 1_000_000 + line.time.nanos // 1_000, line.text, line.request_id)


def tail_request(resource_name: str, query: LogQuery, *, follow: bool) -> logs_pb2.TailLogsRequest:
    """What LogService is asked for."""
    request = logs_pb2.TailLogsRequest(
        name=resource_name,
        request_id=query.request_id,
        limit=query.limit,
        follow=follow,
        contains=query.contains,
        batch_lines=_BATCH_LINES,
    )
    if query.since_us:
        request.since.FromMicroseconds(query.since_us)
    if query.until_us != NO_END:
        request.until.FromMicroseconds(query.until_us)
    return request


def lines_from_proto(answer: logs_pb2.TailLogsResponse) -> Iterable[LogLine]:
    """The lines of an answer to such a request."""
    return map(line_from_proto, answer.lines)


def error_from_rpc(error: Any, address: str, timeout_s: float | None) -> EngineError:
    """The error that a failed RPC stands for."""
    try:
        # grpc.aio's errors have what rpc_status asks a call for, under the same names.
        status = rpc_status.from_call(error)
    except ValueError:  # details that contradict the call's own status
        status = None
    if status is not None:
        return _from_status(status)
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return timed_out(timeout_s)
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(
            f"no engine answers at {address}: {details}", fix="start one with `cleave serve`, or give its address"
        )
    made = EngineError(f"{code.name}: {details}", fix="see `cleave doctor`")
    made.grpc_code = code.name  # type: ignore[misc]  # of this one
    return made


def _from_status(status: status_pb2.Status) -> EngineError:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for known in (info, bad, retry):
            detail.Unpack(known)
    metadata = dict(info.metadata)
    fix = metadata.pop("fix", "")
    message = status.message.removesuffix(fix).removesuffix("; ") if fix else status.message
    kind = _errors().get(info.reason, EngineError)
    if issubclass(kind, Throttled):
        return kind(
            message,
            throttle_reason=metadata.get("throttle_reason", ""),
            retry_after_ms=retry.retry_delay.ToMilliseconds(),
            fix=fix,
            metadata=metadata,
        )
    if issubclass(kind, InvalidArgument):
        fields = {violation.field: violation.description for violation in bad.field_violations}
        return kind(message, fix=fix, metadata=metadata, fields=fields)
    made = EngineError.__new__(kind)
    EngineError.__init__(made, message, fix=fix, metadata=metadata)
    return made


def _errors() -> dict[str, type[EngineError]]:
    found: dict[str, type[EngineError]] = {}
    classes: list[type[EngineError]] = [EngineError]
    for cls in classes:
        found.setdefault(cls.reason, cls)
        classes += cls.__subclasses__()
    return found


def _report(message: reports_pb2.Report) -> Report:
    return Report(
        request_id=message.request_id,
        outcome=_OUTCOMES[message.outcome],
        start_kind=_KINDS[message.start_kind],
        memory_mb=message.memory_mb,
        executed_version=message.executed_version,
        timeline=tuple((mark.phase, mark.offset_us) for mark in message.timeline),
        **{name: getattr(message, name) for name in _NUMBERS},
    )


_NUMBERS = [
    field.name
    for field in reports_pb2.Report.DESCRIPTOR.fields
    if field.name.endswith(("_us", "_ms", "_bytes")) and field.name in Report.__struct_fields__
]
