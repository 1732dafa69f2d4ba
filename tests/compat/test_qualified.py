"""What clients attach to versions and aliases, through an unmodified boto3 client: each has its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.compat.conftest import Create
from tests.compat.stub_rooms import ACCOUNT, REGION, Front, Rooms
from tests.compat.test_functions import ARN, error_of
from tests.compat.test_urls import Caller

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"


@pytest.fixture
def published(client: LambdaClient, create: Create) -> None:
    """A function with version 1, and the alias live to it."""
    create()
    assert client.publish_version(FunctionName="thumbs")["Version"] == "1"
    client.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="1")


@pytest.mark.usefixtures("published")
def test_each_has_a_policy_of_its_own(client: LambdaClient) -> None:
    for qualifier in ("", "1", "live"):
        given: Any = {"Qualifier": qualifier} if qualifier else {}
        client.add_permission(
            FunctionName="thumbs",
            StatementId=f"s{qualifier}",
            Action="lambda:InvokeFunction",
            Principal="s3.amazonaws.com",
            **given,
        )
    for qualifier in ("", "1", "live"):
        arn = f"{ARN}:{qualifier}" if qualifier else ARN
        (statement,) = json.loads(client.get_policy(FunctionName=arn)["Policy"])["Statement"]
        assert (statement["Sid"], statement["Resource"]) == (f"s{qualifier}", arn)
    stale = error_of(
        client.remove_permission, FunctionName="thumbs", Qualifier="live", StatementId="slive", RevisionId="x"
    )
    assert stale["Message"] == (
        "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest "
        "Revision Id"
    )
    client.remove_permission(FunctionName="thumbs:live", StatementId="slive")
    assert error_of(client.get_policy, FunctionName="thumbs", Qualifier="live")["status"] == 404
    assert client.get_policy(FunctionName="thumbs", Qualifier="1")


@pytest.mark.usefixtures("published")
def test_each_has_settings_of_its_own_for_asynchronous_invocation(client: LambdaClient) -> None:
    for number, qualifier in enumerate(("$LATEST", "1", "live")):
        put = client.put_function_event_invoke_config(
            FunctionName="thumbs", Qualifier=qualifier, MaximumRetryAttempts=number
        )
        assert put["FunctionArn"] == f"{ARN}:{qualifier}"
    paginator = client.get_paginator("list_function_event_invoke_configs")
    pages = list(paginator.paginate(FunctionName="thumbs", PaginationConfig={"PageSize": 2}))
    listed = {
        one["FunctionArn"]: one["MaximumRetryAttempts"] for page in pages for one in page["FunctionEventInvokeConfigs"]
    }
    assert listed == {f"{ARN}:$LATEST": 0, f"{ARN}:1": 1, f"{ARN}:live": 2}
    client.delete_function_event_invoke_config(FunctionName="thumbs", Qualifier="1")
    none = error_of(client.get_function_event_invoke_config, FunctionName="thumbs", Qualifier="1")
    assert none["Message"] == f"The function {ARN}:1 doesn't have an EventInvokeConfig"


@pytest.mark.usefixtures("published")
def test_an_alias_has_a_url_that_calls_its_version(client: LambdaClient, front: Front, rooms: Rooms) -> None:
    own = client.create_function_url_config(FunctionName="thumbs", AuthType="NONE")
    live = client.create_function_url_config(FunctionName="thumbs", Qualifier="live", AuthType="NONE")
    assert (own["FunctionArn"], live["FunctionArn"]) == (ARN, f"{ARN}:live")
    assert len(client.list_function_url_configs(FunctionName="thumbs")["FunctionUrlConfigs"]) == 2
    caller = Caller(front, live["FunctionUrl"])
    try:
        assert caller.ask().status == 200
        assert rooms.invoker.requests[-1].ref.qualifier == "live"
    finally:
        caller.close()
    client.delete_function_url_config(FunctionName="thumbs")
    assert client.get_function_url_config(FunctionName="thumbs", Qualifier="live")["FunctionUrl"] == live["FunctionUrl"]


@pytest.mark.usefixtures("published")
def test_a_mapping_is_for_what_was_named(client: LambdaClient) -> None:
    for number, name in enumerate(("thumbs", "thumbs:1", f"{ARN}:live", f"{ACCOUNT}:function:thumbs:$LATEST")):
        client.create_event_source_mapping(EventSourceArn=f"{QUEUE}{number}", FunctionName=name)
    arns = {one["FunctionArn"] for one in client.list_event_source_mappings()["EventSourceMappings"]}
    assert arns == {ARN, f"{ARN}:1", f"{ARN}:live", f"{ARN}:$LATEST"}
    (listed,) = client.list_event_source_mappings(FunctionName="thumbs:live")["EventSourceMappings"]
    assert listed["EventSourceArn"] == f"{QUEUE}2"


@pytest.mark.usefixtures("published")
def test_what_is_only_for_functions_is_refused_for_versions(client: LambdaClient) -> None:
    for qualifier in ("1", "live"):
        error = error_of(client.tag_resource, Resource=f"{ARN}:{qualifier}", Tags={"a": "b"})
        assert error["Message"].startswith("Tags on function aliases and versions are not supported.")
        error = error_of(client.update_function_configuration, FunctionName=f"thumbs:{qualifier}", Timeout=9)
        assert error["Message"].startswith("This operation is permitted on Lambda functions only.")


@pytest.mark.usefixtures("published")
def test_a_version_keeps_the_settings_that_are_only_kept(client: LambdaClient) -> None:
    client.update_function_configuration(FunctionName="thumbs", TracingConfig={"Mode": "Active"})
    assert client.publish_version(FunctionName="thumbs")["Version"] == "2"
    modes = [
        client.get_function_configuration(FunctionName="thumbs", Qualifier=version)["TracingConfig"]["Mode"]
        for version in ("1", "2")
    ]
    assert modes == ["PassThrough", "Active"]


@pytest.mark.usefixtures("published")
def test_an_alias_made_again_meets_nothing_of_the_deleted_one(client: LambdaClient) -> None:
    live: Any = {"FunctionName": "thumbs", "Qualifier": "live"}
    client.add_permission(StatementId="s", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com", **live)
    url = client.create_function_url_config(AuthType="NONE", **live)["FunctionUrl"]
    client.put_function_event_invoke_config(MaximumRetryAttempts=1, **live)
    client.put_runtime_management_config(UpdateRuntimeOn="FunctionUpdate", **live)
    client.delete_alias(FunctionName="thumbs", Name="live")
    client.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="1")
    for call in (client.get_policy, client.get_function_url_config, client.get_function_event_invoke_config):
        assert error_of(call, **live)["Code"] == "ResourceNotFoundException"
    assert client.get_runtime_management_config(**live)["UpdateRuntimeOn"] == "Auto"
    assert client.create_function_url_config(AuthType="NONE", **live)["FunctionUrl"] != url
