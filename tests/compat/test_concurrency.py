"""Reserved and provisioned concurrency, and the account, through an unmodified boto3 client."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.compat.conftest import Create
from tests.compat.stub_rooms import make_zip
from tests.compat.test_functions import ARN, error_of
from tests.compat.test_versions import without_metadata

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

MISSING = f"Function not found: {ARN[:-6]}x"


def test_concurrency_is_reserved_shown_and_taken_back(client: LambdaClient, create: Create) -> None:
    create()
    assert without_metadata(client.get_function_concurrency(FunctionName="thumbs")) == {}
    for reserved in (0, 900):
        put = client.put_function_concurrency(FunctionName=ARN, ReservedConcurrentExecutions=reserved)
        assert put["ReservedConcurrentExecutions"] == reserved
        assert client.get_function_concurrency(FunctionName="thumbs")["ReservedConcurrentExecutions"] == reserved
        assert client.get_function(FunctionName="thumbs")["Concurrency"] == {"ReservedConcurrentExecutions": reserved}
        limit = client.get_account_settings()["AccountLimit"]
        assert (limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"]) == (1_000, 1_000 - reserved)
    for _ in range(2):
        deleted = client.delete_function_concurrency(FunctionName="thumbs")
        assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert without_metadata(client.get_function_concurrency(FunctionName="thumbs")) == {}
    assert "Concurrency" not in client.get_function(FunctionName="thumbs")


def test_what_cannot_be_reserved_is_refused_in_aws_words(
    client: LambdaClient, unchecked: LambdaClient, create: Create
) -> None:
    create(Publish=True)
    put = client.put_function_concurrency
    error = error_of(put, FunctionName="thumbs", ReservedConcurrentExecutions=901)
    assert (error["Code"], error["status"], error["Message"]) == (
        "InvalidParameterValueException",
        400,
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        "its minimum value of [100].",
    )
    error = error_of(unchecked.put_function_concurrency, FunctionName="thumbs", ReservedConcurrentExecutions=-1)
    assert "'reservedConcurrentExecutions' failed to satisfy constraint" in error["Message"]
    client.put_provisioned_concurrency_config(FunctionName="thumbs", Qualifier="1", ProvisionedConcurrentExecutions=5)
    error = error_of(put, FunctionName="thumbs", ReservedConcurrentExecutions=4)
    assert "should not be lower than function's total provisioned concurrency [5]." in error["Message"]
    assert without_metadata(client.get_function_concurrency(FunctionName="thumbs")) == {}
    calls: tuple[tuple[Any, dict[str, Any]], ...] = (
        (put, {"ReservedConcurrentExecutions": 1}),
        (client.get_function_concurrency, {}),
        (client.delete_function_concurrency, {}),
    )
    for call, parameters in calls:
        error = error_of(call, FunctionName="x", **parameters)
        assert (error["Code"], error["Message"]) == (
            "ResourceNotFoundException",
            f"{MISSING}:$LATEST" if call is put else MISSING,
        )
        assert error_of(call, FunctionName="thumbs:1", **parameters)["Code"] == "InvalidParameterValueException"


def test_provisioned_concurrency_is_put_read_listed_and_deleted(client: LambdaClient, create: Create) -> None:
    create(Publish=True)
    client.update_function_code(FunctionName="thumbs", ZipFile=make_zip("x = 2"), Publish=True)
    client.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="2")
    put = client.put_provisioned_concurrency_config(
        FunctionName="thumbs", Qualifier="live", ProvisionedConcurrentExecutions=3
    )
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 202
    said = without_metadata(put)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", said.pop("LastModified"))
    assert said.pop("StatusReason").endswith("on demand")  # nothing keeps environments ready here, and it says so
    assert said == {
        "RequestedProvisionedConcurrentExecutions": 3,
        "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "Status": "FAILED",
    }
    got = client.get_provisioned_concurrency_config(FunctionName=ARN, Qualifier="live")
    assert without_metadata(got) == without_metadata(put)
    client.put_provisioned_concurrency_config(FunctionName="thumbs", Qualifier="1", ProvisionedConcurrentExecutions=1)
    pages = client.get_paginator("list_provisioned_concurrency_configs").paginate(
        FunctionName="thumbs", PaginationConfig={"PageSize": 1}
    )
    listed = [config["FunctionArn"] for page in pages for config in page["ProvisionedConcurrencyConfigs"]]
    assert listed == [f"{ARN}:1", f"{ARN}:live"]
    for _ in range(2):
        deleted = client.delete_provisioned_concurrency_config(FunctionName="thumbs", Qualifier="live")
        assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    error = error_of(client.get_provisioned_concurrency_config, FunctionName="thumbs", Qualifier="live")
    assert (error["Code"], error["status"], error["Message"]) == (
        "ProvisionedConcurrencyConfigNotFoundException",
        404,
        "No Provisioned Concurrency Config found for this function",
    )


def test_what_cannot_be_provisioned_is_refused_in_aws_words(
    client: LambdaClient, unchecked: LambdaClient, create: Create
) -> None:
    create(Publish=True)
    client.update_function_code(FunctionName="thumbs", ZipFile=make_zip("x = 2"), Publish=True)
    client.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="1")
    client.create_alias(FunctionName="thumbs", Name="head", FunctionVersion="$LATEST")
    client.create_alias(
        FunctionName="thumbs",
        Name="split",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )
    client.put_function_concurrency(FunctionName="thumbs", ReservedConcurrentExecutions=10)
    client.put_provisioned_concurrency_config(FunctionName="thumbs", Qualifier="2", ProvisionedConcurrentExecutions=4)
    client.put_provisioned_concurrency_config(
        FunctionName="thumbs", Qualifier="live", ProvisionedConcurrentExecutions=4
    )
    invalid, missing, conflict = (
        "InvalidParameterValueException",
        "ResourceNotFoundException",
        "ResourceConflictException",
    )
    unpublished = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    for name, qualifier, count, code, message in (
        ("thumbs", "$LATEST", 1, invalid, unpublished),
        ("thumbs", "head", 1, invalid, unpublished),
        ("thumbs", "split", 1, invalid, "Alias with weights can not be used with Provisioned Concurrency"),
        (
            "thumbs",
            "2",
            7,
            invalid,
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
        ),
        ("thumbs", "1", 1, conflict, "Version is pointed by a Provisioned Concurrency alias"),
        ("thumbs", "9", 1, missing, f"Function not found: {ARN}:9"),
        ("thumbs", "no", 1, missing, f"Cannot find alias arn: {ARN}:no"),
        ("x", "1", 1, missing, f"{MISSING}:1"),
    ):
        error = error_of(
            client.put_provisioned_concurrency_config,
            FunctionName=name,
            Qualifier=qualifier,
            ProvisionedConcurrentExecutions=count,
        )
        assert (error["Code"], error["Message"]) == (code, message)
    client.update_alias(FunctionName="thumbs", Name="split", RoutingConfig={}, FunctionVersion="2")
    error = error_of(
        client.put_provisioned_concurrency_config,
        FunctionName="thumbs",
        Qualifier="split",
        ProvisionedConcurrentExecutions=1,
    )
    assert (error["Code"], error["Message"]) == (
        conflict,
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
    )
    error = error_of(client.update_alias, FunctionName="thumbs", Name="live", FunctionVersion="2")
    assert error["Code"] == conflict
    client.delete_function_concurrency(FunctionName="thumbs")
    for count, said in ((998, "greater than account's unreserved concurrency [996]."), (897, "value of [100].")):
        error = error_of(
            client.put_provisioned_concurrency_config,
            FunctionName="thumbs",
            Qualifier="2",
            ProvisionedConcurrentExecutions=count,
        )
        assert error["Code"] == invalid
        assert error["Message"].endswith(said)
    for call in (unchecked.get_provisioned_concurrency_config, unchecked.delete_provisioned_concurrency_config):
        error = error_of(call, FunctionName="thumbs", Qualifier="$LATEST")
        assert error["Message"] == "The function resource provided must be an alias or a published version."
        assert error_of(call, FunctionName="thumbs", Qualifier="no")["Message"] == f"Cannot find alias arn: {ARN}:no"
        assert error_of(call, FunctionName="x", Qualifier="1")["Code"] == missing
    error = error_of(client.list_provisioned_concurrency_configs, FunctionName="x")
    assert (error["Code"], error["Message"]) == (missing, MISSING)
    error = error_of(
        unchecked.put_provisioned_concurrency_config,
        FunctionName="thumbs",
        Qualifier="2",
        ProvisionedConcurrentExecutions=0,
    )
    assert "failed to satisfy constraint: Member must have value greater than or equal to 1" in error["Message"]


def test_the_account_has_limits_and_use(client: LambdaClient, create: Create) -> None:
    create(Publish=True)
    settings = client.get_account_settings()
    assert settings["AccountLimit"] == {
        "TotalCodeSize": 80_530_636_800,
        "CodeSizeUnzipped": 262_144_000,
        "CodeSizeZipped": 52_428_800,
        "ConcurrentExecutions": 1_000,
        "UnreservedConcurrentExecutions": 1_000,
    }
    assert settings["AccountUsage"] == {"TotalCodeSize": 2 * len(make_zip()), "FunctionCount": 1}
