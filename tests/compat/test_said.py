"""What AWS says of names that mean nothing or more than one thing, to the letter: recorded answers of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.compat.conftest import Create
from tests.compat.test_functions import ARN, error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

OTHER = f"{ARN[:-6]}x"
ELSEWHERE = ARN.replace("us-east-1", "eu-central-1")


def said(client: LambdaClient, operation: str, **parameters: Any) -> tuple[str, int, str]:
    error = error_of(getattr(client, operation), **parameters)
    return error["Code"], error["status"], error["Message"]


@pytest.mark.parametrize(
    "latest",
    [
        {"FunctionName": "thumbs", "Qualifier": "$LATEST"},
        {"FunctionName": "thumbs:$LATEST"},
        {"FunctionName": f"{ARN}:$LATEST"},
        {"FunctionName": f"{ARN}:$LATEST", "Qualifier": "$LATEST"},
        {"FunctionName": "x:$LATEST"},
    ],
)
def test_latest_alone_is_never_deleted(client: LambdaClient, create: Create, latest: dict[str, str]) -> None:
    create()
    assert said(client, "delete_function", **latest) == (
        "InvalidParameterValueException",
        400,
        "$LATEST version cannot be deleted without deleting the function.",
    )
    assert client.get_function(FunctionName="thumbs")["Configuration"]["FunctionName"] == "thumbs"


@pytest.mark.parametrize(
    "operation",
    [
        "delete_function",
        "get_function",
        "get_function_configuration",
        "get_function_event_invoke_config",
        "get_function_url_config",
        "get_policy",
    ],
)
def test_two_qualifiers_that_differ_are_refused(client: LambdaClient, create: Create, operation: str) -> None:
    create(Publish=True)
    assert said(client, operation, FunctionName=f"{ARN}:one", Qualifier="two") == (
        "InvalidParameterValueException",
        400,
        "The derived qualifier from the function name does not match the specified qualifier.",
    )


@pytest.mark.parametrize(
    "operation",
    [
        "delete_function",
        "delete_function_url_config",
        "get_function",
        "get_function_code_signing_config",
        "get_function_concurrency",
        "get_function_configuration",
        "get_function_event_invoke_config",
        "get_function_url_config",
        "invoke",
    ],
)
def test_a_function_of_another_region_is_out_of_reach(client: LambdaClient, create: Create, operation: str) -> None:
    create()
    assert said(client, operation, FunctionName=ELSEWHERE) == (
        "ResourceNotFoundException",
        404,
        "Functions from 'eu-central-1' are not reachable in this region ('us-east-1')",
    )


NOT_THERE: list[tuple[str, dict[str, Any], str]] = [
    ("get_function", {"FunctionName": "x"}, f"Function not found: {OTHER}"),
    ("get_function", {"FunctionName": "x:$LATEST"}, f"Function not found: {OTHER}:$LATEST"),
    (
        "get_function_configuration",
        {"FunctionName": "x", "Qualifier": "$LATEST"},
        f"Function not found: {OTHER}:$LATEST",
    ),
    (
        "put_function_concurrency",
        {"FunctionName": "x", "ReservedConcurrentExecutions": 1},
        f"Function not found: {OTHER}:$LATEST",
    ),
    ("invoke", {"FunctionName": "x"}, f"Function not found: {OTHER}:$LATEST"),
    ("invoke", {"FunctionName": "x", "InvocationType": "Event"}, f"Function not found: {OTHER}:$LATEST"),
    ("invoke", {"FunctionName": "x", "Qualifier": "live"}, f"Function not found: {OTHER}:live"),
    ("invoke_async", {"FunctionName": "x", "InvokeArgs": b"{}"}, f"Function not found: {OTHER}:$LATEST"),
    ("invoke_with_response_stream", {"FunctionName": "x"}, f"Function not found: {OTHER}:$LATEST"),
    ("get_function_concurrency", {"FunctionName": "x"}, f"Function not found: {OTHER}"),
    (
        "put_provisioned_concurrency_config",
        {"FunctionName": "x", "Qualifier": "live", "ProvisionedConcurrentExecutions": 1},
        f"Cannot find alias arn: {OTHER}:live",
    ),
    (
        "get_provisioned_concurrency_config",
        {"FunctionName": "x", "Qualifier": "live"},
        f"Cannot find alias arn: {OTHER}:live",
    ),
    (
        "delete_provisioned_concurrency_config",
        {"FunctionName": "x", "Qualifier": "1"},
        f"Function not found: {OTHER}:1",
    ),
    ("get_alias", {"FunctionName": "thumbs", "Name": "live"}, f"Cannot find alias arn: {ARN}:live"),
    ("update_alias", {"FunctionName": "thumbs", "Name": "live"}, f"Alias not found: {ARN}:live"),
]


@pytest.mark.parametrize(("operation", "parameters", "message"), NOT_THERE)
def test_what_is_not_there_is_named_as_aws_names_it(
    client: LambdaClient, create: Create, operation: str, parameters: dict[str, Any], message: str
) -> None:
    create()
    assert said(client, operation, **parameters) == ("ResourceNotFoundException", 404, message)
