"""Event source mappings through an unmodified boto3 client."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.compat.conftest import Create
from tests.compat.stub_rooms import ACCOUNT, REGION
from tests.compat.test_functions import ARN, error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/clicks"
TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t/stream/2026-01-01T00:00:00.000"
BROKERS: Any = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka:1000"]}}
SECRET: Any = [{"Type": "BASIC_AUTH", "URI": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:s"}]
KAFKA: dict[str, Any] = {
    "SelfManagedEventSource": BROKERS,
    "SourceAccessConfigurations": SECRET,
    "Topics": ["topic"],
    "StartingPosition": "TRIM_HORIZON",
}
CLUSTER = f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/c/{'0' * 8}-0000-0000-0000-{'0' * 12}-1"
BROKER = f"arn:aws:mq:{REGION}:{ACCOUNT}:broker:b:b-{'0' * 8}-0000-0000-0000-{'0' * 12}"
DOCUMENTS = f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:d"
LEAST: dict[str, dict[str, Any]] = {
    "kinesis": {"EventSourceArn": STREAM, "StartingPosition": "LATEST"},
    "dynamodb": {"EventSourceArn": TABLE, "StartingPosition": "LATEST"},
    "sqs": {"EventSourceArn": QUEUE},
    "msk": {"EventSourceArn": CLUSTER, "StartingPosition": "LATEST", "Topics": ["topic"]},
    "kafka": KAFKA,
    "mq": {"EventSourceArn": BROKER, "Queues": ["q"], "SourceAccessConfigurations": SECRET},
    "documentdb": {
        "EventSourceArn": DOCUMENTS,
        "StartingPosition": "LATEST",
        "SourceAccessConfigurations": SECRET,
        "DocumentDBEventSourceConfig": {"DatabaseName": "d"},
    },
}
"""What each kind of source needs."""
OWN: dict[str, tuple[Any, set[str]]] = {
    "ParallelizationFactor": (2, {"kinesis", "dynamodb"}),
    "TumblingWindowInSeconds": (30, {"kinesis", "dynamodb"}),
    "BisectBatchOnFunctionError": (True, {"kinesis", "dynamodb", "msk", "kafka"}),
    "MaximumRecordAgeInSeconds": (60, {"kinesis", "dynamodb", "msk", "kafka"}),
    "MaximumRetryAttempts": (3, {"kinesis", "dynamodb", "msk", "kafka"}),
    "DestinationConfig": ({"OnFailure": {"Destination": QUEUE}}, {"kinesis", "dynamodb", "msk", "kafka"}),
    "FunctionResponseTypes": (["ReportBatchItemFailures"], {"kinesis", "dynamodb", "sqs", "msk", "kafka"}),
    "ScalingConfig": ({"MaximumConcurrency": 2}, {"sqs"}),
    "ProvisionedPollerConfig": ({"MinimumPollers": 2, "MaximumPollers": 4}, {"sqs", "msk", "kafka"}),
    "LoggingConfig": ({"SystemLogLevel": "WARN"}, {"msk", "kafka"}),
    "AmazonManagedKafkaEventSourceConfig": ({"ConsumerGroupId": "g"}, {"msk"}),
    "SelfManagedKafkaEventSourceConfig": ({"ConsumerGroupId": "g"}, {"kafka"}),
    "DocumentDBEventSourceConfig": ({"DatabaseName": "d", "FullDocument": "UpdateLookup"}, {"documentdb"}),
    "MetricsConfig": ({"Metrics": ["EventCount"]}, set(LEAST)),
    "FilterCriteria": ({"Filters": [{"Pattern": '{"a": ["b"]}'}]}, set(LEAST)),
    "MaximumBatchingWindowInSeconds": (5, set(LEAST)),
}
"""A value for each setting, and the sources that take it."""
NONE = "The resource you requested does not exist."


def said(answer: Any) -> dict[str, Any]:
    """What an answer says, but for what is another each time."""
    assert answer["EventSourceMappingArn"].endswith(f":event-source-mapping:{answer['UUID']}")
    own = ("LastModified", "UUID", "EventSourceMappingArn", "ResponseMetadata")
    return {name: value for name, value in answer.items() if name not in own}


def test_a_queues_mapping_lives_through_its_states(client: LambdaClient, create: Create) -> None:
    create()
    made = client.create_event_source_mapping(EventSourceArn=QUEUE, FunctionName="thumbs")
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    whole = {
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0,
        "EventSourceArn": QUEUE,
        "FunctionArn": ARN,
        "FunctionResponseTypes": [],
        "State": "Creating",
        "StateTransitionReason": "USER_INITIATED",
    }
    assert said(made) == whole
    got = client.get_event_source_mapping(UUID=made["UUID"])
    assert said(got) == {**whole, "State": "Enabled"}
    disabled = client.update_event_source_mapping(UUID=made["UUID"], Enabled=False, BatchSize=5)
    assert (disabled["State"], disabled["BatchSize"]) == ("Disabling", 5)
    assert client.get_event_source_mapping(UUID=made["UUID"])["State"] == "Disabled"
    assert client.update_event_source_mapping(UUID=made["UUID"], BatchSize=6)["State"] == "Updating"
    assert client.get_event_source_mapping(UUID=made["UUID"])["State"] == "Disabled"
    assert client.update_event_source_mapping(UUID=made["UUID"], Enabled=True)["State"] == "Enabling"
    deleted = client.delete_event_source_mapping(UUID=made["UUID"])
    assert (deleted["State"], deleted["BatchSize"]) == ("Deleting", 6)
    assert error_of(client.get_event_source_mapping, UUID=made["UUID"])["Code"] == "ResourceNotFoundException"


def test_a_streams_mapping_has_all_of_its_settings(client: LambdaClient, create: Create) -> None:
    create()
    made = client.create_event_source_mapping(
        EventSourceArn=STREAM,
        FunctionName=ARN,
        StartingPosition="AT_TIMESTAMP",
        StartingPositionTimestamp=datetime(2026, 1, 2, tzinfo=UTC),
        Enabled=False,
        FilterCriteria={"Filters": [{"Pattern": json.dumps({"data": {"kind": ["click"]}})}]},
        DestinationConfig={"OnFailure": {"Destination": QUEUE}},
    )
    assert said(client.get_event_source_mapping(UUID=made["UUID"])) == {
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "DestinationConfig": {"OnFailure": {"Destination": QUEUE}},
        "EventSourceArn": STREAM,
        "FilterCriteria": {"Filters": [{"Pattern": '{"data": {"kind": ["click"]}}'}]},
        "FunctionArn": ARN,
        "LastProcessingResult": "No records processed",
        "StartingPosition": "AT_TIMESTAMP",
        "StartingPositionTimestamp": datetime(2026, 1, 2, tzinfo=UTC),
        "State": "Disabled",
        "StateTransitionReason": "User action",
    }


def test_a_kafka_mapping_gets_a_consumer_group(client: LambdaClient, create: Create) -> None:
    create()
    made = client.create_event_source_mapping(FunctionName="thumbs", **KAFKA)
    assert made["SelfManagedKafkaEventSourceConfig"] == {"ConsumerGroupId": made["UUID"]}
    assert (made["Topics"], made["SourceAccessConfigurations"], made["BatchSize"]) == (["topic"], SECRET, 100)


def test_a_mapping_of_a_self_managed_kafka_starts_at_the_oldest_record_unless_told(
    client: LambdaClient, create: Create
) -> None:
    create()
    least = {name: value for name, value in KAFKA.items() if name != "StartingPosition"}
    made = client.create_event_source_mapping(FunctionName="thumbs", **least)
    assert made["StartingPosition"] == "TRIM_HORIZON"
    other = {**least, "Topics": ["other"], "StartingPosition": "LATEST"}
    assert client.create_event_source_mapping(FunctionName="thumbs", **other)["StartingPosition"] == "LATEST"


def test_filters_that_select_nothing_are_none(client: LambdaClient, create: Create) -> None:
    create()
    made = client.create_event_source_mapping(
        EventSourceArn=TABLE, FunctionName="thumbs", StartingPosition="LATEST", FilterCriteria={"Filters": []}
    )
    assert "FilterCriteria" not in made


def test_mappings_are_listed_by_function_by_source_and_page_by_page(client: LambdaClient, create: Create) -> None:
    create()
    create("other")
    for number in range(3):
        client.create_event_source_mapping(EventSourceArn=f"{QUEUE}{number}", FunctionName="thumbs")
    client.create_event_source_mapping(EventSourceArn=f"{QUEUE}0", FunctionName="other")
    paginator = client.get_paginator("list_event_source_mappings")
    pages = list(paginator.paginate(FunctionName="thumbs", PaginationConfig={"PageSize": 2}))
    assert [len(page["EventSourceMappings"]) for page in pages] == [2, 1]
    assert {one["FunctionArn"] for page in pages for one in page["EventSourceMappings"]} == {ARN}
    both = client.list_event_source_mappings(EventSourceArn=f"{QUEUE}0")["EventSourceMappings"]
    assert len(both) == 2
    assert len(client.list_event_source_mappings()["EventSourceMappings"]) == 4


def test_a_mapping_outlives_its_function(client: LambdaClient, create: Create) -> None:
    create()
    made = client.create_event_source_mapping(EventSourceArn=QUEUE, FunctionName="thumbs")
    client.delete_function(FunctionName="thumbs")
    assert client.get_event_source_mapping(UUID=made["UUID"])["FunctionArn"] == ARN
    client.delete_event_source_mapping(UUID=made["UUID"])


INVALID: list[tuple[dict[str, Any], str]] = [
    ({}, "Unrecognized event source."),
    ({"EventSourceArn": f"arn:aws:s3:{REGION}:{ACCOUNT}:x"}, "Unrecognized event source."),
    ({"EventSourceArn": QUEUE, "FunctionName": "x"}, "Function does not exist"),
    (
        {"EventSourceArn": STREAM},
        "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not "
        "be null.",
    ),
    (
        {
            "EventSourceArn": TABLE,
            "StartingPosition": "AT_TIMESTAMP",
            "StartingPositionTimestamp": datetime(2026, 1, 2, tzinfo=UTC),
        },
        f"Unsupported starting position for arn type: {TABLE}",
    ),
    ({"EventSourceArn": STREAM, "StartingPosition": "AT_TIMESTAMP"}, "StartingPositionTimestamp must be specified"),
    (
        {"EventSourceArn": QUEUE, "DestinationConfig": {"OnFailure": {"Destination": STREAM}}},
        "Unsupported DestinationConfig parameter for given event source mapping type.",
    ),
    ({"EventSourceArn": QUEUE, "ParallelizationFactor": 2}, "Unsupported ParallelizationFactor parameter"),
    (
        {"EventSourceArn": QUEUE, "BatchSize": 11},
        "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
    ),
    (
        {"EventSourceArn": f"{QUEUE}.fifo", "BatchSize": 100, "MaximumBatchingWindowInSeconds": 5},
        "Batching window is not supported for FIFO queues",
    ),
    ({"EventSourceArn": f"{QUEUE}.fifo", "BatchSize": 11}, "Maximum batch window in seconds must be greater than 0"),
    (
        {"EventSourceArn": QUEUE, "StartingPosition": "LATEST"},
        "StartingPosition is not valid for SQS event sources.",
    ),
    ({"EventSourceArn": f"{QUEUE}.fifo", "ProvisionedPollerConfig": {"MinimumPollers": 1}}, "MinimumPollers and Max"),
    (
        {
            "EventSourceArn": QUEUE,
            "ProvisionedPollerConfig": {"MinimumPollers": 2},
            "ScalingConfig": {"MaximumConcurrency": 2},
        },
        "ScalingConfig cannot be used with ProvisionedPollerConfig",
    ),
    (
        {**KAFKA, "ProvisionedPollerConfig": {"MinimumPollers": 3, "MaximumPollers": 2}},
        "MinimumPollers must be less than or equal to MaximumPollers.",
    ),
    ({"EventSourceArn": STREAM, "StartingPosition": "LATEST", "MaximumRecordAgeInSeconds": 59}, "MaximumRecordAgeIn"),
    (
        {
            "EventSourceArn": STREAM,
            "StartingPosition": "AT_TIMESTAMP",
            "StartingPositionTimestamp": datetime(2200, 1, 2, tzinfo=UTC),
        },
        "StartingPositionTimestamp cannot be in the future.",
    ),
    (
        {
            "EventSourceArn": STREAM,
            "StartingPosition": "LATEST",
            "DestinationConfig": {"OnFailure": {"Destination": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"}},
        },
        "The destination arn:aws:lambda",
    ),
    (
        {
            "EventSourceArn": STREAM,
            "StartingPosition": "LATEST",
            "DestinationConfig": {"OnFailure": {"Destination": "kafka://failures"}},
        },
        "The destination kafka://failures",
    ),
    (
        {**KAFKA, "SourceAccessConfigurations": [{"Type": "VIRTUAL_HOST", "URI": "/"}]},
        "Unsupported SourceAccessConfigurations type VIRTUAL_HOST",
    ),
    (
        {"EventSourceArn": QUEUE, "FilterCriteria": {"Filters": [{"Pattern": '{"a": ["b"]}'}] * 11}},
        "FilterCriteria must have at most 10 filters",
    ),
    (
        {**KAFKA, "SelfManagedKafkaEventSourceConfig": {"ConsumptionMode": "Queue"}},
        "Unsupported 'ConsumptionMode' parameter for given event source mapping type",
    ),
    ({"EventSourceArn": BROKER, "Queues": ["q"]}, "Required 'sourceAccessConfigurations' parameter is missing."),
    ({"EventSourceArn": BROKER, "SourceAccessConfigurations": SECRET}, "Required 'queues' parameter is missing."),
    ({"EventSourceArn": CLUSTER, "StartingPosition": "LATEST"}, "Required 'topics' parameter is missing."),
    (
        {"EventSourceArn": DOCUMENTS, "StartingPosition": "LATEST", "SourceAccessConfigurations": SECRET},
        "Required 'documentDBEventSourceConfig' parameter is missing.",
    ),
    (
        {**KAFKA, "SourceAccessConfigurations": []},
        "Required 'sourceAccessConfigurations' parameter is missing.",
    ),
    (
        {"EventSourceArn": QUEUE, "FilterCriteria": {"Filters": [{"Pattern": "text"}]}},
        "Invalid filter pattern definition.",
    ),
    (
        {"EventSourceArn": QUEUE, "FilterCriteria": {"Filters": [{"Pattern": '{"a": "b"}'}]}},
        "Invalid filter pattern defi",
    ),
    ({"EventSourceArn": QUEUE, "FilterCriteria": {"Filters": [{}]}}, "Invalid filter pattern definition."),
]


@pytest.mark.parametrize(("given", "message"), INVALID)
def test_settings_that_do_not_fit_the_source_are_refused(
    client: LambdaClient, create: Create, given: dict[str, Any], message: str
) -> None:
    create()
    error = error_of(client.create_event_source_mapping, **{"FunctionName": "thumbs", **given})
    assert (error["Code"], error["Message"][: len(message)]) == ("InvalidParameterValueException", message)
    assert client.list_event_source_mappings()["EventSourceMappings"] == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"EventSourceArn": QUEUE},
            f'An event source mapping with SQS arn (" {QUEUE} ") and function (" thumbs ") already exists. ',
        ),
        (
            {"EventSourceArn": STREAM, "StartingPosition": "LATEST"},
            f'The event source arn (" {STREAM} ") and function (" thumbs ") provided mapping already exists. ',
        ),
        (
            KAFKA,
            f'An event source mapping with event source ("kafka:1000"), function ("{ARN}"), topics ("topic") already ',
        ),
    ],
)
def test_the_same_mapping_is_made_once(
    client: LambdaClient, create: Create, given: dict[str, Any], message: str
) -> None:
    create()
    made = client.create_event_source_mapping(FunctionName="thumbs", **given)
    error = error_of(client.create_event_source_mapping, FunctionName="thumbs", **given)
    assert (error["Code"], error["status"]) == ("ResourceConflictException", 409)
    assert error["Message"].startswith(message)
    assert error["Message"].endswith(f"Please update or delete the existing mapping with UUID {made['UUID']}")


def test_a_mapping_that_is_not_there_is_a_resource_not_found(client: LambdaClient, create: Create) -> None:
    create()
    nobody = "00000000-0000-4000-8000-000000000000"
    for call in (
        client.get_event_source_mapping,
        client.update_event_source_mapping,
        client.delete_event_source_mapping,
    ):
        error = error_of(call, UUID=nobody)
        assert (error["Code"], error["Message"]) == ("ResourceNotFoundException", NONE)


def test_an_update_is_checked_as_a_whole(client: LambdaClient, create: Create) -> None:
    create()
    made = client.create_event_source_mapping(EventSourceArn=QUEUE, FunctionName="thumbs")
    error = error_of(client.update_event_source_mapping, UUID=made["UUID"], BatchSize=11)
    assert error["Message"].startswith("Maximum batch window in seconds must be greater than 0")
    assert error_of(client.update_event_source_mapping, UUID=made["UUID"], FunctionName="x")["status"] == 400
    client.update_event_source_mapping(UUID=made["UUID"], BatchSize=11, MaximumBatchingWindowInSeconds=1)
    assert client.get_event_source_mapping(UUID=made["UUID"])["BatchSize"] == 11


@pytest.mark.parametrize("kind", LEAST)
def test_each_source_takes_its_own_settings_and_no_others(client: LambdaClient, create: Create, kind: str) -> None:
    create()
    for name, (value, kinds) in OWN.items():
        given = {"FunctionName": "thumbs", **LEAST[kind], name: value}
        if kind in kinds:
            made: Any = client.create_event_source_mapping(**given)
            assert made[name] == value
            client.delete_event_source_mapping(UUID=made["UUID"])
        else:
            error = error_of(client.create_event_source_mapping, **given)
            assert error["Message"] == f"Unsupported {name} parameter for given event source mapping type."


def test_an_empty_setting_is_taken_away(client: LambdaClient, create: Create) -> None:
    create()
    criteria: Any = {"Filters": [{"Pattern": '{"a": ["b"]}'}]}
    made = client.create_event_source_mapping(
        FunctionName="thumbs", EventSourceArn=QUEUE, ScalingConfig={"MaximumConcurrency": 2}, FilterCriteria=criteria
    )
    assert made["ScalingConfig"] == {"MaximumConcurrency": 2}
    after = client.update_event_source_mapping(UUID=made["UUID"], ScalingConfig={}, FilterCriteria={"Filters": []})
    assert not {"ScalingConfig", "FilterCriteria"} & set(after)


def test_collections_of_one_cluster_are_sources_of_their_own(client: LambdaClient, create: Create) -> None:
    create()
    own: Any = {"FunctionName": "thumbs", **LEAST["documentdb"]}
    for config in ({"DatabaseName": "d"}, {"DatabaseName": "d", "CollectionName": "c"}, {"DatabaseName": "e"}):
        client.create_event_source_mapping(**{**own, "DocumentDBEventSourceConfig": config})
    again = {**own, "DocumentDBEventSourceConfig": {"DatabaseName": "e", "FullDocument": "Default"}}
    assert error_of(client.create_event_source_mapping, **again)["Code"] == "ResourceConflictException"


def test_a_mapping_cannot_become_the_same_as_another(client: LambdaClient, create: Create) -> None:
    create()
    create("other")
    first = client.create_event_source_mapping(FunctionName="thumbs", EventSourceArn=QUEUE)
    second = client.create_event_source_mapping(FunctionName="other", EventSourceArn=QUEUE)
    error = error_of(client.update_event_source_mapping, UUID=second["UUID"], FunctionName="thumbs")
    assert (error["Code"], first["UUID"] in error["Message"]) == ("ResourceConflictException", True)
