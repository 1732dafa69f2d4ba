"""Settings of asynchronous invocation through an unmodified boto3 client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.compat.conftest import Create
from tests.compat.stub_rooms import ACCOUNT, REGION
from tests.compat.test_functions import ARN, error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:failed"
NO_DESTINATIONS: dict[str, Any] = {"OnSuccess": {}, "OnFailure": {}}


def settings(answer: Any) -> dict[str, Any]:
    """What an answer says, but for when."""
    assert answer["LastModified"].year > 2000
    return {name: value for name, value in answer.items() if name not in ("LastModified", "ResponseMetadata")}


def test_a_put_replaces_and_an_update_changes(client: LambdaClient, create: Create) -> None:
    create()
    put = client.put_function_event_invoke_config(FunctionName="thumbs", MaximumRetryAttempts=2)
    whole = {"FunctionArn": f"{ARN}:$LATEST", "DestinationConfig": NO_DESTINATIONS, "MaximumRetryAttempts": 2}
    assert settings(put) == whole
    updated = client.update_function_event_invoke_config(FunctionName=ARN, MaximumEventAgeInSeconds=60)
    assert settings(updated) == {**whole, "MaximumEventAgeInSeconds": 60}
    assert settings(client.get_function_event_invoke_config(FunctionName="thumbs", Qualifier="$LATEST")) == {
        **whole,
        "MaximumEventAgeInSeconds": 60,
    }
    replaced = client.put_function_event_invoke_config(
        FunctionName="thumbs:$LATEST", DestinationConfig={"OnFailure": {"Destination": QUEUE}}
    )
    assert settings(replaced) == {
        "FunctionArn": f"{ARN}:$LATEST",
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {"Destination": QUEUE}},
    }
    (listed,) = client.list_function_event_invoke_configs(FunctionName="thumbs")["FunctionEventInvokeConfigs"]
    assert settings(listed) == settings(replaced)
    client.delete_function_event_invoke_config(FunctionName="thumbs")
    assert client.list_function_event_invoke_configs(FunctionName="thumbs")["FunctionEventInvokeConfigs"] == []


def test_a_destination_may_be_another_function(client: LambdaClient, create: Create) -> None:
    create()
    other = create("other")["FunctionArn"]
    put = client.put_function_event_invoke_config(
        FunctionName="thumbs", DestinationConfig={"OnSuccess": {"Destination": other}}
    )
    assert put["DestinationConfig"] == {"OnSuccess": {"Destination": other}, "OnFailure": {}}


def test_they_are_refused_in_aws_words(client: LambdaClient, unchecked: LambdaClient, create: Create) -> None:
    create()
    put, update = unchecked.put_function_event_invoke_config, client.update_function_event_invoke_config
    missing, invalid = "ResourceNotFoundException", "InvalidParameterValueException"
    none = f"The function {ARN}:$LATEST doesn't have an EventInvokeConfig"

    def to(**sides: str) -> dict[str, Any]:
        return {"DestinationConfig": {side: {"Destination": arn} for side, arn in sides.items()}}

    iam = ARN.replace("lambda", "iam")
    for call, given, code, message in (
        (put, {"FunctionName": "x", "MaximumRetryAttempts": 1}, missing, "The function doesn't exist."),
        (put, {"Qualifier": "live", "MaximumRetryAttempts": 1}, missing, "The function doesn't exist."),
        (put, {}, invalid, "You must specify at least one of error handling or destination setting."),
        (put, to(OnSuccess=f"{ARN}x"), invalid, f"The destination ARN {ARN}x is invalid."),
        (put, to(OnSuccess=ARN), invalid, "You can't specify the function as a destination for itself."),
        (
            put,
            to(OnSuccess="arn:aws:s3:::bucket"),
            invalid,
            "The provided destination config",
        ),
        (
            put,
            to(OnSuccess=iam),
            invalid,
            f"The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={iam}), onFailure="
            "null) is invalid.",
        ),
        (
            put,
            {"MaximumRetryAttempts": 3},
            "ValidationException",
            "1 validation error detected: Value '3'",
        ),
        (put, {"MaximumEventAgeInSeconds": 59}, "ValidationException", "1 validation error detected: Value '59'"),
        (update, {"MaximumRetryAttempts": 1}, missing, none),
        (update, {"FunctionName": "x", "MaximumRetryAttempts": 1}, missing, "The function doesn't exist."),
        (client.get_function_event_invoke_config, {}, missing, none),
        (client.delete_function_event_invoke_config, {}, missing, none),
        (client.get_function_event_invoke_config, {"Qualifier": "7"}, missing, none.replace("$LATEST", "7")),
        (client.list_function_event_invoke_configs, {"FunctionName": "x"}, missing, "The function doesn't exist."),
    ):
        parameters: dict[str, Any] = {"FunctionName": "thumbs", **given}
        error = error_of(call, **parameters)
        assert (error["Code"], error["Message"][: len(message)]) == (code, message)
