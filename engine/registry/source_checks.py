"""The settings of an event source mapping held to what its source takes: completed on create, checked on create and
update. Which source takes what is engine.registry.sources'.

AWS's words where they are known: from its documentation, and from answers that users report. Guarantees that the ranges
of the service model hold at every door, also where no front has checked them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from engine.errors import InvalidArgument
from engine.registry.sources import KAFKA, MSK, SQS, Settings, Source

RANGES: Mapping[str, tuple[int, int]] = {
    "BatchSize": (1, 10_000),
    "MaximumBatchingWindowInSeconds": (0, 300),
    "ParallelizationFactor": (1, 10),
    "MaximumRecordAgeInSeconds": (-1, 604_800),
    "MaximumRetryAttempts": (-1, 10_000),
    "TumblingWindowInSeconds": (0, 900),
    "ScalingConfig.MaximumConcurrency": (2, 1_000),
    "ProvisionedPollerConfig.MinimumPollers": (1, 200),
    "ProvisionedPollerConfig.MaximumPollers": (1, 10_000),
}
TYPES: Mapping[str, type] = {
    "BatchSize": int,
    "MaximumBatchingWindowInSeconds": int,
    "ParallelizationFactor": int,
    "MaximumRecordAgeInSeconds": int,
    "MaximumRetryAttempts": int,
    "TumblingWindowInSeconds": int,
    "BisectBatchOnFunctionError": bool,
    "KMSKeyArn": str,
    "StartingPosition": str,
    "Topics": list,
    "Queues": list,
    "FunctionResponseTypes": list,
    "SourceAccessConfigurations": list,
    "AmazonManagedKafkaEventSourceConfig": dict,
    "DestinationConfig": dict,
    "DocumentDBEventSourceConfig": dict,
    "FilterCriteria": dict,
    "LoggingConfig": dict,
    "MetricsConfig": dict,
    "ProvisionedPollerConfig": dict,
    "ScalingConfig": dict,
    "SelfManagedEventSource": dict,
    "SelfManagedKafkaEventSourceConfig": dict,
}
_CALLED = {int: "a whole number", bool: "true or false", str: "text", list: "a list", dict: "an object"}
LENGTHS: Mapping[str, tuple[int, int]] = {
    "Topics": (1, 1),
    "Queues": (1, 1),
    "SourceAccessConfigurations": (0, 23),
    "FunctionResponseTypes": (0, 1),
    "MetricsConfig.Metrics": (0, 3),
    "SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS": (1, 10),
}
VALUES: Mapping[str, tuple[str, ...]] = {
    "StartingPosition": ("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
    "FunctionResponseTypes": ("ReportBatchItemFailures",),
    "MetricsConfig.Metrics": ("EventCount", "ErrorCount", "KafkaMetrics"),
    "LoggingConfig.SystemLogLevel": ("DEBUG", "INFO", "WARN"),
    "DocumentDBEventSourceConfig.FullDocument": ("UpdateLookup", "Default"),
}
FILTERS = 10
"""The most that AWS gives a mapping; without asking for more it gives 5."""
PATTERN_LIMIT_CHARS = 4_096
RECORD_AGE_S = 60
"""The least age of records, but for -1, which is none."""
FIFO = ".fifo"
_DESTINATIONS = ("sqs", "sns", "s3")
_REMOVABLE = (
    "FilterCriteria",
    "KMSKeyArn",
    "LoggingConfig",
    "MetricsConfig",
    "ProvisionedPollerConfig",
    "ScalingConfig",
)


def completed(source: Source, given: Settings, mapping_id: str, now: datetime) -> dict[str, Any]:
    """The settings of a new mapping, with what was left out. Raises InvalidArgument."""
    _check_types(given)
    settings = {**source.defaults, **given}
    position = given.get("StartingPosition")
    if source.positions and not position:
        raise _wrong(
            "StartingPosition",
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must "
            "not be null.",
        )
    if position and source is SQS:
        raise _wrong("StartingPosition", "StartingPosition is not valid for SQS event sources.")
    for name in source.needed:
        if not given.get(name):
            raise _wrong(name, f"Required '{name[0].lower()}{name[1:]}' parameter is missing.")
    if position and source.positions and position not in source.positions:
        raise _wrong(
            "StartingPosition",
            f"Unsupported starting position for arn type: {given.get('EventSourceArn', source.name)}",
        )
    _check_moment(given, now)
    if source is KAFKA:
        settings["SelfManagedKafkaEventSourceConfig"] = {
            "ConsumerGroupId": mapping_id,
            **given.get("SelfManagedKafkaEventSourceConfig", {}),
        }
    elif source is MSK:
        settings["AmazonManagedKafkaEventSourceConfig"] = {
            "ConsumerGroupId": mapping_id,
            **given.get("AmazonManagedKafkaEventSourceConfig", {}),
        }
    check(source, settings, given)
    return without_empty(settings)


def without_empty(settings: Settings) -> dict[str, Any]:
    """The settings without those that are empty: they take away what they set. Filters that select nothing are none."""
    found = {name: value for name, value in settings.items() if value or name not in _REMOVABLE}
    if not found.get("FilterCriteria", {}).get("Filters", True):
        del found["FilterCriteria"]
    return found


def check(source: Source, settings: Settings, given: Settings) -> None:
    """Raise InvalidArgument for settings that the source does not have, or that do not go together; `settings` are all
    of them, `given` those that a request names."""
    for name, value in given.items():
        if value is not None and name not in source.takes:
            raise _wrong(name, f"Unsupported {name} parameter for given event source mapping type.")
    _check_types(given)
    if given.get("DestinationConfig", {}).get("OnSuccess"):
        raise _wrong(
            "DestinationConfig.OnSuccess",
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        )
    if _at(given, "SelfManagedKafkaEventSourceConfig.ConsumptionMode") is not None:
        raise _wrong(
            "SelfManagedKafkaEventSourceConfig.ConsumptionMode",
            "Unsupported 'ConsumptionMode' parameter for given event source mapping type",
        )
    _check_model(given)
    _check_destination(source, given)
    if 0 <= given.get("MaximumRecordAgeInSeconds", -1) < RECORD_AGE_S:
        raise _wrong("MaximumRecordAgeInSeconds", f"MaximumRecordAgeInSeconds must be -1, or {RECORD_AGE_S} to 604800.")
    if source is SQS:
        _check_sqs(settings)
    _check_pollers(source, settings)
    for one in given.get("SourceAccessConfigurations", []):
        if one.get("Type") not in source.access:
            raise _wrong(
                "SourceAccessConfigurations",
                f"Unsupported SourceAccessConfigurations type {one.get('Type')} for given event source mapping type.",
            )
    _check_filters(given.get("FilterCriteria", {}).get("Filters", []))


def _check_moment(given: Settings, now: datetime) -> None:
    moment = given.get("StartingPositionTimestamp")
    if (given.get("StartingPosition") == "AT_TIMESTAMP") != (moment is not None):
        raise _wrong(
            "StartingPositionTimestamp",
            "StartingPositionTimestamp must be specified with, and only with, AT_TIMESTAMP.",
        )
    if moment is not None and moment > now:
        raise _wrong("StartingPositionTimestamp", "StartingPositionTimestamp cannot be in the future.")


def _check_types(given: Settings) -> None:
    for name, value in given.items():
        kind = TYPES.get(name)
        if kind is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise _wrong(name, f"{name} must be {_CALLED[kind]}, and is {value!a:.80}.")
    for path in ("FilterCriteria.Filters", "SourceAccessConfigurations"):
        items = _at(given, path)
        if items is not None and not (isinstance(items, list) and all(isinstance(one, dict) for one in items)):
            raise _wrong(path, f"{path} must be a list of objects.")


def _check_model(given: Settings) -> None:
    """What the service model says of single values."""
    for path, (least, most) in RANGES.items():
        value = _at(given, path)
        if value is not None and not (isinstance(value, int) and least <= value <= most):
            raise _wrong(path, f"{path} must be {least} to {most}, and is {value!a:.80}.")
    for path, (least, most) in LENGTHS.items():
        value = _at(given, path)
        if value is not None and not (isinstance(value, list) and least <= len(value) <= most):
            raise _wrong(path, f"{path} must have {least} to {most} items.")
    for path, allowed in VALUES.items():
        value = _at(given, path)
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            if one not in allowed:
                raise _wrong(path, f"{path} must be one of {', '.join(allowed)}, and is {one!a}.")


def _check_destination(source: Source, given: Settings) -> None:
    target = _at(given, "DestinationConfig.OnFailure.Destination")
    if not target:
        return
    is_topic = target.startswith("kafka://") and source in (MSK, KAFKA)
    if not is_topic and (target.split(":") + [""] * 3)[2] not in _DESTINATIONS:
        raise _wrong(
            "DestinationConfig.OnFailure.Destination",
            f"The destination {target} is not an SQS queue, an SNS topic or an S3 bucket"
            f"{', or a topic of Kafka' if source in (MSK, KAFKA) else ''}.",
        )


def _check_sqs(settings: Settings) -> None:
    window = settings.get("MaximumBatchingWindowInSeconds")
    if window and settings["EventSourceArn"].endswith(FIFO):
        raise _wrong("MaximumBatchingWindowInSeconds", "Batching window is not supported for FIFO queues")
    if settings["BatchSize"] > 10 and not window:
        raise _wrong(
            "MaximumBatchingWindowInSeconds",
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
        )


def _check_pollers(source: Source, settings: Settings) -> None:
    pollers = settings.get("ProvisionedPollerConfig", {})
    least, most = pollers.get("MinimumPollers"), pollers.get("MaximumPollers")
    if least is not None and most is not None and least > most:
        raise _wrong("ProvisionedPollerConfig", "MinimumPollers must be less than or equal to MaximumPollers.")
    if source is SQS and any(value is not None and value < 2 for value in (least, most)):
        raise _wrong("ProvisionedPollerConfig", "MinimumPollers and MaximumPollers of a queue must be at least 2.")
    if pollers and settings.get("ScalingConfig", {}).get("MaximumConcurrency") is not None:
        raise _wrong("ProvisionedPollerConfig", "ScalingConfig cannot be used with ProvisionedPollerConfig.")


def _check_filters(filters: list[Mapping[str, Any]]) -> None:
    if len(filters) > FILTERS:
        raise _wrong("FilterCriteria", f"FilterCriteria must have at most {FILTERS} filters, and has {len(filters)}.")
    for one in filters:
        pattern = one.get("Pattern") or ""
        if len(pattern) > PATTERN_LIMIT_CHARS or not _is_event_pattern(pattern):
            raise _wrong("FilterCriteria", "Invalid filter pattern definition.")


def _is_event_pattern(text: str) -> bool:
    """Whether it is an EventBridge pattern: an object of which every leaf is a list."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and _is_pattern(document)


def _is_pattern(value: Any, depth: int = 32) -> bool:
    if isinstance(value, list):
        return bool(value)
    return isinstance(value, dict) and depth > 0 and all(_is_pattern(inner, depth - 1) for inner in value.values())


def _at(settings: Settings, path: str) -> Any:
    value: Any = settings
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _wrong(path: str, what: str) -> InvalidArgument:
    return InvalidArgument(what, fields={path: "does not fit the event source mapping"})
