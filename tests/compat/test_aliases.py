"""Aliases through an unmodified boto3 client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.compat.conftest import Create
from tests.compat.test_functions import ARN, error_of
from tests.compat.test_versions import STALE, without_metadata

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


@pytest.fixture
def thumbs(client: LambdaClient, create: Create) -> LambdaClient:
    """A function with the versions 1 and 2."""
    create(Publish=True)
    client.update_function_configuration(FunctionName="thumbs", MemorySize=256)
    client.publish_version(FunctionName="thumbs")
    return client


def test_an_alias_is_created_read_changed_and_deleted(thumbs: LambdaClient) -> None:
    created = thumbs.create_alias(
        FunctionName="thumbs",
        Name="live",
        FunctionVersion="1",
        Description="used",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.25}},
    )
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    first = without_metadata(created)
    assert first == {
        "AliasArn": f"{ARN}:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "used",
        "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.25}},
        "RevisionId": created["RevisionId"],
    }
    assert without_metadata(thumbs.get_alias(FunctionName=ARN, Name="live")) == first
    got = thumbs.get_function(FunctionName="thumbs", Qualifier="live")["Configuration"]
    assert (got["FunctionArn"], got["Version"]) == (f"{ARN}:live", "1")
    changed = thumbs.update_alias(FunctionName="thumbs", Name="live", Description="", RevisionId=first["RevisionId"])
    assert (changed["FunctionVersion"], changed["Description"], "RoutingConfig" in changed) == ("1", "", True)
    error = error_of(thumbs.update_alias, FunctionName="thumbs", Name="live", RevisionId=first["RevisionId"])
    assert (error["Code"], error["status"], error["Message"]) == ("PreconditionFailedException", 412, STALE)
    moved = thumbs.update_alias(FunctionName="thumbs", Name="live", FunctionVersion="$LATEST", RoutingConfig={})
    assert (moved["FunctionVersion"], "RoutingConfig" in moved) == ("$LATEST", False)
    for _ in range(2):  # AWS has no word for an alias that is not there
        deleted = thumbs.delete_alias(FunctionName="thumbs", Name="live")
        assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    error = error_of(thumbs.get_alias, FunctionName="thumbs", Name="live")
    assert (error["Code"], error["Message"]) == ("ResourceNotFoundException", f"Cannot find alias arn: {ARN}:live")
    error = error_of(thumbs.update_alias, FunctionName="thumbs", Name="live", FunctionVersion="1")
    assert (error["Code"], error["Message"]) == ("ResourceNotFoundException", f"Alias not found: {ARN}:live")


def test_aliases_are_listed_by_name_and_by_version_a_page_at_a_time(thumbs: LambdaClient) -> None:
    for name, version in (("b", "1"), ("a", "2"), ("c", "1")):
        thumbs.create_alias(FunctionName="thumbs", Name=name, FunctionVersion=version)
    pages = thumbs.get_paginator("list_aliases").paginate(FunctionName="thumbs", PaginationConfig={"PageSize": 2})
    assert [[alias["Name"] for alias in page["Aliases"]] for page in pages] == [["a", "b"], ["c"]]
    of_one = thumbs.list_aliases(FunctionName="thumbs", FunctionVersion="1")["Aliases"]
    assert [alias["Name"] for alias in of_one] == ["b", "c"]


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        ({"FunctionVersion": "7"}, "ResourceNotFoundException", f"Function not found: {ARN}:7"),
        (
            {"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"7": 0.5}}},
            "ResourceNotFoundException",
            f"Function not found: {ARN}:7",
        ),
        (
            {"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}},
            "InvalidParameterValueException",
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
        (
            {"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.5, "3": 0.1}}},
            "InvalidParameterValueException",
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ),
        (
            {"FunctionVersion": "$LATEST", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}},
            "InvalidParameterValueException",
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ),
    ],
)
def test_what_an_alias_cannot_point_at_is_refused_in_aws_words(
    thumbs: LambdaClient, parameters: dict[str, Any], code: str, message: str
) -> None:
    error = error_of(thumbs.create_alias, FunctionName="thumbs", Name="live", **parameters)
    assert (error["Code"], error["Message"]) == (code, message)
    thumbs.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="2")
    error = error_of(thumbs.update_alias, FunctionName="thumbs", Name="live", **parameters)
    assert (error["Code"], error["Message"]) == (code, message)
    assert thumbs.get_alias(FunctionName="thumbs", Name="live")["FunctionVersion"] == "2"


def test_names_and_weights_are_held_to_the_model(unchecked: LambdaClient, thumbs: LambdaClient) -> None:
    for parameters, where in (
        ({"Name": "1", "FunctionVersion": "1"}, "name"),
        ({"Name": "live", "FunctionVersion": "head"}, "functionVersion"),
        (
            {
                "Name": "live",
                "FunctionVersion": "1",
                "RoutingConfig": {"AdditionalVersionWeights": {"2": 1.5}},
            },
            "routingConfig.additionalVersionWeights",
        ),
    ):
        error = error_of(unchecked.create_alias, FunctionName="thumbs", **parameters)
        assert (error["status"], "1 validation error detected" in error["Message"]) == (400, True)
        assert f" at '{where}" in error["Message"]
    assert unchecked.list_aliases(FunctionName="thumbs")["Aliases"] == []


def test_a_name_that_is_taken_and_a_function_that_is_not_there_are_refused_in_aws_words(thumbs: LambdaClient) -> None:
    thumbs.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="1")
    error = error_of(thumbs.create_alias, FunctionName="thumbs", Name="live", FunctionVersion="2")
    assert (error["Code"], error["status"], error["Message"]) == (
        "ResourceConflictException",
        409,
        f"Alias already exists: {ARN}:live",
    )
    missing = f"Function not found: {ARN[:-6]}x"
    calls: tuple[tuple[Any, dict[str, Any]], ...] = (
        (thumbs.create_alias, {"Name": "live", "FunctionVersion": "1"}),
        (thumbs.get_alias, {"Name": "live"}),
        (thumbs.update_alias, {"Name": "live"}),
        (thumbs.delete_alias, {"Name": "live"}),
        (thumbs.list_aliases, {}),
    )
    for call, parameters in calls:
        error = error_of(call, FunctionName="x", **parameters)
        assert (error["Code"], error["Message"]) == ("ResourceNotFoundException", missing)
        assert error_of(call, FunctionName="thumbs:1", **parameters)["Code"] == "InvalidParameterValueException"
