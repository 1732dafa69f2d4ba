"""Which settings a function may have. Finds everything wrong at once; changes and stores nothing.

Sources: the patterns of botocore's service model (lambda/2015-03-31),
docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html for the ranges, and
docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html for the names that Lambda keeps to itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from engine.errors import InvalidArgument, NotServed
from engine.model.function import Egress, FunctionConfig, LogFormat, LogLevel
from engine.model.kept import SETTINGS, by_awss_names
from engine.registry.api import ConfigChange

DEFAULT_HANDLER = "app.handler"

RANGES = {
    "memory_mb": (128, 10_240, "MB"),
    "timeout_ms": (1_000, 900_000, "ms"),
    "tmp_mb": (512, 10_240, "MB"),
}
"""The service model allows more memory and time: those maxima belong to managed instances."""

HANDLER = re.compile(r"\S{1,128}")
"""A handler without a dot is accepted, as on Lambda: the function then fails in its init phase and says so."""
ROLE = re.compile(r"arn:aws[a-zA-Z-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+")
ROLE_LIMIT_CHARS = 10_000
DESCRIPTION_LIMIT_CHARS = 256

PRELOAD_LIMIT = 32
PRELOAD_NAME = re.compile(r"(?=.{1,255}\Z)[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)
"""A module's name as Python writes it. A package's __main__ is a program and no module."""

ENVIRONMENT_LIMIT_BYTES = 4_096
ENVIRONMENT_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
RESERVED_NAMES = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECRET_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
"""A list, not the prefix AWS_LAMBDA_: users set AWS_LAMBDA_EXEC_WRAPPER and AWS_LAMBDA_NODEJS_… on Lambda."""


DEAD_LETTERS = re.compile(r"arn:aws[a-zA-Z-]*:(sqs|sns):[a-z0-9-]+:\d{12}:.+")
KMS_KEY = re.compile(r"arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*")
KMS_KEY_LIMIT_CHARS = 10_000
LOG_GROUP = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
"""botocore's service model lambda/2015-03-31."""
SYSTEM_LOG_LEVELS = (LogLevel.DEBUG, LogLevel.INFO, LogLevel.WARN)
"""Those that AWS's service model has for SystemLogLevel."""


def merged(base: FunctionConfig, change: ConfigChange) -> FunctionConfig:
    """`base` with the fields of `change` that are not None. The result shares nothing that its owner could change. A
    log that becomes text has no levels any more. Layers are engine.registry.layers' to find."""
    fields = {name: getattr(change, name) for name in ConfigChange.__slots__}
    given = {name: value for name, value in fields.items() if value is not None and name != "layers"}
    if change.log_format is LogFormat.TEXT:
        given = {"log_level": LogLevel.INFO, "system_log_level": LogLevel.INFO} | given
    if change.environment is not None:
        given["environment"] = MappingProxyType(dict(change.environment))
    kept = by_awss_names({name: given.pop(name, None) for name in SETTINGS})
    if change.aws_settings is not None or kept:
        settings = {**base.aws_settings, **(change.aws_settings or {}), **kept}
        given["aws_settings"] = MappingProxyType({name: one for name, one in settings.items() if one is not None})
    return replace(base, **given)


def wrong_fields(config: FunctionConfig) -> dict[str, str]:
    """What is wrong with each field, by path; all but the runtime, which depends on the host."""
    wrong: dict[str, str] = {}
    for name, (least, most, unit) in RANGES.items():
        value = getattr(config, name)
        if not least <= value <= most:
            wrong[f"config.{name}"] = f"{value} is out of range: must be {least:,} to {most:,} {unit}"
    if not HANDLER.fullmatch(config.handler) or not is_text(config.handler):
        wrong["config.handler"] = 'must be 1 to 128 characters without spaces, such as "app.handler"'
    if len(config.description) > DESCRIPTION_LIMIT_CHARS:
        wrong["config.description"] = f"has {len(config.description):,} characters: at most {DESCRIPTION_LIMIT_CHARS}"
    elif not is_text(config.description):
        wrong["config.description"] = "must be Unicode text without null characters"
    if config.role and (len(config.role) > ROLE_LIMIT_CHARS or not ROLE.fullmatch(config.role)):
        wrong["config.role"] = "must be the ARN of a role, such as arn:aws:iam::000000000000:role/name"
    if config.log_group and not LOG_GROUP.fullmatch(config.log_group):
        wrong["config.log_group"] = "must be 1 to 512 letters, digits and . - _ / #"
    if config.dead_letter_arn and not DEAD_LETTERS.fullmatch(config.dead_letter_arn):
        wrong["config.dead_letter_arn"] = "must be the ARN of a queue of SQS or a topic of SNS"
    if config.kms_key_arn and (
        len(config.kms_key_arn) > KMS_KEY_LIMIT_CHARS or not KMS_KEY.fullmatch(config.kms_key_arn)
    ):
        wrong["config.kms_key_arn"] = "must be the ARN of a key"
    return wrong | _wrong_levels(config) | _wrong_preload(config.preload) | _wrong_environment(config.environment)


def _wrong_preload(modules: Sequence[str]) -> dict[str, str]:
    if len(modules) > PRELOAD_LIMIT:
        return {"config.preload": f"names {len(modules)} modules: at most {PRELOAD_LIMIT}"}
    for name in modules:
        if not PRELOAD_NAME.fullmatch(name) or "__main__" in name.split("."):
            return {"config.preload": f"{name!a} is not a module's name, such as json or xml.sax"}
    return {}


def wrong_runtime(runtime: str, available: Collection[str]) -> dict[str, str]:
    """What is wrong with a runtime on this host: nothing, or one field."""
    if runtime in available:
        return {}
    if not available:
        return {"config.runtime": "no runtime is available on this host: see `cleave doctor`"}
    choice = ", ".join(sorted(available))
    return {
        "config.runtime": f"{runtime!r} is not available here: use {choice}" if runtime else f"is required: {choice}"
    }


def refuse_if(wrong: Mapping[str, str]) -> None:
    """Raise InvalidArgument if any field is wrong; its message names them all."""
    if wrong:
        raise InvalidArgument(
            "; ".join(f"{field} {what}" for field, what in wrong.items()),
            fix=f"correct {', '.join(wrong)} and try again",
            fields=wrong,
        )


Prepare = Callable[[FunctionConfig], Awaitable[None]]
"""Makes ready what a function's sandboxes are forked from. Raises an EngineError where that cannot be had."""
Trouble = Callable[[FunctionConfig], str]
"""Why a function cannot be started on this host as it is; "" if nothing is known. Called often."""


async def nothing_to_prepare(config: FunctionConfig) -> None:
    """Any function can be started."""


def no_trouble(config: FunctionConfig) -> str:
    """Nothing is known against any function."""
    return ""


RefuseEgress = Callable[[Egress], None]
"""Raises an EngineError that says why a kind of egress cannot be had on this host, and what to do."""


def only_none(egress: Egress) -> None:
    """A host that offers no egress. Raises NotServed."""
    if egress is not Egress.NONE:
        raise NotServed(
            f"egress {egress.value!r} is not served here, only {Egress.NONE.value!r} is",
            fix="leave egress out, or set it to none",
            metadata={"field": "config.egress"},
        )


def refuse_unserved(config: FunctionConfig, refuse_egress: RefuseEgress = only_none) -> None:
    """Raise for settings that are right and that this host cannot enforce (DESIGN: fail closed)."""
    refuse_egress(config.egress)


def _wrong_levels(config: FunctionConfig) -> dict[str, str]:
    wrong: dict[str, str] = {}
    if config.system_log_level not in SYSTEM_LOG_LEVELS:
        known = ", ".join(level.value for level in SYSTEM_LOG_LEVELS)
        wrong["config.system_log_level"] = f"{config.system_log_level.value} is not one of {known}"
    if config.log_format is LogFormat.TEXT:
        for name in ("log_level", "system_log_level"):
            if getattr(config, name) is not LogLevel.INFO:
                wrong[f"config.{name}"] = "is for logs in JSON: set log_format to JSON too"
    return wrong


def _wrong_environment(environment: Mapping[str, str]) -> dict[str, str]:
    wrong: dict[str, str] = {}
    for name, value in environment.items():
        field = f"config.environment[{name!a}]"
        if name in RESERVED_NAMES:
            wrong[field] = "is reserved: Lambda sets it itself"
        elif not ENVIRONMENT_NAME.fullmatch(name):
            wrong[field] = "must start with a letter and go on with letters, digits and _"
        elif not is_text(value):
            wrong[field] = "must have a value of Unicode text without null characters"
    # AWS measures them so: names and values of 4,096 bytes are too much, and what separates them in JSON counts.
    measured = json.dumps(dict(environment), ensure_ascii=False, separators=(",", ":"))
    size = len(measured.encode(errors="replace"))
    if size > ENVIRONMENT_LIMIT_BYTES:
        wrong["config.environment"] = (
            f"names and values have {size:,} bytes as JSON: at most {ENVIRONMENT_LIMIT_BYTES:,}"
        )
    return wrong


def is_text(value: str) -> bool:
    """Whether it can be stored and passed on: no lone surrogate (JSON can carry one), no null (environments cannot)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
