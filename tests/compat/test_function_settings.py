"""Recursion and runtime management settings through an unmodified boto3 client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.compat.conftest import Create
from tests.compat.test_functions import ARN, error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


def test_recursion_ends_unless_it_is_allowed(client: LambdaClient, create: Create) -> None:
    create()
    assert client.get_function_recursion_config(FunctionName="thumbs")["RecursiveLoop"] == "Terminate"
    assert client.put_function_recursion_config(FunctionName=ARN, RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"
    assert client.get_function_recursion_config(FunctionName="thumbs")["RecursiveLoop"] == "Allow"
    error = error_of(client.get_function_recursion_config, FunctionName="x")
    assert (error["Code"], error["Message"]) == ("ResourceNotFoundException", f"Function not found: {ARN[:-6]}x")
    error = error_of(client.put_function_recursion_config, FunctionName="x", RecursiveLoop="Allow")
    assert error["Code"] == "ResourceNotFoundException"
    error = error_of(client.put_function_recursion_config, FunctionName="thumbs", RecursiveLoop="No")
    assert error["Message"].startswith("1 validation error detected: Value 'No' at 'recursiveLoop' failed to satisfy")


def test_a_runtime_is_the_hosts_own_whatever_is_asked(client: LambdaClient, create: Create) -> None:
    own = create()["RuntimeVersionConfig"]["RuntimeVersionArn"]
    arn = own.partition("::runtime:")[0] + "::runtime:" + "0" * 64
    get, put = client.get_runtime_management_config, client.put_runtime_management_config
    got = get(FunctionName="thumbs")
    assert (got["UpdateRuntimeOn"], got["FunctionArn"], "RuntimeVersionArn" in got) == ("Auto", f"{ARN}:$LATEST", False)
    assert put(FunctionName="thumbs", UpdateRuntimeOn="FunctionUpdate")["FunctionArn"] == f"{ARN}:$LATEST"
    assert get(FunctionName="thumbs", Qualifier="$LATEST")["UpdateRuntimeOn"] == "FunctionUpdate"
    for parameters in (
        {"UpdateRuntimeOn": "Manual"},
        {"UpdateRuntimeOn": "Auto", "RuntimeVersionArn": arn},
        {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": arn},
    ):
        error = error_of(put, FunctionName="thumbs", **parameters)
        assert error["Code"] == "InvalidParameterValueException"
    assert error_of(get, FunctionName="x")["Code"] == "ResourceNotFoundException"
    assert error_of(put, FunctionName="x", UpdateRuntimeOn="Auto")["Code"] == "ResourceNotFoundException"
    assert get(FunctionName="thumbs")["UpdateRuntimeOn"] == "FunctionUpdate"


def test_a_versions_scaling_is_kept_as_asked_for_and_never_said_to_be_applied(
    client: LambdaClient, create: Create
) -> None:
    create(Publish=True)
    get, put = client.get_function_scaling_config, client.put_function_scaling_config
    assert get(FunctionName="thumbs", Qualifier="1")["FunctionArn"] == f"{ARN}:1"
    wanted: Any = {"MinExecutionEnvironments": 2, "MaxExecutionEnvironments": 5}
    asked = put(FunctionName="thumbs", Qualifier="1", FunctionScalingConfig=wanted)
    assert (asked["FunctionState"], asked["ResponseMetadata"]["HTTPStatusCode"]) == ("Active", 202)
    got = get(FunctionName=ARN, Qualifier="1")
    assert (got["RequestedFunctionScalingConfig"], "AppliedFunctionScalingConfig" in got) == (wanted, False)
    wrong: Any = {"MinExecutionEnvironments": 6, "MaxExecutionEnvironments": 5}
    error = error_of(put, FunctionName="thumbs", Qualifier="1", FunctionScalingConfig=wrong)
    assert error["Code"] == "InvalidParameterValueException"
    put(FunctionName="thumbs", Qualifier="1")
    assert "RequestedFunctionScalingConfig" not in get(FunctionName="thumbs", Qualifier="1")
    for qualifier in ("2", "$LATEST.PUBLISHED"):
        assert error_of(get, FunctionName="thumbs", Qualifier=qualifier)["Code"] == "ResourceNotFoundException"
        assert error_of(put, FunctionName="thumbs", Qualifier=qualifier)["Code"] == "ResourceNotFoundException"
