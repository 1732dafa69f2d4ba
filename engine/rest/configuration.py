"""A function between the registry and AWS's words: the FunctionConfiguration document, and the settings of a create or
an update.

Guarantees that a parameter which this release cannot honour is refused by its name, unless its value asks for nothing
(empty, or what a function has anyway); nothing is dropped in silence.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from engine.errors import InvalidArgument
from engine.model.function import Function, FunctionState, LogFormat, LogLevel
from engine.model.layer import layer_arn
from engine.model.names import FunctionRef, function_arn
from engine.registry.api import ConfigChange
from engine.registry.function_settings import runtime_version_arn
from engine.registry.validate import DEAD_LETTERS
from engine.rest.constraints import aws_path, problem, refusal
from engine.rest.shapes import Params, is_empty

NOT_HONOURED: Mapping[str, str] = {
    "PublishTo": "functions of capacity providers are not served",
    "VpcConfig": "subnets and security groups are not served",
    "FileSystemConfigs": "file systems are not served",
    "ImageConfig": "container images are not served",
    "TenancyConfig": "a tenant is kept apart wherever an invocation names one (TenantId), and cannot be demanded",
    "CapacityProviderConfig": "capacity providers are not served",
    "DurableConfig": "durable executions are not served",
    "RuntimeConfig": "a runtime's version cannot be chosen",
    "AcceleratorConfig": "accelerators are not served",
    "Architectures": "code runs on the processor of the engine's machine",
    "Code.S3ObjectStorageMode": "code is copied from S3 (COPY)",
    "Code.SourceKMSKeyArn": "customer keys are not served",
    "S3ObjectStorageMode": "code is copied from S3 (COPY)",
    "Content.S3ObjectStorageMode": "code is copied from S3 (COPY)",
    "SourceKMSKeyArn": "customer keys are not served",
    "DurableExecutionName": "durable executions are not served",
}
"""Members of served operations that this release cannot honour, and why."""


KEPT = ("DeadLetterConfig", "KMSKeyArn", "SnapStart", "TracingConfig", "VpcConfig")
"""Members that are stored and given back as they are, and a VpcConfig is only ever the empty one. With them is
LoggingConfig.LogGroup, which is what the function is told of its log group."""
_NO_VPC: Mapping[str, Any] = {
    "SubnetIds": [],
    "SecurityGroupIds": [],
    "VpcId": "",
    "Ipv6AllowedForDualStack": False,
}
_NOT_LISTED = ("State", "LastUpdateStatus", "RuntimeVersionConfig")


class Documents:
    """Writes and reads AWS's documents of functions for one region, account and processor architecture."""

    def __init__(self, *, region: str, account: str, architecture: str) -> None:
        self.region = region
        self.account = account
        self.architecture = architecture

    def arn(self, name: str, qualifier: str = "") -> str:
        """The ARN, qualified if a qualifier is given, also if that is $LATEST."""
        arn = function_arn(self.region, self.account, FunctionRef(name))
        return f"{arn}:{qualifier}" if qualifier else arn

    def runtime_version_arn(self, runtime: str) -> str:
        """Names the interpreter that a function runs on: the host's own."""
        return runtime_version_arn(self.region, runtime)

    def configuration(self, function: Function, qualifier: str = "") -> dict[str, Any]:
        """The FunctionConfiguration; `qualifier` is what the client gave."""
        config = function.config
        kept = config.aws_settings
        document: dict[str, Any] = {
            "FunctionName": function.name,
            "FunctionArn": self.arn(function.name, qualifier),
            "Runtime": config.runtime,
            "Role": config.role,
            "Handler": config.handler,
            "CodeSize": function.code_size_bytes,
            "Description": config.description,
            "Timeout": -(-config.timeout_ms // 1_000),
            "MemorySize": config.memory_mb,
            "LastModified": last_modified(function.update_time),
            "CodeSha256": base64.b64encode(bytes.fromhex(function.code_sha256)).decode(),
            "Version": function.version,
            "TracingConfig": kept.get("TracingConfig", {"Mode": "PassThrough"}),
            "RevisionId": function.etag,
            "PackageType": "Zip",
            "Architectures": [self.architecture],
            "EphemeralStorage": {"Size": config.tmp_mb},
            "SnapStart": {**kept.get("SnapStart", {"ApplyOn": "None"}), "OptimizationStatus": "Off"},
            "LoggingConfig": _logging(function),
            "RuntimeVersionConfig": {"RuntimeVersionArn": self.runtime_version_arn(config.runtime)},
            **_state(function),
        }
        if config.environment:
            document["Environment"] = {"Variables": dict(config.environment)}
        if config.layers:
            document["Layers"] = [
                {"Arn": layer_arn(self.region, self.account, *layer.ref), "CodeSize": layer.code_size_bytes}
                for layer in config.layers
            ]
        if "VpcConfig" in kept:
            document["VpcConfig"] = {**_NO_VPC, **kept["VpcConfig"]}
        return document | {name: kept[name] for name in ("DeadLetterConfig", "KMSKeyArn") if name in kept}

    def created(self, function: Function) -> dict[str, Any]:
        """What CreateFunction answers: nothing has been updated yet, and the ARN is the function's also where a version
        was published of it."""
        document = self.configuration(function)
        return {name: value for name, value in document.items() if not name.startswith("LastUpdateStatus")}

    def listed(self, function: Function, qualifier: str = "") -> dict[str, Any]:
        """What stands in lists: without the state, docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html."""
        document = self.configuration(function, qualifier)
        return {name: value for name, value in document.items() if not name.startswith(_NOT_LISTED)}

    def check_honoured(self, params: Params) -> None:
        """Raise InvalidArgument naming every parameter that asks for what is not served."""
        neutral: dict[str, Any] = {
            "Architectures": [self.architecture],
            "Code.S3ObjectStorageMode": "COPY",
            "S3ObjectStorageMode": "COPY",
        }
        found = [
            (path, problem(None, aws_path(path), value, f"Member must not be set: {_reason(path)} by this release"))
            for path, value in _settings(params)
            if _reason(path) and not is_empty(value) and value != neutral.get(path)
        ]
        if found:
            raise refusal(found)


def change_of(params: Params) -> ConfigChange:
    """The settings that a CreateFunction or an UpdateFunctionConfiguration names."""
    environment = params.get("Environment")
    timeout_s = params.get("Timeout")
    logging = params.get("LoggingConfig", {})
    log_format, level, system_level = (
        logging.get(name) for name in ("LogFormat", "ApplicationLogLevel", "SystemLogLevel")
    )
    return ConfigChange(
        runtime=params.get("Runtime"),
        handler=params.get("Handler"),
        memory_mb=params.get("MemorySize"),
        timeout_ms=None if timeout_s is None else timeout_s * 1_000,
        tmp_mb=params.get("EphemeralStorage", {}).get("Size"),
        environment=None if environment is None else environment.get("Variables", {}),
        description=params.get("Description"),
        role=params.get("Role"),
        log_format=None if log_format is None else LogFormat(log_format),
        log_level=None if level is None else LogLevel(level),
        system_log_level=None if system_level is None else LogLevel(system_level),
        aws_settings=_kept(params),
    )


def _kept(params: Params) -> Mapping[str, Any] | None:
    """The settings that are only kept; one that is empty is taken away. Raises InvalidArgument."""
    kept = {name: params[name] for name in KEPT if name in params}
    if "LogGroup" in params.get("LoggingConfig", {}):
        kept["LogGroup"] = params["LoggingConfig"]["LogGroup"]
    target = kept.get("DeadLetterConfig", {}).get("TargetArn", "")
    if target and not DEAD_LETTERS.fullmatch(target):
        raise InvalidArgument(
            f"The target {target} of the DeadLetterConfig is not an SQS queue or an SNS topic.",
            fields={"DeadLetterConfig.TargetArn": "must be of a queue or a topic"},
        )
    if "DeadLetterConfig" in kept and not target:
        kept["DeadLetterConfig"] = None
    if not kept.get("KMSKeyArn", True):
        kept["KMSKeyArn"] = None
    for name in ("SnapStart", "TracingConfig"):
        if name in kept and not kept[name]:
            kept[name] = None
    return kept or None


def check_levels(params: Params, function: Function | None) -> None:
    """Raise InvalidArgument, with AWS's text, where levels are given for a log that is text."""
    logging = params.get("LoggingConfig", {})
    current = LogFormat.TEXT if function is None else function.config.log_format
    if LogFormat(logging.get("LogFormat", current)) is LogFormat.TEXT:
        levels = [name for name in ("ApplicationLogLevel", "SystemLogLevel") if name in logging]
        if levels:
            raise InvalidArgument(
                'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or '
                'change the LogFormat to "JSON" and try again.',
                fields={f"LoggingConfig.{name}": "is for logs in JSON" for name in levels},
            )


def _reason(path: str) -> str:
    """Why a parameter cannot be honoured; "" if it can."""
    return NOT_HONOURED.get(path, "") or NOT_HONOURED.get(path.split(".")[0], "")


def _settings(params: Params) -> Iterator[tuple[str, Any]]:
    """Paths and values, one level into structures."""
    for name, value in params.items():
        if isinstance(value, dict) and name not in ("Tags",):
            yield from ((f"{name}.{inner}", item) for inner, item in value.items())
        else:
            yield name, value


def _state(function: Function) -> dict[str, str]:
    state = {"State": function.state.value.capitalize(), "LastUpdateStatus": "Successful"}
    if function.state is FunctionState.FAILED:
        state |= {"StateReasonCode": "InternalError", "LastUpdateStatus": "Failed"}
        state |= {"LastUpdateStatusReason": function.state_reason, "LastUpdateStatusReasonCode": "InternalError"}
    elif function.state is FunctionState.PENDING:
        state |= {"StateReasonCode": "Creating", "LastUpdateStatus": "InProgress"}
    elif function.state is FunctionState.INACTIVE:
        state |= {"StateReasonCode": "Idle"}
    if function.state_reason:
        state["StateReason"] = function.state_reason
    return state


def _logging(function: Function) -> dict[str, str]:
    config = function.config
    logging = {"LogFormat": config.log_format.value, "LogGroup": log_group_of(function)}
    if config.log_format is LogFormat.JSON:
        logging |= {"ApplicationLogLevel": config.log_level.value, "SystemLogLevel": config.system_log_level.value}
    return logging


def log_group_of(function: Function) -> str:
    """The name of the log group to which a function logs."""
    return function.config.log_group or f"/aws/lambda/{function.name}"


def last_modified(moment: datetime) -> str:
    """AWS's form of LastModified: 2026-01-01T00:00:00.000+0000."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")
