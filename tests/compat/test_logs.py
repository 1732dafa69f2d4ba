"""CloudWatch Logs on the port of the Lambda API, through an unmodified boto3 client, over logs on a real disk."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from engine.model.invocation import LogBatch
from tests.compat.conftest import make_client, make_logs_client
from tests.compat.service_model import LOGS_MODEL
from tests.compat.stub_rooms import ACCOUNT, LOG_DAYS, REGION, ROLE, Front, Rooms, make_zip
from tests.compat.test_functions import error_of

NOW_MS = time.time_ns() // 1_000_000
STREAM = "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef"
OTHER = "2026/11/23/[7]fedcba9876543210fedcba9876543210"
ARN = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:"

Write = Callable[..., None]


@pytest.fixture(scope="module")
def logs_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with Front(Rooms(tmp_path_factory.mktemp("compat") / "logs")) as front:
        yield front


@pytest.fixture(scope="module")
def shared_logs(logs_front: Front) -> Iterator[Any]:
    client = make_logs_client(logs_front.url)
    yield client
    client.close()


_numbers = itertools.count(1)


@pytest.fixture
def name(logs_front: Front) -> str:
    """A function that is there, of this test's own."""
    name = f"f{next(_numbers)}"
    logs_front.call(logs_front.rooms.add_function(name))
    return name


@pytest.fixture
def group(name: str) -> str:
    return f"/aws/lambda/{name}"


@pytest.fixture
def logs(shared_logs: Any) -> Any:
    return shared_logs


@pytest.fixture
def write(logs_front: Front, name: str) -> Write:
    """Has the function write lines, so many milliseconds ago."""

    def write(ago_ms: int, *lines: str, stream: str = STREAM, function: str = name) -> None:
        batch = LogBatch((NOW_MS - ago_ms) * 1_000, "r1", stream, [line.encode() for line in lines])

        async def append() -> None:
            assert logs_front.rooms.logs is not None
            logs_front.rooms.logs.append(function, batch)

        logs_front.call(append())

    return write


def post(front: Front, operation: str, asked: dict[str, Any]) -> tuple[int, Any]:
    """Status and document of an answer to what no client would send."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)) as connection:
        connection.request("POST", "/", json.dumps(asked), {"X-Amz-Target": f"Logs_20140328.{operation}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def messages(answer: Any) -> list[str]:
    return [event["message"].removesuffix("\n") for event in answer["events"]]


def test_a_group_is_there_once_its_function_has_written(logs: Any, group: str, write: Write) -> None:
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"] == []
    error = error_of(logs.filter_log_events, logGroupName=group)
    assert (error["Code"], error["status"]) == ("ResourceNotFoundException", 400)
    assert error["Message"] == "The specified log group does not exist."
    write(0, "hello")
    [found] = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert found["logGroupName"] == group
    assert found["arn"] == f"{ARN}{group}:*"
    assert found["logGroupArn"] == ARN + group
    assert found["storedBytes"] > 0
    assert "retentionInDays" not in found
    assert logs.describe_log_groups(logGroupNamePattern=group[3:])["logGroups"] == [found]
    assert logs.describe_log_groups(logGroupIdentifiers=[ARN + group])["logGroups"] == [found]
    assert logs.describe_log_groups(logGroupNamePrefix=group, logGroupClass="DELIVERY")["logGroups"] == []
    for identifier in (group, ARN + group):
        assert messages(logs.filter_log_events(logGroupIdentifier=identifier)) == ["hello"]


def test_groups_come_in_pages(logs: Any, name: str) -> None:
    names = [f"/pages/{name}/{n}" for n in range(5)]
    for one in names:
        logs.create_log_group(logGroupName=one)
    found = logs.get_paginator("describe_log_groups").paginate(
        logGroupNamePrefix=f"/pages/{name}/", PaginationConfig={"PageSize": 2}
    )
    assert [[group["logGroupName"] for group in page["logGroups"]] for page in found] == [
        names[:2],
        names[2:4],
        names[4:],
    ]
    for token in ("?", "bnVsbA==", "WzFd"):
        assert error_of(logs.describe_log_groups, nextToken=token)["Message"] == "The specified nextToken is invalid."


def test_functions_that_share_a_group_are_read_together_by_time(
    logs: Any, logs_front: Front, group: str, name: str, write: Write
) -> None:
    create: dict[str, Any] = {
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": make_zip()},
    }
    shared = f"/shared/{name}"
    with contextlib.closing(make_client(logs_front.url)) as functions:
        for number in (0, 1):
            functions.create_function(FunctionName=f"{name}-{number}", LoggingConfig={"LogGroup": shared}, **create)
        for ago_ms in range(6, 0, -1):
            write(ago_ms, f"line {6 - ago_ms}", function=f"{name}-{ago_ms % 2}", stream=STREAM + str(ago_ms % 2))
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=shared, PaginationConfig={"PageSize": 4})
        assert [messages(page) for page in pages] == [[f"line {n}" for n in range(4)], ["line 4", "line 5"]]
        assert len(logs.describe_log_streams(logGroupName=shared)["logStreams"]) == 2
        assert error_of(logs.describe_log_streams, logGroupName=f"{group}-1")["Code"] == "ResourceNotFoundException"
        own = f"{group}-1"
        functions.update_function_configuration(FunctionName=f"{name}-1", LoggingConfig={"LogGroup": own})
        assert len(logs.describe_log_streams(logGroupName=own)["logStreams"]) == 1
        functions.delete_function(FunctionName=f"{name}-0")
    assert error_of(logs.describe_log_streams, logGroupName=shared)["Code"] == "ResourceNotFoundException"


def test_streams_are_listed_by_name_or_by_their_last_event(logs: Any, group: str, write: Write) -> None:
    write(5_000, "a")
    write(4_000, "b", stream=OTHER)
    write(3_000, "c")
    first, second = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert [first["logStreamName"], second["logStreamName"]] == sorted([STREAM, OTHER])
    assert (first["firstEventTimestamp"], first["lastEventTimestamp"]) == (NOW_MS - 5_000, NOW_MS - 3_000)
    assert first["arn"] == f"{ARN}{group}:log-stream:{STREAM}"
    assert first["storedBytes"] == 0

    def names(**settings: Any) -> list[str]:
        pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group, **settings)
        return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]

    one_each: dict[str, Any] = {"PaginationConfig": {"PageSize": 1}}
    assert names(orderBy="LastEventTime", descending=True, **one_each) == [STREAM, OTHER]
    assert names(orderBy="LastEventTime", **one_each) == [OTHER, STREAM]
    assert names(descending=True, **one_each) == sorted([STREAM, OTHER], reverse=True)
    assert names(logStreamNamePrefix="2026/11/23/[7]") == [OTHER]
    error = error_of(logs.describe_log_streams, logGroupName=group, logStreamNamePrefix="2026", orderBy="LastEventTime")
    assert error["Message"] == "Cannot order by LastEventTime with a logStreamNamePrefix."


def test_events_of_a_stream_are_read_in_both_directions_until_the_token_stays(
    logs: Any, group: str, write: Write
) -> None:
    for n in range(5):
        write(1_000 - n, f"line {n}")
        write(1_000 - n, "other", stream=OTHER)

    def get(**settings: Any) -> Any:
        return logs.get_log_events(logGroupName=group, logStreamName=STREAM, **settings)

    assert messages(get()) == [f"line {n}" for n in range(5)]
    head = get(startFromHead=True, limit=2)
    assert messages(head) == ["line 0", "line 1"]
    assert [event["timestamp"] for event in head["events"]] == [NOW_MS - 1_000, NOW_MS - 999]
    assert all(event["ingestionTime"] >= event["timestamp"] for event in head["events"])
    second = get(startFromHead=True, limit=2, nextToken=head["nextForwardToken"])
    third = get(startFromHead=True, limit=2, nextToken=second["nextForwardToken"])
    end = get(startFromHead=True, limit=2, nextToken=third["nextForwardToken"])
    assert [messages(page) for page in (second, third, end)] == [["line 2", "line 3"], ["line 4"], []]
    assert end["nextForwardToken"] == third["nextForwardToken"]
    assert messages(get(limit=2, nextToken=end["nextBackwardToken"])) == ["line 3", "line 4"]
    tail = get(limit=2)
    assert messages(tail) == ["line 3", "line 4"]
    before = get(limit=2, nextToken=tail["nextBackwardToken"])
    first = get(limit=2, nextToken=before["nextBackwardToken"])
    start = get(limit=2, nextToken=first["nextBackwardToken"])
    assert [messages(page) for page in (before, first, start)] == [["line 1", "line 2"], ["line 0"], []]
    assert start["nextBackwardToken"] == first["nextBackwardToken"]
    assert messages(get(limit=2, nextToken=start["nextForwardToken"])) == ["line 0", "line 1"]
    write(0, "line 5")
    assert messages(get(nextToken=end["nextForwardToken"])) == ["line 5"]
    assert messages(get(nextToken=tail["nextForwardToken"])) == ["line 5"]
    for token in ("f/1/s", "x", "f/" + "9" * 57 + "/s"):
        assert error_of(get, nextToken=token)["Message"] == "The specified nextToken is invalid."
    for token in ("f/" + "9" * 56 + "/s", "b/" + "0" * 56 + "/s"):
        assert messages(get(nextToken=token)) == []


def test_the_end_of_a_time_range_is_out_for_one_operation_and_in_for_the_other(
    logs: Any, group: str, write: Write
) -> None:
    for n in range(4):
        write(10 - n, f"line {n}")
    between = {"startTime": NOW_MS - 9, "endTime": NOW_MS - 8}
    read = logs.get_log_events(logGroupName=group, logStreamName=STREAM, **between)
    assert messages(read) == ["line 1"]
    assert messages(logs.filter_log_events(logGroupName=group, **between)) == ["line 1", "line 2"]
    empty = logs.get_log_events(logGroupName=group, logStreamName=STREAM, startTime=NOW_MS + 1_000)
    assert messages(empty) == []
    assert error_of(logs.filter_log_events, logGroupName=group, startTime=9, endTime=8)["Code"] == (
        "InvalidParameterException"
    )


def test_events_are_filtered_by_pattern_and_stream(logs: Any, group: str, write: Write) -> None:
    write(5, "[ERROR] one", "[INFO] two", '{"level": "ERROR", "ms": 12}')
    write(4, "[ERROR] three", stream=OTHER)

    def found(pattern: str = "", **settings: Any) -> list[str]:
        return messages(logs.filter_log_events(logGroupName=group, filterPattern=pattern, **settings))

    assert found('"[ERROR]"') == ["[ERROR] one", "[ERROR] three"]
    assert found("ERROR -three -level") == ["[ERROR] one"]
    assert found("?two ?three") == ["[INFO] two", "[ERROR] three"]
    assert found('{ $.level = "ERROR" && $.ms > 10 }') == ['{"level": "ERROR", "ms": 12}']
    assert found(logStreamNames=[OTHER]) == ["[ERROR] three"]
    assert found(logStreamNamePrefix="2026/11/23/[7]") == ["[ERROR] three"]
    assert found(startFromHead=False, limit=1) == ["[ERROR] three"]
    error = error_of(logs.filter_log_events, logGroupName=group, filterPattern="%regex%")
    assert error["Code"] == "InvalidParameterException"
    assert error["Message"].startswith("Invalid filter pattern: regular expressions are not served; ")
    error = error_of(logs.filter_log_events, logGroupName=group, logStreamNames=[OTHER], logStreamNamePrefix="2026")
    assert "mutually exclusive" in error["Message"]


def test_whoever_follows_as_the_command_line_does_gets_each_event_once(logs: Any, group: str, write: Write) -> None:
    seen: dict[str, str] = {}
    since = NOW_MS - 600_000
    for n in range(3):
        write(100 - n, f"line {n}", "twice", "twice", stream=STREAM if n % 2 else OTHER)
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=group, startTime=since, interleaved=True, PaginationConfig={"PageSize": 2}
        )
        for event in (event for page in pages for event in page["events"]):
            assert seen.setdefault(event["eventId"], event["message"]) == event["message"]
            assert len(event["eventId"]) == 56
            since = max(since, event["timestamp"])
    assert sorted(seen.values()) == sorted(["line 0\n", "line 1\n", "line 2\n", *["twice\n"] * 6])


def test_a_group_can_be_made_ahead_tagged_and_deleted(logs: Any, group: str, write: Write) -> None:
    logs.create_log_group(logGroupName=group, tags={"team": "a"})
    [made] = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert made["storedBytes"] == 0
    assert made["creationTime"] >= NOW_MS
    assert logs.describe_log_streams(logGroupName=group)["logStreams"] == []
    assert messages(logs.filter_log_events(logGroupName=group)) == []
    error = error_of(logs.get_log_events, logGroupName=group, logStreamName=STREAM)
    assert error["Message"] == "The specified log stream does not exist."
    error = error_of(logs.create_log_group, logGroupName=group)
    assert (error["Code"], error["Message"]) == (
        "ResourceAlreadyExistsException",
        "The specified log group already exists",
    )
    logs.tag_resource(resourceArn=ARN + group, tags={"stage": "b"})
    logs.untag_resource(resourceArn=ARN + group, tagKeys=["team"])
    assert logs.list_tags_for_resource(resourceArn=ARN + group)["tags"] == {"stage": "b"}
    write(0, "line")
    assert len(logs.describe_log_streams(logGroupName=group)["logStreams"]) == 1
    logs.delete_log_group(logGroupName=group)
    for call in (logs.delete_log_group, logs.describe_log_streams):
        assert error_of(call, logGroupName=group)["Message"] == "The specified log group does not exist."
    assert error_of(logs.list_tags_for_resource, resourceArn=ARN + group)["Code"] == "ResourceNotFoundException"
    write(0, "again")
    assert messages(logs.filter_log_events(logGroupName=group)) == ["again"]
    for unhonoured in (
        {"kmsKeyId": "any"},
        {"logGroupClass": "INFREQUENT_ACCESS"},
        {"deletionProtectionEnabled": True},
    ):
        error = error_of(logs.create_log_group, logGroupName=group + "-2", **unhonoured)
        assert error["Code"] == "InvalidParameterException"
        assert next(iter(unhonoured)) in error["Message"]


def test_a_retention_policy_hides_what_is_older(logs: Any, group: str, write: Write) -> None:
    write(2 * 86_400_000, "old", stream=OTHER)
    write(0, "young")
    logs.put_retention_policy(logGroupName=group, retentionInDays=1)
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["retentionInDays"] == 1
    assert messages(logs.filter_log_events(logGroupName=group)) == ["young"]
    assert [one["logStreamName"] for one in logs.describe_log_streams(logGroupName=group)["logStreams"]] == [STREAM]
    logs.delete_retention_policy(logGroupName=group)
    assert messages(logs.filter_log_events(logGroupName=group)) == ["old", "young"]
    error = error_of(logs.put_retention_policy, logGroupName=group, retentionInDays=30)
    assert error["Message"].startswith(
        f"Lines are kept for {LOG_DAYS} days, and cannot be for 30; set function_log_days "
    )
    error = error_of(logs.put_retention_policy, logGroupName=group, retentionInDays=2)
    assert error["Message"].startswith(
        "1 validation error detected: Value '2' at 'retentionInDays' failed to satisfy constraint: Member must satisfy "
        "enum value set: [1, 3, 5, "
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "Exactly one of logGroupName and logGroupIdentifier has to be given"),
        (
            {"logGroupName": "a b"},
            r"1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must "
            r"satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+",
        ),
        (
            {"logGroupName": "a", "limit": 10_001},
            "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: Member must have "
            "value less than or equal to 10000",
        ),
        ({"logGroupName": "a", "limit": "x"}, "STRING_VALUE can not be converted to an Integer"),
        ({"logGroupName": "a", "unheard": 1}, "1 validation error detected: Value '…' at 'unheard' failed"),
    ],
)
def test_a_request_that_does_not_fit_the_model_is_refused_in_aws_words(
    logs_front: Front, asked: dict[str, Any], said: str
) -> None:
    status, document = post(logs_front, "FilterLogEvents", asked)
    kind = "SerializationException" if asked.get("limit") == "x" else "InvalidParameterException"
    assert (status, document["__type"]) == (400, kind)
    assert document["message"].startswith(said)


def _required(shape: Any, depth: int = 3) -> Any:
    """The least that a client accepts for a shape."""
    match shape.type_name:
        case "structure":
            return {name: _required(shape.members[name], depth - 1) for name in shape.required_members}
        case "list":
            return [_required(shape.member, depth - 1)] * max(1, shape.metadata.get("min", 1))
        case "map":
            return {}
        case "boolean":
            return True
        case "integer" | "long" | "double" | "float":
            return 1
        case _:
            return (shape.metadata.get("enum") or ["x" * max(1, shape.metadata.get("min", 1))])[0]


SERVED = {
    "CreateLogGroup",
    "DeleteLogGroup",
    "DeleteRetentionPolicy",
    "DescribeLogGroups",
    "DescribeLogStreams",
    "FilterLogEvents",
    "GetLogEvents",
    "ListTagsForResource",
    "PutRetentionPolicy",
    "TagResource",
    "UntagResource",
}


def test_every_other_operation_is_refused_with_an_error_that_it_models(logs_front: Front) -> None:
    client = make_logs_client(logs_front.url, parameter_validation=False, inject_host_prefix=False)
    for name in set(LOGS_MODEL.operation_names) - SERVED:
        shape = LOGS_MODEL.operation_model(name).input_shape
        with pytest.raises(ClientError) as refused:
            getattr(client, xform_name(name))(**(_required(shape) if shape else {}))
        said = refused.value.response["Error"]["Message"]
        assert said.startswith(
            f"{name} is an operation of CloudWatch Logs that this release does not serve; served are"
        )
    client.close()
    status, document = post(logs_front, "MakeCoffee", {})
    assert (status, document["__type"]) == (400, "UnknownOperationException")


def test_the_operations_that_are_served_are_those_that_it_says(logs_front: Front) -> None:
    _, document = post(logs_front, "StartQuery", {})
    assert set(document["message"].split("served are ")[1].split(", ")) == SERVED
    assert logs_front.rooms.faults.events == []
