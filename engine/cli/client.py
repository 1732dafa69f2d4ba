"""The connection to an engine: stubs of engine.v1 over one channel, and what an RPC's failure means to its user.

Guarantees that every grpc.RpcError raised inside failures_of() leaves it as a Problem with a fix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from engine.cli.options import Choices
from engine.cli.problems import ExitCode, Problem, usage
from engine.config_address import split_address
from engine.errors import InvalidArgument
from engine.model.names import FunctionRef, parse_aws_name, parse_resource_name
from engine.v1 import (
    aliases_pb2_grpc,
    code_pb2_grpc,
    code_signing_pb2_grpc,
    concurrency_pb2_grpc,
    event_sources_pb2_grpc,
    events_pb2_grpc,
    function_settings_pb2_grpc,
    functions_pb2,
    functions_pb2_grpc,
    host_pb2_grpc,
    invocations_pb2_grpc,
    layers_pb2_grpc,
    logs_pb2_grpc,
    metrics_pb2_grpc,
    policies_pb2_grpc,
    tags_pb2_grpc,
    timelines_pb2_grpc,
    urls_pb2_grpc,
    versions_pb2_grpc,
)

CONTROL_TIMEOUT_S = 30.0
"""How long a control call may take; invocations last as long as their function may."""
UPLOAD_TIMEOUT_S = 600.0
_MESSAGE_LIMIT_BYTES = 48 * 1024 * 1024  # what an engine's settings allow for an event or a result, and its envelope
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_LIMIT_BYTES),  # the engine says no to large events, with a reason
    ("grpc.enable_http_proxy", 0),  # an engine listens on loopback, where no proxy leads
]


class Engine:
    """Stubs of every service."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.functions = functions_pb2_grpc.FunctionServiceStub(channel)
        self.code = code_pb2_grpc.CodeServiceStub(channel)
        self.versions = versions_pb2_grpc.VersionServiceStub(channel)
        self.aliases = aliases_pb2_grpc.AliasServiceStub(channel)
        self.concurrency = concurrency_pb2_grpc.ConcurrencyServiceStub(channel)
        self.code_signing = code_signing_pb2_grpc.CodeSigningServiceStub(channel)
        self.event_sources = event_sources_pb2_grpc.EventSourceServiceStub(channel)
        self.function_settings = function_settings_pb2_grpc.FunctionSettingsServiceStub(channel)
        self.events = events_pb2_grpc.EventServiceStub(channel)
        self.layers = layers_pb2_grpc.LayerServiceStub(channel)
        self.policies = policies_pb2_grpc.PolicyServiceStub(channel)
        self.tags = tags_pb2_grpc.TagServiceStub(channel)
        self.urls = urls_pb2_grpc.UrlServiceStub(channel)
        self.invocations = invocations_pb2_grpc.InvocationServiceStub(channel)
        self.logs = logs_pb2_grpc.LogServiceStub(channel)
        self.metrics = metrics_pb2_grpc.MetricsServiceStub(channel)
        self.timelines = timelines_pb2_grpc.TimelineServiceStub(channel)
        self.host = host_pb2_grpc.HostServiceStub(channel)


@contextmanager
def connected(choices: Choices) -> Iterator[Engine]:
    """A channel for as long as the context lasts. Connects with the first call."""
    try:
        _, port = split_address(choices.address)
    except ValueError as error:
        raise usage("cannot connect", str(error), "give --address host:port, such as 127.0.0.1:50051") from None
    if port == 0:
        raise usage(
            "cannot connect", "port 0 is no port to connect to", "read the port in ports.json of the data directory"
        )
    with grpc.insecure_channel(choices.address, options=_CHANNEL_OPTIONS) as channel:
        yield Engine(channel)


@contextmanager
def failures_of(what: str, choices: Choices) -> Iterator[None]:
    """Turn an RPC's failure into a Problem: `what` failed."""
    try:
        yield
    except grpc.RpcError as error:
        raise _problem(what, choices, error) from None


def function_ref(name: str, qualifier: str | None = None) -> FunctionRef:
    """A function as users name it: its name, name:qualifier, ARN or functions/{function}."""
    try:
        if name.startswith("functions/"):
            return parse_resource_name(name)
        return parse_aws_name(name, qualifier)
    except InvalidArgument as error:
        raise usage(f"{name!r} names no function", error.message, f"{error.fix}; `cleave list` shows them") from None


@contextmanager
def asking(choices: Choices, what: str, name: str) -> Iterator[Engine]:
    """A connection for calls about a function: what fails there is a Problem, and what is not there has its nearest
    name."""
    with connected(choices) as engine:
        try:
            with failures_of(what, choices):
                yield engine
        except Problem as problem:
            missing = problem.why == f"Function not found: {name}"  # and not a part of it
            raise (not_found(engine, what, name, choices, problem) if missing else problem) from None


def not_found(engine: Engine, what: str, name: str, choices: Choices, problem: Problem) -> Problem:
    """`problem`, and if it says that there is no such function, the function whose name is nearest."""
    if problem.code != "NOT_FOUND":
        return problem
    try:
        page = engine.functions.ListFunctions(functions_pb2.ListFunctionsRequest(page_size=1000), timeout=5)
    except grpc.RpcError:
        return problem
    near = get_close_matches(name, [function.name.removeprefix("functions/") for function in page.functions], 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return Problem(
        what,
        problem.why,
        choices.command("list") + hint,
        code=problem.code,
        reason=problem.reason,
        fields=problem.fields,
    )


def _problem(what: str, choices: Choices, error: grpc.RpcError) -> Problem:
    assert isinstance(error, grpc.Call)
    code, details = error.code(), error.details() or ""
    status = _status(error)
    if status is not None:
        return _refusal(what, code.name, status)
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            why, fix = f"no engine answers at {choices.address}", "cleave serve"
            if "http1" in details.lower():
                why = f"{choices.address} speaks HTTP/1, not gRPC"
                fix = "give the gRPC address: --address 127.0.0.1:50051"
            return Problem(what, why, fix, exit_code=ExitCode.UNREACHABLE, code=code.name, reason="ENGINE_UNREACHABLE")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            why, fix = f"{choices.address} did not answer in time", "cleave doctor"
            return Problem(what, why, fix, exit_code=ExitCode.UNREACHABLE, code=code.name, reason="ENGINE_SLOW")
        case grpc.StatusCode.UNIMPLEMENTED:
            why, fix = f"the engine at {choices.address} does not serve this: {details}", "cleave version"
            return Problem(what, why, fix, code=code.name)
        case _:
            return Problem(what, details or code.name, "cleave doctor", code=code.name)


def _status(error: grpc.Call) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(error)  # type: ignore[no-any-return]
    except ValueError:  # details that contradict the call's own status
        return None


def _refusal(what: str, code: str, status: status_pb2.Status) -> Problem:
    reason, fix, throttled, retry_after_ms = "", "", "", None
    fields: dict[str, str] = {}
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, fix = info.reason, info.metadata.get("fix", "")
            throttled = info.metadata.get("throttle_reason", "")
        elif detail.Unpack(bad):
            fields |= {violation.field: violation.description for violation in bad.field_violations}
        elif detail.Unpack(retry):
            retry_after_ms = retry.retry_delay.ToMilliseconds()
    why = status.message.removesuffix(fix).removesuffix("; ") if fix else status.message
    if throttled:
        why = f"{why} ({throttled})"
    if not fix:
        fix = "try again" if retry_after_ms is not None else "cleave doctor"
    problem = Problem(what, why, fix, code=code, reason=reason, fields=fields, retry_after_ms=retry_after_ms)
    problem.throttle_reason = throttled
    return problem
