"""The settings of an event source mapping held to what its source takes: completed on create, checked on create and
update. Which source takes what is engine.registry.sources'.

AWS's words where they are known: from its documentation, and from answers that users report. What the service model
says of single values is engine.registry.source_model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from engine.registry.source_model import at, check_types, check_values, wrong
from engine.registry.sources import KAFKA, MSK, SQS, Settings, Source

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
    check_types(given)
    settings = {**source.defaults, **given}
    position = settings.get("StartingPosition")
    if source.positions and not position:
        raise wrong(
            "StartingPosition",
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must "
            "not be null.",
        )
    if position and source is SQS:
        raise wrong("StartingPosition", "StartingPosition is not valid for SQS event sources.")
    for name in source.needed:
        if not given.get(name):
            raise wrong(name, f"Required '{name[0].lower()}{name[1:]}' parameter is missing.")
    if position and source.positions and position not in source.positions:
        raise wrong(
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
            raise wrong(name, f"Unsupported {name} parameter for given event source mapping type.")
    check_types(given)
    if given.get("DestinationConfig", {}).get("OnSuccess"):
        raise wrong(
            "DestinationConfig.OnSuccess",
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        )
    if at(given, "SelfManagedKafkaEventSourceConfig.ConsumptionMode") is not None:
        raise wrong(
            "SelfManagedKafkaEventSourceConfig.ConsumptionMode",
            "Unsupported 'ConsumptionMode' parameter for given event source mapping type",
        )
    check_values(given)
    _check_destination(source, given)
    if 0 <= given.get("MaximumRecordAgeInSeconds", -1) < RECORD_AGE_S:
        raise wrong("MaximumRecordAgeInSeconds", f"MaximumRecordAgeInSeconds must be -1, or {RECORD_AGE_S} to 604800.")
    if source is SQS:
        _check_sqs(settings)
    _check_pollers(source, settings)
    for one in given.get("SourceAccessConfigurations", []):
        if one.get("Type") not in source.access:
            raise wrong(
                "SourceAccessConfigurations",
                f"Unsupported SourceAccessConfigurations type {one.get('Type')} for given event source mapping type.",
            )
    _check_filters(given.get("FilterCriteria", {}).get("Filters", []))


def _check_moment(given: Settings, now: datetime) -> None:
    moment = given.get("StartingPositionTimestamp")
    if (given.get("StartingPosition") == "AT_TIMESTAMP") != (moment is not None):
        raise wrong(
            "StartingPositionTimestamp",
            "StartingPositionTimestamp must be specified with, and only with, AT_TIMESTAMP.",
        )
    if moment is not None and moment > now:
        raise wrong("StartingPositionTimestamp", "StartingPositionTimestamp cannot be in the future.")


def _check_destination(source: Source, given: Settings) -> None:
    target = at(given, "DestinationConfig.OnFailure.Destination")
    if not target:
        return
    is_topic = target.startswith("kafka://") and source in (MSK, KAFKA)
    if not is_topic and (target.split(":") + [""] * 3)[2] not in _DESTINATIONS:
        raise wrong(
            "DestinationConfig.OnFailure.Destination",
            f"The destination {target} is not an SQS queue, an SNS topic or an S3 bucket"
            f"{', or a topic of Kafka' if source in (MSK, KAFKA) else ''}.",
        )


def _check_sqs(settings: Settings) -> None:
    window = settings.get("MaximumBatchingWindowInSeconds")
    if window and settings["EventSourceArn"].endswith(FIFO):
        raise wrong("MaximumBatchingWindowInSeconds", "Batching window is not supported for FIFO queues")
    if settings["BatchSize"] > 10 and not window:
        raise wrong(
            "MaximumBatchingWindowInSeconds",
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
        )


def _check_pollers(source: Source, settings: Settings) -> None:
    pollers = settings.get("ProvisionedPollerConfig", {})
    least, most = pollers.get("MinimumPollers"), pollers.get("MaximumPollers")
    if least is not None and most is not None and least > most:
        raise wrong("ProvisionedPollerConfig", "MinimumPollers must be less than or equal to MaximumPollers.")
    if source is SQS and any(value is not None and value < 2 for value in (least, most)):
        raise wrong("ProvisionedPollerConfig", "MinimumPollers and MaximumPollers of a queue must be at least 2.")
    if pollers and settings.get("ScalingConfig", {}).get("MaximumConcurrency") is not None:
        raise wrong("ProvisionedPollerConfig", "ScalingConfig cannot be used with ProvisionedPollerConfig.")


def _check_filters(filters: list[Mapping[str, Any]]) -> None:
    if len(filters) > FILTERS:
        raise wrong("FilterCriteria", f"FilterCriteria must have at most {FILTERS} filters, and has {len(filters)}.")
    for one in filters:
        pattern = one.get("Pattern") or ""
        if len(pattern) > PATTERN_LIMIT_CHARS or not _is_event_pattern(pattern):
            raise wrong("FilterCriteria", "Invalid filter pattern definition.")


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
