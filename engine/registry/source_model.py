"""What botocore's service model lambda/2015-03-31 says of single values in the settings of an event source mapping.

Guarantees that it holds at every door: over HTTP the front has checked it before, in AWS's words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engine.errors import InvalidArgument

Settings = Mapping[str, Any]

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
_URI = re.compile(r"[ a-zA-Z0-9-/*:_+=.@]{1,200}")
TEXTS: Mapping[str, re.Pattern[str]] = {
    "AmazonManagedKafkaEventSourceConfig.ConsumerGroupId": _URI,
    "DestinationConfig.OnFailure.Destination": re.compile(r"|kafka://[^.][a-zA-Z0-9_.-]{0,248}|arn:aws[^:]*:.{1,340}"),
    "DocumentDBEventSourceConfig.CollectionName": re.compile(r"(?!system\.)[_a-zA-Z0-9][^$]{0,56}"),
    "DocumentDBEventSourceConfig.DatabaseName": re.compile(r"[^ /.$\"]{1,63}"),
    "KMSKeyArn": re.compile(r"|arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*"),
    "ProvisionedPollerConfig.PollerGroupName": re.compile(r"[a-zA-Z0-9_-]{0,128}"),
    "Queues": re.compile(r"[\s\S]{1,1000}"),
    "SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS": re.compile(r"[a-zA-Z0-9.-]{1,294}:[0-9]{1,5}"),
    "SelfManagedKafkaEventSourceConfig.ConsumerGroupId": _URI,
    "SourceAccessConfigurations.URI": _URI,
    "Topics": re.compile(r"[^.][a-zA-Z0-9_.-]{1,248}"),
}
"""What texts look like, those in lists too."""


def check_types(given: Settings) -> None:
    """Raise InvalidArgument for a value of another type."""
    for name, value in given.items():
        kind = TYPES.get(name)
        if kind is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise wrong(name, f"{name} must be {_CALLED[kind]}, and is {value!a:.80}.")
    for path in ("FilterCriteria.Filters", "SourceAccessConfigurations"):
        items = at(given, path)
        if items is not None and not (isinstance(items, list) and all(isinstance(one, dict) for one in items)):
            raise wrong(path, f"{path} must be a list of objects.")


def check_values(given: Settings) -> None:
    """Raise InvalidArgument for a value that is out of range, or none of those that there are."""
    for path, (least, most) in RANGES.items():
        value = at(given, path)
        if value is not None and not (isinstance(value, int) and least <= value <= most):
            raise wrong(path, f"{path} must be {least} to {most}, and is {value!a:.80}.")
    for path, (least, most) in LENGTHS.items():
        value = at(given, path)
        if value is not None and not (isinstance(value, list) and least <= len(value) <= most):
            raise wrong(path, f"{path} must have {least} to {most} items.")
    for path, allowed in VALUES.items():
        value = at(given, path)
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            if one not in allowed:
                raise wrong(path, f"{path} must be one of {', '.join(allowed)}, and is {one!a}.")
    for path, form in TEXTS.items():
        value = at(given, path)
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            if not isinstance(one, str) or not form.fullmatch(one):
                raise wrong(path, f"{path} must satisfy regular expression pattern: {form.pattern}")


def at(settings: Settings, path: str) -> Any:
    """The value at a path of names with dots, None if there is none; of a list of objects the values in each."""
    value: Any = settings
    for part in path.split("."):
        if isinstance(value, list):
            value = [one[part] for one in value if isinstance(one, Mapping) and part in one]
        else:
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def wrong(path: str, what: str) -> InvalidArgument:
    """The error about the setting at a path."""
    return InvalidArgument(what, fields={path: "does not fit the event source mapping"})
