"""The engine's data as protobuf messages, and back. Nothing else: no checks but those that a value has no meaning
without. The enum tables name every member of both sides (tests/unit/rpc/test_convert.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec.structs import asdict

from engine.errors import InvalidArgument
from engine.model.function import LATEST, Egress, Function, FunctionConfig, FunctionState, LogFormat, LogLevel
from engine.model.host import Distribution, EventCount, HostReport, ResourceCount, StartStats, ZygoteFound
from engine.model.invocation import CognitoIdentity, FunctionError, LogLine, Report
from engine.model.layer import layer_arn, parse_layer
from engine.model.names import FunctionRef, function_arn
from engine.model.outcome import OUTCOMES, Outcome, StartKind
from engine.registry.api import ConfigChange
from engine.v1 import host_pb2, invocations_pb2, reports_pb2, resources_pb2

P = TypeVar("P", bound=int)
E = TypeVar("E")

OUTCOME: dict[Outcome, reports_pb2.Outcome.ValueType] = {
    outcome: reports_pb2.Outcome.Value(row.proto) for outcome, row in OUTCOMES.items()
}
START_KIND: dict[StartKind, reports_pb2.StartKind.ValueType] = {
    StartKind.WARM: reports_pb2.START_KIND_WARM,
    StartKind.PARKED: reports_pb2.START_KIND_PARKED,
    StartKind.TEMPLATE: reports_pb2.START_KIND_TEMPLATE,
    StartKind.FORK: reports_pb2.START_KIND_FORK,
    StartKind.EXEC: reports_pb2.START_KIND_EXEC,
}
STATE: dict[FunctionState, resources_pb2.State.ValueType] = {
    FunctionState.PENDING: resources_pb2.STATE_PENDING,
    FunctionState.ACTIVE: resources_pb2.STATE_ACTIVE,
    FunctionState.INACTIVE: resources_pb2.STATE_INACTIVE,
    FunctionState.FAILED: resources_pb2.STATE_FAILED,
}
EGRESS: dict[Egress, resources_pb2.Egress.ValueType] = {
    Egress.NONE: resources_pb2.EGRESS_NONE,
    Egress.INTERNET: resources_pb2.EGRESS_INTERNET,
}
EGRESS_FROM: dict[resources_pb2.Egress.ValueType, Egress] = {
    resources_pb2.EGRESS_UNSPECIFIED: Egress.NONE,
    **{proto: egress for egress, proto in EGRESS.items()},
}

LOG_FORMAT: dict[LogFormat, resources_pb2.LogFormat.ValueType] = {
    LogFormat.TEXT: resources_pb2.LOG_FORMAT_TEXT,
    LogFormat.JSON: resources_pb2.LOG_FORMAT_JSON,
}
LOG_FORMAT_FROM: dict[resources_pb2.LogFormat.ValueType, LogFormat] = {
    resources_pb2.LOG_FORMAT_UNSPECIFIED: LogFormat.TEXT,
    **{proto: log_format for log_format, proto in LOG_FORMAT.items()},
}
LOG_LEVEL: dict[LogLevel, resources_pb2.LogLevel.ValueType] = {
    LogLevel.TRACE: resources_pb2.LOG_LEVEL_TRACE,
    LogLevel.DEBUG: resources_pb2.LOG_LEVEL_DEBUG,
    LogLevel.INFO: resources_pb2.LOG_LEVEL_INFO,
    LogLevel.WARN: resources_pb2.LOG_LEVEL_WARN,
    LogLevel.ERROR: resources_pb2.LOG_LEVEL_ERROR,
    LogLevel.FATAL: resources_pb2.LOG_LEVEL_FATAL,
}
LOG_LEVEL_FROM: dict[resources_pb2.LogLevel.ValueType, LogLevel] = {
    resources_pb2.LOG_LEVEL_UNSPECIFIED: LogLevel.INFO,
    **{proto: level for level, proto in LOG_LEVEL.items()},
}

BLOB_PREFIX = "blobs/"
_DEFAULTS = FunctionConfig(runtime="", handler="")


def function_to_proto(
    function: Function, *, region: str, account: str, preload_bytes: int = 0
) -> resources_pb2.Function:
    """The whole resource, output-only fields included."""
    config = function.config
    ref = FunctionRef(function.name, function.version)
    return resources_pb2.Function(
        name=ref.resource_name(),
        etag=function.etag,
        state=STATE[function.state],
        state_reason=function.state_reason,
        config=resources_pb2.FunctionConfig(
            runtime=config.runtime,
            handler=config.handler,
            memory_mb=config.memory_mb,
            timeout_ms=config.timeout_ms,
            tmp_mb=config.tmp_mb,
            environment=config.environment,
            description=config.description,
            role=config.role,
            egress=EGRESS[config.egress],
            log_format=LOG_FORMAT[config.log_format],
            log_level=LOG_LEVEL[config.log_level],
            system_log_level=LOG_LEVEL[config.system_log_level],
            preload=config.preload,
            own_layout=config.own_layout,
            log_group=config.log_group,
            dead_letter_arn=config.dead_letter_arn,
            kms_key_arn=config.kms_key_arn,
            tracing=config.tracing,
            snap_start=config.snap_start,
            layers=[layer.ref.resource_name() for layer in config.layers],
        ),
        code_blob=BLOB_PREFIX + function.code_sha256,
        code_size_bytes=function.code_size_bytes,
        create_time=timestamp(function.create_time),
        update_time=timestamp(function.update_time),
        arn=function_arn(region, account, ref),
        version=function.version or LATEST,
        preload_memory_bytes=preload_bytes,
        layers=[
            resources_pb2.FunctionLayer(
                name=layer.ref.resource_name(),
                arn=layer_arn(region, account, *layer.ref),
                code_blob=BLOB_PREFIX + layer.code_sha256,
                code_size_bytes=layer.code_size_bytes,
            )
            for layer in config.layers
        ],
    )


def config_change(config: resources_pb2.FunctionConfig, chosen: Collection[str]) -> ConfigChange:
    """The chosen fields of a config as a change; a chosen number that is 0 takes its default. Raises
    InvalidArgument for an egress, a format or a level that does not exist, and for a layer's name that is none."""
    egress = _known("egress", config.egress, EGRESS_FROM, resources_pb2.Egress.DESCRIPTOR)
    log_format = _known("log_format", config.log_format, LOG_FORMAT_FROM, resources_pb2.LogFormat.DESCRIPTOR)
    log_level = _known("log_level", config.log_level, LOG_LEVEL_FROM, resources_pb2.LogLevel.DESCRIPTOR)
    system = _known("system_log_level", config.system_log_level, LOG_LEVEL_FROM, resources_pb2.LogLevel.DESCRIPTOR)
    return ConfigChange(
        runtime=config.runtime if "runtime" in chosen else None,
        handler=config.handler if "handler" in chosen else None,
        memory_mb=(config.memory_mb or _DEFAULTS.memory_mb) if "memory_mb" in chosen else None,
        timeout_ms=(config.timeout_ms or _DEFAULTS.timeout_ms) if "timeout_ms" in chosen else None,
        tmp_mb=(config.tmp_mb or _DEFAULTS.tmp_mb) if "tmp_mb" in chosen else None,
        environment=dict(config.environment) if "environment" in chosen else None,
        description=config.description if "description" in chosen else None,
        role=config.role if "role" in chosen else None,
        egress=egress if "egress" in chosen else None,
        log_format=log_format if "log_format" in chosen else None,
        log_level=log_level if "log_level" in chosen else None,
        system_log_level=system if "system_log_level" in chosen else None,
        preload=tuple(dict.fromkeys(config.preload)) if "preload" in chosen else None,
        own_layout=config.own_layout if "own_layout" in chosen else None,
        log_group=config.log_group if "log_group" in chosen else None,
        dead_letter_arn=config.dead_letter_arn if "dead_letter_arn" in chosen else None,
        kms_key_arn=config.kms_key_arn if "kms_key_arn" in chosen else None,
        tracing=config.tracing if "tracing" in chosen else None,
        snap_start=config.snap_start if "snap_start" in chosen else None,
        layers=tuple(parse_layer(name, "config.layers") for name in config.layers) if "layers" in chosen else None,
    )


def _known(field: str, value: P, known: Mapping[P, E], kind: EnumDescriptor) -> E:
    """The engine's own of an enum's value. Raises InvalidArgument for one of a later API."""
    found = known.get(value)
    if found is None:
        article = "an" if kind.name[0] in "AEIOU" else "a"
        raise InvalidArgument(
            f"{value} is not {article} {kind.name}",
            fix=f"use {' or '.join(one.name for one in kind.values if one.number)}",
            fields={f"config.{field}": f"must be {article} {kind.name}"},
        )
    return found


def blob_sha256(code_blob: str) -> str:
    """The hex SHA-256 that blobs/{sha256} names; "" stays "". Raises InvalidArgument."""
    sha256 = code_blob.removeprefix(BLOB_PREFIX)
    if code_blob and (not code_blob.startswith(BLOB_PREFIX) or not is_sha256(sha256)):
        raise InvalidArgument(
            f"{code_blob!r} is not the name of uploaded code",
            fix="set code_blob to what FunctionService.UploadCode returns",
            fields={"code_blob": "must be blobs/{sha256}"},
        )
    return sha256


def is_sha256(text: str) -> bool:
    """Whether this is a SHA-256 in lower-case hex."""
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)


def report_to_proto(report: Report) -> reports_pb2.Report:
    """What an invocation did and cost."""
    message = reports_pb2.Report(
        request_id=report.request_id,
        executed_version=report.executed_version,
        outcome=OUTCOME[report.outcome],
        start_kind=START_KIND[report.start_kind],
        queue_us=report.queue_us,
        start_us=report.start_us,
        init_us=report.init_us,
        handler_us=report.handler_us,
        total_us=report.total_us,
        billed_ms=report.billed_ms,
        peak_memory_bytes=report.peak_memory_bytes,
        cpu_us=report.cpu_us,
        tmp_written_bytes=report.tmp_written_bytes,
        network_in_bytes=report.network_in_bytes,
        network_out_bytes=report.network_out_bytes,
        memory_mb=report.memory_mb,
    )
    for phase, offset_us in report.timeline:
        message.timeline.add(phase=phase, offset_us=offset_us)
    if report.cost is not None:
        message.cost.CopyFrom(reports_pb2.Cost(**asdict(report.cost)))
    return message


Invocation = invocations_pb2.InvokeRequest | invocations_pb2.InvokeStreamRequest | invocations_pb2.ConverseStart
ForTenant = Invocation | invocations_pb2.InvokeAsyncRequest


def tenant_of(request: ForTenant) -> str | None:
    """For whom it runs; an empty id is one, and is refused later."""
    return request.tenant_id if request.HasField("tenant_id") else None


def identity_of(request: Invocation) -> CognitoIdentity | None:
    """Who called."""
    if not request.HasField("identity"):
        return None
    return CognitoIdentity(request.identity.cognito_identity_id, request.identity.cognito_identity_pool_id)


def function_error_to_proto(error: FunctionError) -> invocations_pb2.FunctionError:
    """A function's own failure, its document untouched."""
    return invocations_pb2.FunctionError(type=error.type, document=error.document)


def log_line_to_proto(line: LogLine) -> invocations_pb2.LogLine:
    """A line of a log."""
    seconds, microseconds = divmod(line.time_us, 1_000_000)
    return invocations_pb2.LogLine(
        time=Timestamp(seconds=seconds, nanos=microseconds * 1_000), text=line.text, request_id=line.request_id
    )


def host_to_proto(host: HostReport) -> host_pb2.GetHostResponse:
    """What the host can enforce, and how busy the engine is."""
    return host_pb2.GetHostResponse(
        checks=[
            host_pb2.Check(
                limit=check.limit,
                enforced=check.enforced,
                weaker=check.weaker,
                mechanism=check.mechanism,
                detail=check.detail,
                fix=check.fix,
            )
            for check in host.checks
        ],
        engine_version=host.engine_version,
        runtimes=host.runtimes,
        sandboxes=host.sandboxes,
        idle_sandboxes=host.idle_sandboxes,
        concurrency=host.concurrency,
        resources=resources_to_proto(host.resources),
        events=events_to_proto(host.events),
        zygotes=zygotes_to_proto(host.zygotes),
        interpreters=[
            host_pb2.Interpreter(runtime=one.runtime, version=one.version, path=one.path) for one in host.interpreters
        ],
        starts=starts_to_proto(host.starts),
    )


def resources_to_proto(counts: Iterable[ResourceCount]) -> list[host_pb2.ResourceCount]:
    """What was made and removed."""
    return [host_pb2.ResourceCount(kind=count.kind, made=count.made, removed=count.removed) for count in counts]


def events_to_proto(counts: Iterable[EventCount]) -> list[host_pb2.EventCount]:
    """What befell sandboxes."""
    return [host_pb2.EventCount(kind=count.kind, count=count.count) for count in counts]


def zygotes_to_proto(zygotes: Iterable[ZygoteFound]) -> list[host_pb2.Zygote]:
    """Warm interpreters."""
    return [
        host_pb2.Zygote(
            runtime=one.runtime,
            preload=one.preload,
            pid=one.pid,
            age_ms=one.age_ms,
            forks=one.forks,
            preload_memory_bytes=one.preload_memory_bytes,
            trouble=one.trouble,
        )
        for one in zygotes
    ]


def starts_to_proto(starts: Iterable[StartStats]) -> list[host_pb2.StartStats]:
    """Invocations by kind of start."""
    return [
        host_pb2.StartStats(
            kind=START_KIND[stats.kind],
            outcomes=[
                host_pb2.OutcomeCount(outcome=OUTCOME[outcome], count=count) for outcome, count in stats.outcomes
            ],
            queue=distribution_to_proto(stats.queue),
            start=distribution_to_proto(stats.start),
            init=distribution_to_proto(stats.init),
            handler=distribution_to_proto(stats.handler),
            total=distribution_to_proto(stats.total),
            steps=[
                host_pb2.StepTimes(step=one.step, count=one.count, sum_us=one.sum_us, max_us=one.max_us)
                for one in stats.steps
            ],
        )
        for stats in starts
    ]


def distribution_to_proto(times: Distribution) -> host_pb2.Distribution:
    """Times in buckets."""
    return host_pb2.Distribution(
        count=times.count,
        sum_us=times.sum_us,
        p50_us=times.p50_us,
        p99_us=times.p99_us,
        max_us=times.max_us,
        buckets=[host_pb2.Bucket(at_most_us=most_us, count=count) for most_us, count in times.buckets],
    )


def timestamp(moment: datetime) -> Timestamp:
    """A moment of UTC."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
