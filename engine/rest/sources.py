"""The kinds of event source: which ARN is which, the settings that each takes, and what they are when left out.

Sources: docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html and the pages on each source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from engine.errors import InvalidArgument
from engine.rest.shapes import Params

_STREAM_DEFAULTS = MappingProxyType(
    {
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "DestinationConfig": {"OnFailure": {}},
        "LastProcessingResult": "No records processed",
    }
)
_KAFKA_DEFAULTS = MappingProxyType({"BatchSize": 100, "LastProcessingResult": "No records processed"})
_ONLY_STREAMS = (
    "ParallelizationFactor",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "TumblingWindowInSeconds",
)


@dataclass(frozen=True)
class Source:
    """One kind of source."""

    name: str
    arn: re.Pattern[str]
    defaults: Mapping[str, Any]
    reason: str = "USER_INITIATED"
    positions: tuple[str, ...] = ()
    """The starting positions it has; none: it has no position."""
    refused: tuple[str, ...] = field(default_factory=tuple)
    """Parameters that are for other sources."""
    needed: tuple[str, ...] = ()


def _arn(service: str, rest: str) -> re.Pattern[str]:
    return re.compile(rf"arn:aws[a-zA-Z-]*:{service}:[a-z0-9-]+:\d{{12}}:{rest}")


KINESIS = Source(
    "kinesis",
    _arn("kinesis", "stream/.+"),
    _STREAM_DEFAULTS,
    reason="User action",
    positions=("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
    refused=("Topics", "Queues", "ScalingConfig"),
)
DYNAMODB = Source(
    "dynamodb",
    _arn("dynamodb", "table/.+/stream/.+"),
    _STREAM_DEFAULTS,
    reason="User action",
    positions=("TRIM_HORIZON", "LATEST"),
    refused=("Topics", "Queues", "ScalingConfig"),
)
SQS = Source(
    "sqs",
    _arn("sqs", "[^:]+"),
    MappingProxyType({"BatchSize": 10, "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": []}),
    refused=(*_ONLY_STREAMS, "Topics", "Queues", "DestinationConfig"),
)
MSK = Source(
    "msk",
    _arn("kafka", "cluster/.+"),
    _KAFKA_DEFAULTS,
    positions=("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
    refused=("ParallelizationFactor", "TumblingWindowInSeconds", "Queues", "ScalingConfig"),
    needed=("Topics",),
)
KAFKA = Source(
    "kafka",
    re.compile(r"(?!)"),  # it has no ARN
    _KAFKA_DEFAULTS,
    positions=("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
    refused=("ParallelizationFactor", "TumblingWindowInSeconds", "Queues", "ScalingConfig"),
    needed=("SourceAccessConfigurations", "Topics"),
)
MQ = Source(
    "mq",
    _arn("mq", "broker:.+"),
    MappingProxyType({"BatchSize": 100, "MaximumBatchingWindowInSeconds": 0}),
    refused=(*_ONLY_STREAMS, "Topics", "ScalingConfig", "DestinationConfig"),
    needed=("Queues", "SourceAccessConfigurations"),
)
DOCUMENTDB = Source(
    "documentdb",
    _arn("rds", "cluster:.+"),
    _KAFKA_DEFAULTS,
    positions=("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
    refused=(*_ONLY_STREAMS, "Topics", "Queues", "ScalingConfig"),
    needed=("DocumentDBEventSourceConfig", "SourceAccessConfigurations"),
)
ALL = (KINESIS, DYNAMODB, SQS, MSK, KAFKA, MQ, DOCUMENTDB)
BY_NAME = {source.name: source for source in ALL}


def source_of(params: Params) -> Source:
    """The kind of source that a request names. Raises InvalidArgument."""
    arn = params.get("EventSourceArn")
    if arn is None and params.get("SelfManagedEventSource"):
        return KAFKA
    found = next((source for source in ALL if source.arn.fullmatch(arn or "")), None)
    if found is None:
        raise InvalidArgument("Unrecognized event source.")
    return found


def completed(source: Source, given: Params, mapping_id: str) -> dict[str, Any]:
    """The settings of a new mapping, with what was left out. Raises InvalidArgument."""
    settings = {**source.defaults, **given}
    if source.positions and not given.get("StartingPosition"):
        raise InvalidArgument(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must "
            "not be null."
        )
    for name in source.needed:
        if not given.get(name):
            raise InvalidArgument(f"Required '{name[0].lower()}{name[1:]}' parameter is missing.")
    position = given.get("StartingPosition")
    if position and position not in source.positions:
        raise InvalidArgument(f"Unsupported starting position for arn type: {given.get('EventSourceArn', source.name)}")
    if (position == "AT_TIMESTAMP") != ("StartingPositionTimestamp" in given):
        raise InvalidArgument("StartingPositionTimestamp must be specified with, and only with, AT_TIMESTAMP.")
    if source is KAFKA:
        settings = {"SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": mapping_id}, **settings}
    elif source is MSK:
        settings = {"AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": mapping_id}, **settings}
    check(source, settings, given)
    # Filters that select nothing are no filters.
    if not settings.get("FilterCriteria", {}).get("Filters", True):
        settings.pop("FilterCriteria")
    return settings


def check(source: Source, settings: Mapping[str, Any], given: Params) -> None:
    """Raise InvalidArgument for settings that the source does not have, or that do not go together."""
    for name in source.refused:
        if given.get(name) is not None:
            raise InvalidArgument(f"Unsupported {name} parameter for given event source mapping type.")
    if given.get("DestinationConfig", {}).get("OnSuccess"):
        raise InvalidArgument("Unsupported DestinationConfig parameter for given event source mapping type.")
    if source is SQS:
        _check_sqs(settings)
    pollers = settings.get("ProvisionedPollerConfig", {})
    least, most = pollers.get("MinimumPollers"), pollers.get("MaximumPollers")
    if least is not None and most is not None and least > most:
        raise InvalidArgument("MinimumPollers must be less than or equal to MaximumPollers.")
    for one in settings.get("FilterCriteria", {}).get("Filters", []):
        _check_pattern(one.get("Pattern"))


def is_same(mapping: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both take the same events to the same function."""
    if mapping["FunctionArn"] != other["FunctionArn"] or mapping["Source"] != other["Source"]:
        return False
    names = ("EventSourceArn", "Topics", "Queues")
    if any(mapping.get(name) != other.get(name) for name in names):
        return False
    return bool(set(_brokers(mapping)) & set(_brokers(other))) or not _brokers(mapping)


def duplicate_text(source: Source, mapping: Mapping[str, Any], mapping_id: str) -> str:
    """What AWS says of a mapping that there is."""
    arn, function = mapping.get("EventSourceArn", ""), mapping["FunctionArn"]
    name = function.split(":function:")[-1]
    end = f"already exists. Please update or delete the existing mapping with UUID {mapping_id}"
    if source is SQS:
        return f'An event source mapping with SQS arn (" {arn} ") and function (" {name} ") {end}'
    if source in (KINESIS, DYNAMODB):
        return f'The event source arn (" {arn} ") and function (" {name} ") provided mapping {end}'
    topics = ",".join(mapping.get("Topics", mapping.get("Queues", [])))
    brokers = ",".join(_brokers(mapping)) or arn
    return (
        f'An event source mapping with event source ("{brokers}"), function ("{function}"), topics ("{topics}") {end}'
    )


def _brokers(mapping: Mapping[str, Any]) -> list[str]:
    endpoints = mapping.get("SelfManagedEventSource", {}).get("Endpoints", {})
    found: list[str] = endpoints.get("KAFKA_BOOTSTRAP_SERVERS", [])
    return found


def _check_sqs(settings: Mapping[str, Any]) -> None:
    if settings["BatchSize"] <= 10:
        return
    if settings["EventSourceArn"].endswith(".fifo"):
        raise InvalidArgument("Batch size must be less than or equal to 10 for a FIFO queue.")
    if not settings.get("MaximumBatchingWindowInSeconds"):
        raise InvalidArgument(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
        )


def _check_pattern(pattern: Any) -> None:
    """Raise InvalidArgument unless it is an EventBridge pattern: an object of which every leaf is a list."""
    try:
        document = orjson.loads(pattern or "")
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict) or not _is_pattern(document):
        raise InvalidArgument("Invalid filter pattern definition.")


def _is_pattern(value: Any, depth: int = 32) -> bool:
    if isinstance(value, list):
        return bool(value)
    return isinstance(value, dict) and depth > 0 and all(_is_pattern(inner, depth - 1) for inner in value.values())
