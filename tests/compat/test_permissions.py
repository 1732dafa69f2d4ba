"""Resource policies through an unmodified boto3 client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.compat.conftest import Create
from tests.compat.stub_rooms import ACCOUNT
from tests.compat.test_functions import ARN, error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

BUCKET = "arn:aws:s3:::pictures"
S3: dict[str, Any] = {
    "FunctionName": "thumbs",
    "StatementId": "s3",
    "Action": "lambda:InvokeFunction",
    "Principal": "s3.amazonaws.com",
}
STATEMENT = {
    "Sid": "s3",
    "Effect": "Allow",
    "Principal": {"Service": "s3.amazonaws.com"},
    "Action": "lambda:InvokeFunction",
    "Resource": ARN,
}


def test_statements_are_added_and_removed(client: LambdaClient, create: Create) -> None:
    create()
    assert json.loads(client.add_permission(**S3)["Statement"]) == STATEMENT
    second = json.loads(client.add_permission(**{**S3, "StatementId": "s3_2"}, SourceArn=BUCKET)["Statement"])
    assert second == {**STATEMENT, "Sid": "s3_2", "Condition": {"ArnLike": {"AWS:SourceArn": BUCKET}}}
    got = client.get_policy(FunctionName=ARN)
    assert json.loads(got["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [STATEMENT, second]}
    client.remove_permission(FunctionName="thumbs", StatementId="s3", RevisionId=got["RevisionId"])
    left = client.get_policy(FunctionName="thumbs")
    assert json.loads(left["Policy"])["Statement"] == [second]
    assert left["RevisionId"] != got["RevisionId"]
    client.remove_permission(FunctionName="thumbs", StatementId="s3_2")
    error = error_of(client.get_policy, FunctionName="thumbs")
    assert (error["Code"], error["Message"]) == (
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
    )


@pytest.mark.parametrize(
    ("given", "principal", "condition"),
    [
        ({"Principal": "*", "SourceAccount": ACCOUNT}, "*", {"StringEquals": {"AWS:SourceAccount": ACCOUNT}}),
        ({"Principal": ACCOUNT}, {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, None),
        ({"Principal": f"arn:aws:iam::{ACCOUNT}:user/a"}, {"AWS": f"arn:aws:iam::{ACCOUNT}:user/a"}, None),
        (
            {"Principal": "alexa-appkit.amazon.com", "EventSourceToken": "amzn1.ask.skill.x"},
            {"Service": "alexa-appkit.amazon.com"},
            {"StringEquals": {"lambda:EventSourceToken": "amzn1.ask.skill.x"}},
        ),
        (
            {
                "Principal": "*",
                "Action": "lambda:InvokeFunctionUrl",
                "SourceAccount": ACCOUNT,
                "SourceArn": BUCKET,
                "PrincipalOrgID": "o-1234567890",
                "FunctionUrlAuthType": "NONE",
            },
            "*",
            {
                "StringEquals": {
                    "AWS:SourceAccount": ACCOUNT,
                    "lambda:FunctionUrlAuthType": "NONE",
                    "aws:PrincipalOrgID": "o-1234567890",
                },
                "ArnLike": {"AWS:SourceArn": BUCKET},
            },
        ),
        (
            {"Principal": "*", "InvokedViaFunctionUrl": True},
            "*",
            {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
        ),
    ],
)
def test_every_parameter_has_its_place_in_the_statement(
    client: LambdaClient, create: Create, given: dict[str, Any], principal: Any, condition: Any
) -> None:
    create()
    statement = json.loads(client.add_permission(**{**S3, **given})["Statement"])
    assert statement["Principal"] == principal
    assert statement.get("Condition") == condition


def test_permissions_are_refused_in_aws_words(client: LambdaClient, create: Create) -> None:
    create()
    missing = "ResourceNotFoundException"
    invalid = "InvalidParameterValueException"
    remove = {"FunctionName": "thumbs", "StatementId": "s3"}
    error = error_of(client.remove_permission, **remove)
    assert (error["Code"], error["Message"]) == (missing, "No policy is associated with the given resource.")
    client.add_permission(**S3)
    for call, given, code, message in (
        (client.add_permission, {}, "ResourceConflictException", "The statement id (s3) provided already exists."),
        (client.add_permission, {"Principal": "invalid.nonaws.com"}, invalid, "The provided principal was invalid."),
        (client.add_permission, {"FunctionName": "x"}, missing, f"Function not found: {ARN[:-6]}x"),
        (client.add_permission, {"Qualifier": "42"}, missing, f"Function not found: {ARN}:42"),
        (client.add_permission, {"Qualifier": "live"}, missing, f"Cannot find alias arn: {ARN}:live"),
        (
            client.add_permission,
            {"Qualifier": "$LATEST"},
            invalid,
            "We currently do not support adding policies",
        ),
        (
            client.add_permission,
            {"Qualifier": "?"},
            "ValidationException",
            "1 validation error detected: Value '?'",
        ),
        (
            client.add_permission,
            {"StatementId": "a.b"},
            "ValidationException",
            "1 validation error detected: Value",
        ),
        (
            client.add_permission,
            {"StatementId": "n", "RevisionId": "x"},
            "PreconditionFailedException",
            "The Revision Id",
        ),
        (client.remove_permission, {"RevisionId": "x"}, "PreconditionFailedException", "The Revision Id provided does"),
        (client.remove_permission, {"StatementId": "s4"}, missing, "Statement s4 is not found in resource policy."),
        (client.remove_permission, {"FunctionName": "x"}, missing, f"No policy found for: {ARN[:-6]}x"),
        (client.remove_permission, {"Qualifier": "live"}, missing, f"Cannot find alias arn: {ARN}:live"),
        (client.get_policy, {"FunctionName": "x"}, missing, "The resource you requested does not exist."),
        (client.get_policy, {"Qualifier": "1"}, missing, "The resource you requested does not exist."),
    ):
        whole = S3 if call == client.add_permission else remove if call == client.remove_permission else {}
        error = error_of(call, **{"FunctionName": "thumbs", **whole, **given})
        assert (error["Code"], error["Message"][: len(message)]) == (code, message)
    assert json.loads(client.get_policy(FunctionName="thumbs")["Policy"])["Statement"] == [STATEMENT]


def test_the_functions_own_revision_is_one_too(client: LambdaClient, create: Create) -> None:
    revision = create()["RevisionId"]
    client.add_permission(**S3, RevisionId=revision)
    client.remove_permission(FunctionName="thumbs", StatementId="s3", RevisionId=revision)


def test_a_policy_has_a_longest_length(client: LambdaClient, create: Create) -> None:
    create()

    def add(number: int) -> int:
        sid = f"s{number:03}" + "x" * 80
        return len(client.add_permission(**{**S3, "StatementId": sid}, SourceArn=f"{BUCKET}{'y' * 100}")["Statement"])

    fitting = 20_480 // (add(0) + 1)
    for number in range(1, fitting):
        add(number)
    with pytest.raises(client.exceptions.PolicyLengthExceededException, match=r"is bigger than the limit \(20480\)"):
        add(fitting)
    assert len(json.loads(client.get_policy(FunctionName="thumbs")["Policy"])["Statement"]) == fitting


def test_a_policy_ends_with_its_function(client: LambdaClient, create: Create) -> None:
    create()
    client.add_permission(**S3)
    client.delete_function(FunctionName="thumbs")
    create()
    assert error_of(client.get_policy, FunctionName="thumbs")["Code"] == "ResourceNotFoundException"
