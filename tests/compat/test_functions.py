"""Functions through an unmodified boto3 client."""

from __future__ import annotations

import base64
import hashlib
import re
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from engine.model.function import FunctionState
from tests.compat.conftest import Create
from tests.compat.stub_rooms import ACCOUNT, REGION, ROLE, Rooms, make_zip

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:thumbs"


def sha(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def error_of(call: Any, **parameters: Any) -> dict[str, Any]:
    """What a client reads of the error that a call ends in."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response: Any = caught.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return {**response["Error"], "status": status, "response": response}


def test_a_created_function_is_described_in_full(create: Create) -> None:
    code = make_zip()
    created = create(
        Description="makes thumbnails",
        Timeout=30,
        MemorySize=1769,
        EphemeralStorage={"Size": 1024},
        Environment={"Variables": {"COLOUR": "blue"}},
        Code={"ZipFile": code},
    )
    assert created.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    assert re.fullmatch(r"[0-9a-f-]{36}", created.pop("RevisionId"))
    assert created.pop("Architectures") in (["x86_64"], ["arm64"])
    assert created == {
        "FunctionName": "thumbs",
        "FunctionArn": ARN,
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "CodeSize": len(code),
        "Description": "makes thumbnails",
        "Timeout": 30,
        "MemorySize": 1769,
        "LastModified": "2026-01-01T00:00:00.120+0000",
        "CodeSha256": sha(code),
        "Version": "$LATEST",
        "Environment": {"Variables": {"COLOUR": "blue"}},
        "TracingConfig": {"Mode": "PassThrough"},
        "State": "Active",
        "PackageType": "Zip",
        "EphemeralStorage": {"Size": 1024},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "RuntimeVersionConfig": {"RuntimeVersionArn": f"arn:aws:lambda:{REGION}::runtime:python3.11"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/thumbs"},
    }


def test_lists_of_functions_leave_out_what_only_a_get_tells(client: LambdaClient, create: Create) -> None:
    create(Publish=True)
    whole: Any = client.get_function_configuration(FunctionName="thumbs")
    assert (whole["State"], whole["LastUpdateStatus"]) == ("Active", "Successful")
    less = set(whole) - {"State", "LastUpdateStatus", "RuntimeVersionConfig", "ResponseMetadata"}
    every_version: Any = client.list_functions(FunctionVersion="ALL")["Functions"]
    versions: Any = client.list_versions_by_function(FunctionName="thumbs")["Versions"]
    for one in (*client.list_functions()["Functions"], *every_version, *versions):
        assert set(one) == less


def test_a_log_has_a_format_and_in_json_levels(client: LambdaClient, create: Create) -> None:
    group = {"LogGroup": "/aws/lambda/thumbs"}
    created = create(LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "WARN"})
    whole = {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "WARN", **group}
    assert created["LoggingConfig"] == whole
    changed = client.update_function_configuration(
        FunctionName="thumbs", LoggingConfig={"ApplicationLogLevel": "FATAL"}
    )
    assert changed["LoggingConfig"] == {**whole, "ApplicationLogLevel": "FATAL"}
    text = client.update_function_configuration(FunctionName="thumbs", LoggingConfig={"LogFormat": "Text"})
    assert text["LoggingConfig"] == {"LogFormat": "Text", **group}
    for wrong in ({"ApplicationLogLevel": "INFO"}, {"LogFormat": "Text", "SystemLogLevel": "INFO"}):
        error = error_of(client.update_function_configuration, FunctionName="thumbs", LoggingConfig=wrong)
        assert error["Code"] == "InvalidParameterValueException"
        assert error["Message"] == (
            'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change '
            'the LogFormat to "JSON" and try again.'
        )


KEPT: dict[str, Any] = {
    "TracingConfig": {"Mode": "Active"},
    "DeadLetterConfig": {"TargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:failed"},
    "KMSKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1",
    "SnapStart": {"ApplyOn": "PublishedVersions"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
    "LoggingConfig": {"LogGroup": "/own/group"},
}
SHOWN = {
    **KEPT,
    "SnapStart": {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "", "Ipv6AllowedForDualStack": False},
    "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/own/group"},
}


def shown(answer: Any) -> dict[str, Any]:
    return {name: answer[name] for name in SHOWN if name in answer}


def test_settings_that_are_only_kept_are_given_back(client: LambdaClient, create: Create) -> None:
    assert shown(create(**KEPT)) == SHOWN
    client.update_function_configuration(FunctionName="thumbs", Timeout=9)
    assert shown(client.get_function_configuration(FunctionName="thumbs")) == SHOWN
    client.update_function_configuration(FunctionName="thumbs", TracingConfig={"Mode": "PassThrough"})
    client.update_function_configuration(FunctionName="thumbs", DeadLetterConfig={"TargetArn": ""}, KMSKeyArn="")
    changed = client.update_function_configuration(FunctionName="thumbs", SnapStart={"ApplyOn": "None"})
    assert shown(changed) == {
        "TracingConfig": {"Mode": "PassThrough"},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "VpcConfig": SHOWN["VpcConfig"],
        "LoggingConfig": SHOWN["LoggingConfig"],
    }


def test_settings_that_are_only_kept_are_added_to_a_function_without(client: LambdaClient, create: Create) -> None:
    assert "VpcConfig" not in create()
    assert shown(client.update_function_configuration(FunctionName="thumbs", **KEPT)) == SHOWN


def test_dead_letters_go_to_a_queue_or_a_topic(client: LambdaClient, create: Create) -> None:
    create()
    wrong: Any = {"TargetArn": f"arn:aws:s3:{REGION}:{ACCOUNT}:bucket"}
    error = error_of(client.update_function_configuration, FunctionName="thumbs", DeadLetterConfig=wrong)
    assert error["Code"] == "InvalidParameterValueException"
    assert "DeadLetterConfig" not in client.get_function_configuration(FunctionName="thumbs")


def test_what_is_left_out_gets_lambdas_defaults(create: Create) -> None:
    created = create()
    assert (created["MemorySize"], created["Timeout"], created["EphemeralStorage"]) == (128, 3, {"Size": 512})
    assert created["Description"] == ""
    assert "Environment" not in created


def test_get_function_says_where_its_code_is(client: LambdaClient, create: Create) -> None:
    code = make_zip("handler = None")
    created = create(Code={"ZipFile": code})
    got = client.get_function(FunctionName="thumbs")
    assert got["Configuration"]["RevisionId"] == created["RevisionId"]
    assert got["Code"]["RepositoryType"] == "S3"
    assert "Tags" not in got
    with urllib.request.urlopen(got["Code"]["Location"]) as download:
        assert download.read() == code
        assert download.headers["content-type"] == "application/zip"


@pytest.mark.parametrize(
    "name",
    ["thumbs", ARN, f"{ARN}:$LATEST", f"{ACCOUNT}:function:thumbs", "function:thumbs", "thumbs:$LATEST"],
)
def test_a_function_is_found_by_every_form_of_its_name(client: LambdaClient, create: Create, name: str) -> None:
    create()
    got = client.get_function_configuration(FunctionName=name)
    assert got["FunctionName"] == "thumbs"
    assert got["FunctionArn"] == (f"{ARN}:$LATEST" if name.endswith("$LATEST") else ARN)


@pytest.mark.parametrize(
    "name",
    [
        f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:thumbs",
        "other",
        "thumbs:3",
        "thumbs:live",
    ],
)
def test_a_function_that_is_not_here_is_a_resource_not_found(client: LambdaClient, create: Create, name: str) -> None:
    create()
    # To delete a version that is not there is no error, and an alias cannot be deleted so: test_versions.
    delete = [] if name.startswith("thumbs:") else [client.delete_function]
    for call in (client.get_function, client.get_function_configuration, client.invoke, *delete):
        error = error_of(call, FunctionName=name)
        assert (error["Code"], error["status"]) == ("ResourceNotFoundException", 404)
        assert error["Message"].startswith(("Function not found: ", "Functions from 'eu-west-1' are not reachable"))
    assert client.get_function(FunctionName="thumbs")


@pytest.mark.parametrize(
    "name", [f"arn:aws:lambda:{REGION}:123456789012:function:thumbs", "123456789012:function:thumbs"]
)
def test_a_function_of_another_account_may_not_be_reached(client: LambdaClient, create: Create, name: str) -> None:
    create()
    for call in (client.get_function, client.delete_function, client.invoke):
        error = error_of(call, FunctionName=name)
        assert (error["Code"], error["status"]) == ("AccessDeniedException", 403)


def test_the_text_of_a_function_not_found_is_aws(client: LambdaClient) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_function(FunctionName="thumbs", Qualifier="3")
    assert caught.value.response["Error"]["Message"] == f"Function not found: {ARN}:3"
    # boto3 reads `Type` for no error; the other clients do.
    assert caught.value.response["Type"] == "User"  # type: ignore[typeddict-item]


def test_a_name_is_given_once(client: LambdaClient, create: Create) -> None:
    create()
    with pytest.raises(client.exceptions.ResourceConflictException, match="Function already exist: thumbs"):
        create()


def test_configuration_is_updated_member_by_member(client: LambdaClient, create: Create) -> None:
    created = create(Environment={"Variables": {"COLOUR": "blue"}}, Description="a")
    updated = client.update_function_configuration(FunctionName="thumbs", MemorySize=256, Timeout=9)
    assert (updated["MemorySize"], updated["Timeout"], updated["Description"]) == (256, 9, "a")
    assert updated["Environment"] == {"Variables": {"COLOUR": "blue"}}
    assert updated["RevisionId"] != created["RevisionId"]
    emptied = client.update_function_configuration(FunctionName="thumbs", Environment={}, Description="")
    assert "Environment" not in emptied
    assert emptied["Description"] == ""


def test_code_is_updated(client: LambdaClient, create: Create) -> None:
    create()
    code = make_zip("answer = 42")
    updated = client.update_function_code(FunctionName="thumbs", ZipFile=code)
    assert (updated["CodeSha256"], updated["CodeSize"]) == (sha(code), len(code))
    assert client.get_function_configuration(FunctionName="thumbs")["CodeSha256"] == sha(code)


def test_a_dry_run_of_new_code_changes_nothing(client: LambdaClient, create: Create) -> None:
    created = create()
    code = make_zip("answer = 42")
    tried = client.update_function_code(FunctionName="thumbs", ZipFile=code, DryRun=True)
    assert tried["CodeSha256"] == sha(code)
    left = client.get_function_configuration(FunctionName="thumbs")
    assert (left["CodeSha256"], left["RevisionId"]) == (created["CodeSha256"], created["RevisionId"])


def test_a_stale_revision_changes_nothing(client: LambdaClient, create: Create) -> None:
    stale = create()["RevisionId"]
    current = client.update_function_configuration(FunctionName="thumbs", Timeout=4, RevisionId=stale)["RevisionId"]
    with pytest.raises(client.exceptions.PreconditionFailedException) as caught:
        client.update_function_configuration(FunctionName="thumbs", Timeout=5, RevisionId=stale)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    for dry in (True, False):
        with pytest.raises(client.exceptions.PreconditionFailedException):
            client.update_function_code(FunctionName="thumbs", ZipFile=make_zip("1"), RevisionId=stale, DryRun=dry)
    left = client.get_function_configuration(FunctionName="thumbs")
    assert (left["Timeout"], left["RevisionId"]) == (4, current)


def test_functions_are_listed_page_by_page(client: LambdaClient, create: Create) -> None:
    names = [f"f{number:02}" for number in range(7)]
    for name in names:
        create(name)
    pages = list(client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3}))
    assert [len(page["Functions"]) for page in pages] == [3, 3, 1]
    assert [function["FunctionName"] for page in pages for function in page["Functions"]] == names
    assert "NextMarker" not in client.list_functions()
    every_version = client.list_functions(FunctionVersion="ALL", MaxItems=1)["Functions"][0]
    assert every_version["FunctionArn"].endswith(":f00:$LATEST")


@pytest.mark.parametrize("every", [False, True], ids=["latest", "all"])
def test_pages_lose_and_repeat_nothing_while_functions_come_and_go(
    client: LambdaClient, create: Create, every: bool
) -> None:
    for number in range(0, 60, 2):
        create(f"f{number:02}", Publish=every)
    listing: Any = {"MaxItems": 3, "FunctionVersion": "ALL"} if every else {"MaxItems": 3}
    found: list[tuple[str, str]] = []
    marker: Any = {}
    gone = set()
    for turn in range(100):
        page: Any = client.list_functions(**listing, **marker)
        found += [(one["FunctionName"], one["Version"]) for one in page["Functions"]]
        if "NextMarker" not in page:
            break
        marker = {"Marker": page["NextMarker"]}
        last = found[-1][0]  # the function that the marker is of goes, those around it come
        if turn % 2:
            client.delete_function(FunctionName=last)
            gone.add(last)
        for name in (f"f{max(int(last[1:3]) - 1, 0):02}b", f"{last}b"):
            if name not in gone and not [one for one in found if one[0] == name]:
                create(name)
                gone.add(name)
    assert found == sorted(set(found), key=lambda one: (one[0], one[1] != "$LATEST", one[1]))
    stayed = {f"f{number:02}" for number in range(0, 60, 2)} - gone
    versions = ["$LATEST", "1"] if every else ["$LATEST"]
    assert {(name, version) for name in stayed for version in versions} <= set(found)
    assert turn > 5


def test_functions_of_another_main_region_are_none(client: LambdaClient, create: Create) -> None:
    create()
    for region, found in (("ALL", 1), (REGION, 1), ("eu-west-1", 0)):
        assert len(client.list_functions(FunctionVersion="ALL", MasterRegion=region)["Functions"]) == found


def test_a_page_has_at_least_one_function(client: LambdaClient, unchecked: LambdaClient) -> None:
    for wrong in (0, 10_001):
        error = error_of(unchecked.list_functions, MaxItems=wrong)
        assert (error["Code"], error["status"]) == ("ValidationException", 400)
        assert error["Message"].startswith(f"1 validation error detected: Value '{wrong}' at 'maxItems' failed to")


def test_a_page_has_fifty_functions_at_most(client: LambdaClient, create: Create) -> None:
    for number in range(51):
        create(f"f{number:02}")
    assert len(client.list_functions(MaxItems=10_000)["Functions"]) == 50


def test_a_marker_that_none_was_given_is_refused(client: LambdaClient) -> None:
    assert error_of(client.list_functions, Marker="../x")["Code"] == "InvalidParameterValueException"


def test_a_deleted_function_is_gone(client: LambdaClient, create: Create) -> None:
    create()
    deleted = client.delete_function(FunctionName="thumbs")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert client.list_functions()["Functions"] == []
    assert error_of(client.delete_function, FunctionName="thumbs")["Code"] == "ResourceNotFoundException"


def test_latest_is_not_deleted_by_itself(client: LambdaClient, create: Create) -> None:
    create()
    error = error_of(client.delete_function, FunctionName="thumbs", Qualifier="$LATEST")
    assert error["Code"] == "InvalidParameterValueException"
    assert client.get_function(FunctionName="thumbs")


@pytest.mark.parametrize(
    "waiter", ["function_active", "function_active_v2", "function_exists", "function_updated", "function_updated_v2"]
)
def test_waiters_return_at_once_for_a_function_that_is_there(client: LambdaClient, create: Create, waiter: Any) -> None:
    create()
    client.get_waiter(waiter).wait(FunctionName="thumbs", WaiterConfig={"Delay": 0, "MaxAttempts": 1})


def test_waiters_wait_while_a_function_is_pending(client: LambdaClient, rooms: Rooms, create: Create) -> None:
    create()
    names: Any = ["function_active", "function_active_v2", "function_updated", "function_updated_v2"]
    for waiter in names:
        rooms.registry.states = [FunctionState.PENDING, FunctionState.PENDING, FunctionState.ACTIVE]
        client.get_waiter(waiter).wait(FunctionName="thumbs", WaiterConfig={"Delay": 0, "MaxAttempts": 3})
        assert rooms.registry.states == []


def test_the_waiter_for_a_version_waits_for_that_version(client: LambdaClient, rooms: Rooms, create: Create) -> None:
    create(Publish=True)
    waiter = client.get_waiter("published_version_active")
    waiter.wait(FunctionName="thumbs", Qualifier="1", WaiterConfig={"Delay": 0, "MaxAttempts": 1})
    rooms.registry.states = [FunctionState.FAILED]
    with pytest.raises(WaiterError, match="terminal failure"):
        waiter.wait(FunctionName="thumbs", Qualifier="1", WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    with pytest.raises(WaiterError, match="Function not found"):
        waiter.wait(FunctionName="thumbs", Qualifier="2", WaiterConfig={"Delay": 0, "MaxAttempts": 2})


def test_the_waiter_for_a_function_to_exist_waits_for_one(client: LambdaClient, create: Create) -> None:
    waiter = client.get_waiter("function_exists")
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        waiter.wait(FunctionName="thumbs", WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    create()
    waiter.wait(FunctionName="thumbs", WaiterConfig={"Delay": 0, "MaxAttempts": 1})


def test_waiters_give_up_on_a_function_that_failed(client: LambdaClient, rooms: Rooms, create: Create) -> None:
    create()
    for waiter in ("function_active_v2", "function_updated_v2"):
        rooms.registry.states = [FunctionState.FAILED]
        with pytest.raises(WaiterError, match="terminal failure"):
            client.get_waiter(waiter).wait(FunctionName="thumbs", WaiterConfig={"Delay": 0, "MaxAttempts": 2})
