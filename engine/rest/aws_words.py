"""Refusals of the registry in the words in which AWS refuses the same.

The service model's own constraints are engine.rest.constraints'; here are the limits that AWS holds in its code. A
value of the environment is never repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import InvalidArgument, InvalidCode
from engine.registry.validate import RANGES
from engine.rest.constraints import aws_path, problem, refusal
from engine.rest.shapes import Params

MEMBERS: Mapping[str, str] = {
    "name": "FunctionName",
    "runtime": "Runtime",
    "handler": "Handler",
    "memory_mb": "MemorySize",
    "timeout_ms": "Timeout",
    "tmp_mb": "EphemeralStorage.Size",
    "environment": "Environment.Variables",
    "description": "Description",
    "role": "Role",
    "log_format": "LoggingConfig.LogFormat",
    "log_level": "LoggingConfig.ApplicationLogLevel",
    "system_log_level": "LoggingConfig.SystemLogLevel",
    "log_group": "LoggingConfig.LogGroup",
    "dead_letter_arn": "DeadLetterConfig.TargetArn",
    "kms_key_arn": "KMSKeyArn",
}
"""The members that the registry's fields are to AWS's clients."""
UNREADABLE = "Could not unzip uploaded file"
_VERBS = ("must ", "has ", "is ")
_ENVIRONMENT = (
    "Lambda was unable to configure your environment variables because the environment variables you have provided "
)


def in_aws_words(error: InvalidArgument, params: Params) -> InvalidArgument:
    """A refusal of the registry, with AWS's names and AWS's sentence for each field that a client set."""
    if (found := _environment(error)) is not None:
        return found
    problems: list[tuple[str, str]] = []
    for path, what in error.fields.items():
        field, bracket, key = path.removeprefix("config.").partition("[")
        member = MEMBERS.get(field)
        if member is None:
            return error
        value = "***" if member.startswith("Environment") else _at(params, member)
        constraint = _range_constraint(field, value) or (f"{key.rstrip(']')} {what}" if bracket else what)
        constraint = f"Member {constraint}" if constraint.startswith(_VERBS) else constraint
        if field == "memory_mb" and len(error.fields) == 1:
            return InvalidArgument(
                f"'MemorySize' value failed to satisfy constraint: {constraint}", fields=error.fields
            )
        problems.append((member, problem(None, aws_path(member), value, constraint)))
    return refusal(problems) if problems else error


def of_code(error: InvalidCode) -> InvalidCode:
    """A refusal of the code store: AWS's sentence about a zip that it cannot read, and what is wrong with it."""
    if error.message.startswith(UNREADABLE):
        why = error.message.removeprefix(UNREADABLE).lstrip(",: ")
        sentence = f"{UNREADABLE}. Please check your file, then try to upload again."
        return InvalidCode(f"{sentence} {why[0].upper()}{why[1:]}" if why else sentence)
    if error.message.startswith(("Unzipped size must be smaller", "Error occurred while GetObject")):
        return InvalidCode(error.message)
    return error


def _environment(error: InvalidArgument) -> InvalidArgument | None:
    """For names that Lambda keeps to itself, and for too much of it; None for anything else."""
    fields = error.fields
    if fields and all(path.startswith("config.environment[") and "is reserved" in fields[path] for path in fields):
        names = [path.partition("[")[2].rstrip("]").strip("'") for path in fields]
        return InvalidArgument(
            f"{_ENVIRONMENT}contains reserved keys that are currently not supported for modification. Reserved keys "
            f"used in this request: {', '.join(names)}",
            fields=fields,
        )
    if list(fields) == ["config.environment"]:
        measured = fields["config.environment"]
        return InvalidArgument(
            f"{_ENVIRONMENT}exceeded the 4KB limit. {measured[0].upper()}{measured[1:]}", fields=fields
        )
    return None


def _range_constraint(field: str, value: Any) -> str:
    """AWS's words for a number out of the registry's range; "" for any other field."""
    if field not in RANGES or not isinstance(value, int):
        return ""
    least, most, unit = RANGES[field]
    if unit == "ms":
        least, most = least // 1_000, most // 1_000
    if value < least:
        return f"must have value greater than or equal to {least}"
    return f"must have value less than or equal to {most}"


def _at(params: Params, path: str) -> Any:
    value: Any = params
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
