"""The kinds of event source: which ARN is which, the settings that each takes, and what they are when left out.

Sources: docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html and the pages on each source, with the
ranges of botocore's service model lambda/2015-03-31. Whether a source is there, and what it allows (a queue's
visibility timeout), is for whoever polls it. Settings have AWS's names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from engine.errors import InvalidArgument

Settings = Mapping[str, Any]

_NO_RECORDS = "No records processed"
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
        "LastProcessingResult": _NO_RECORDS,
    }
)
_LOG_DEFAULTS = MappingProxyType({"BatchSize": 100, "LastProcessingResult": _NO_RECORDS})

_EVERY = (
    "EventSourceArn",
    "FunctionName",
    "Enabled",
    "Tags",
    "UUID",
    "BatchSize",
    "MaximumBatchingWindowInSeconds",
    "FilterCriteria",
    "KMSKeyArn",
    "MetricsConfig",
)
_POSITION = ("StartingPosition", "StartingPositionTimestamp")
_RETRIES = (
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "FunctionResponseTypes",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
)
_SHARDS = (*_EVERY, *_POSITION, *_RETRIES, "ParallelizationFactor", "TumblingWindowInSeconds")
_TOPICS = (
    *_EVERY,
    *_POSITION,
    *_RETRIES,
    "LoggingConfig",
    "ProvisionedPollerConfig",
    "SourceAccessConfigurations",
    "Topics",
)
UNCHANGEABLE = ("EventSourceArn", "SelfManagedEventSource", "Topics", "Queues", *_POSITION)
"""What an update cannot name: the service model's UpdateEventSourceMapping does not have it."""


@dataclass(frozen=True)
class Source:
    """One kind of source."""

    name: str
    arn: re.Pattern[str]
    defaults: Mapping[str, Any]
    takes: frozenset[str]
    """The parameters that it has; others belong to other sources."""
    reason: str = "USER_INITIATED"
    positions: tuple[str, ...] = ()
    """The starting positions it has; none: it has no position."""
    needed: tuple[str, ...] = ()
    access: frozenset[str] = frozenset()
    """Types of SourceAccessConfigurations that it has."""


def _arn(service: str, rest: str) -> re.Pattern[str]:
    return re.compile(rf"arn:aws[a-zA-Z-]*:{service}:[a-z0-9-]+:\d{{12}}:{rest}")


_ALL_POSITIONS = ("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")
_KAFKA_ACCESS = frozenset(
    {
        "BASIC_AUTH",
        "CLIENT_CERTIFICATE_TLS_AUTH",
        "OAUTHBEARER_AUDIENCE",
        "OAUTHBEARER_AUTH",
        "OAUTHBEARER_IDENTITY_POOL_ID",
        "OAUTHBEARER_LOGICAL_CLUSTER",
        "OAUTHBEARER_SCOPE",
        "SASL_SCRAM_256_AUTH",
        "SASL_SCRAM_512_AUTH",
        "SERVER_ROOT_CA_CERTIFICATE",
        "VPC_SECURITY_GROUP",
        "VPC_SUBNET",
    }
)

KINESIS = Source(
    "kinesis",
    _arn("kinesis", "stream/.+"),
    _STREAM_DEFAULTS,
    frozenset(_SHARDS),
    reason="User action",
    positions=_ALL_POSITIONS,
)
DYNAMODB = Source(
    "dynamodb",
    _arn("dynamodb", "table/.+/stream/.+"),
    _STREAM_DEFAULTS,
    frozenset(_SHARDS),
    reason="User action",
    positions=("TRIM_HORIZON", "LATEST"),
)
SQS = Source(
    "sqs",
    _arn("sqs", "[^:]+"),
    MappingProxyType({"BatchSize": 10, "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": []}),
    frozenset({*_EVERY, "FunctionResponseTypes", "ProvisionedPollerConfig", "ScalingConfig"}),
)
MSK = Source(
    "msk",
    _arn("kafka", "cluster/.+"),
    _LOG_DEFAULTS,
    frozenset({*_TOPICS, "AmazonManagedKafkaEventSourceConfig"}),
    positions=_ALL_POSITIONS,
    needed=("Topics",),
    access=_KAFKA_ACCESS,
)
KAFKA = Source(
    "kafka",
    re.compile(r"(?!)"),  # it has no ARN
    MappingProxyType({**_LOG_DEFAULTS, "StartingPosition": "TRIM_HORIZON"}),
    frozenset({*_TOPICS, "SelfManagedEventSource", "SelfManagedKafkaEventSourceConfig"}),
    positions=_ALL_POSITIONS,
    needed=("SourceAccessConfigurations", "Topics"),
    access=_KAFKA_ACCESS,
)
MQ = Source(
    "mq",
    _arn("mq", "broker:.+"),
    MappingProxyType({"BatchSize": 100, "MaximumBatchingWindowInSeconds": 0}),
    frozenset({*_EVERY, "Queues", "SourceAccessConfigurations"}),
    needed=("Queues", "SourceAccessConfigurations"),
    access=frozenset({"BASIC_AUTH", "VIRTUAL_HOST"}),
)
DOCUMENTDB = Source(
    "documentdb",
    _arn("rds", "cluster:.+"),
    _LOG_DEFAULTS,
    frozenset({*_EVERY, *_POSITION, "DocumentDBEventSourceConfig", "SourceAccessConfigurations"}),
    positions=_ALL_POSITIONS,
    needed=("DocumentDBEventSourceConfig", "SourceAccessConfigurations"),
    access=frozenset({"BASIC_AUTH"}),
)
ALL = (KINESIS, DYNAMODB, SQS, MSK, KAFKA, MQ, DOCUMENTDB)
BY_NAME = {source.name: source for source in ALL}


def source_of(given: Settings) -> Source:
    """The kind of source that a request names. Raises InvalidArgument."""
    arn = given.get("EventSourceArn")
    if not arn and given.get("SelfManagedEventSource"):
        return KAFKA
    found = next((source for source in ALL if source.arn.fullmatch(arn or "")), None)
    if found is None:
        raise InvalidArgument("Unrecognized event source.", fields={"EventSourceArn": "is of no source that is known"})
    return found


def is_same(mapping: Settings, other: Settings) -> bool:
    """Whether both take the same events to the same function."""
    if mapping["FunctionArn"] != other["FunctionArn"] or mapping["Source"] != other["Source"]:
        return False
    names = ("EventSourceArn", "Topics", "Queues")
    if any(mapping.get(name) != other.get(name) for name in names) or _collection(mapping) != _collection(other):
        return False
    return bool(set(_brokers(mapping)) & set(_brokers(other))) or not _brokers(mapping)


def duplicate_text(source: Source, mapping: Settings, mapping_id: str) -> str:
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


def _collection(mapping: Settings) -> tuple[str, str]:
    """Of DocumentDB: what of the cluster is read."""
    config = mapping.get("DocumentDBEventSourceConfig", {})
    return config.get("DatabaseName", ""), config.get("CollectionName", "")


def _brokers(mapping: Settings) -> list[str]:
    endpoints = mapping.get("SelfManagedEventSource", {}).get("Endpoints", {})
    found: list[str] = endpoints.get("KAFKA_BOOTSTRAP_SERVERS", [])
    return found
