"""Code signing configurations through an unmodified boto3 client."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.compat.conftest import Create
from tests.compat.stub_rooms import ACCOUNT, REGION
from tests.compat.test_functions import ARN, error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

PUBLISHERS: Any = {"SigningProfileVersionArns": [f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/a"]}
NOBODY = f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-{'0' * 17}"


def make(client: LambdaClient, **given: Any) -> Any:
    return client.create_code_signing_config(AllowedPublishers=PUBLISHERS, **given)["CodeSigningConfig"]


def test_a_configuration_is_made_changed_and_removed(client: LambdaClient) -> None:
    made = make(client, Description="a")
    assert re.fullmatch(r"csc-[0-9a-f]{17}", made["CodeSigningConfigId"])
    assert made["CodeSigningConfigArn"].endswith(f":code-signing-config:{made['CodeSigningConfigId']}")
    assert made["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    arn = made["CodeSigningConfigArn"]
    updated = client.update_code_signing_config(
        CodeSigningConfigArn=arn, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"}
    )["CodeSigningConfig"]
    assert (updated["Description"], updated["AllowedPublishers"]) == ("a", PUBLISHERS)
    assert updated["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Enforce"}
    assert client.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"] == updated
    assert client.list_code_signing_configs()["CodeSigningConfigs"] == [updated]
    client.delete_code_signing_config(CodeSigningConfigArn=arn)
    assert client.list_code_signing_configs()["CodeSigningConfigs"] == []


def test_configurations_are_listed_page_by_page(client: LambdaClient) -> None:
    arns = sorted(make(client)["CodeSigningConfigArn"] for _ in range(5))
    pages = client.get_paginator("list_code_signing_configs").paginate(PaginationConfig={"PageSize": 2})
    listed = [[config["CodeSigningConfigArn"] for config in page["CodeSigningConfigs"]] for page in pages]
    assert listed == [arns[:2], arns[2:4], arns[4:]]


def test_a_function_has_one_or_none(client: LambdaClient, create: Create) -> None:
    create()
    arn = make(client)["CodeSigningConfigArn"]
    assert "CodeSigningConfigArn" not in client.get_function_code_signing_config(FunctionName="thumbs")
    put = client.put_function_code_signing_config(FunctionName="thumbs", CodeSigningConfigArn=arn)
    assert (put["FunctionName"], put["CodeSigningConfigArn"]) == ("thumbs", arn)
    assert client.get_function_code_signing_config(FunctionName=ARN)["CodeSigningConfigArn"] == arn
    assert client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)["FunctionArns"] == [ARN]
    in_use = error_of(client.delete_code_signing_config, CodeSigningConfigArn=arn)
    assert (in_use["Code"], in_use["status"]) == ("ResourceConflictException", 409)
    client.delete_function_code_signing_config(FunctionName="thumbs")
    client.delete_function_code_signing_config(FunctionName="thumbs")
    assert client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)["FunctionArns"] == []
    client.put_function_code_signing_config(FunctionName="thumbs", CodeSigningConfigArn=arn)
    client.delete_function(FunctionName="thumbs")
    client.delete_code_signing_config(CodeSigningConfigArn=arn)


def test_what_is_not_enforced_cannot_be_asked_for(client: LambdaClient, create: Create) -> None:
    create()
    enforcing: Any = {"UntrustedArtifactOnDeployment": "Enforce"}
    arn = make(client, CodeSigningPolicies=enforcing)["CodeSigningConfigArn"]
    put = {"FunctionName": "thumbs", "CodeSigningConfigArn": arn}
    assert "are not checked by this release" in error_of(client.put_function_code_signing_config, **put)["Message"]
    warning: Any = {"UntrustedArtifactOnDeployment": "Warn"}
    client.update_code_signing_config(CodeSigningConfigArn=arn, CodeSigningPolicies=warning)
    client.put_function_code_signing_config(FunctionName="thumbs", CodeSigningConfigArn=arn)
    update = {"CodeSigningConfigArn": arn, "CodeSigningPolicies": enforcing}
    assert error_of(client.update_code_signing_config, **update)["Code"] == "InvalidParameterValueException"


def test_they_are_refused_in_aws_words(client: LambdaClient, create: Create) -> None:
    create()
    for call in (
        client.get_code_signing_config,
        client.update_code_signing_config,
        client.delete_code_signing_config,
        client.list_functions_by_code_signing_config,
    ):
        error = error_of(call, CodeSigningConfigArn=NOBODY)
        assert error["Code"] == "ResourceNotFoundException"
        assert error["Message"] == f"The Lambda code signing configuration {NOBODY} can not be found."
    error = error_of(client.put_function_code_signing_config, FunctionName="thumbs", CodeSigningConfigArn=NOBODY)
    assert error["Code"] == "CodeSigningConfigNotFoundException"
    assert error["Message"] == (
        "The code signing configuration cannot be found. Check that the provided configuration is not deleted: "
        f"{NOBODY}."
    )
    for of_function in (client.get_function_code_signing_config, client.delete_function_code_signing_config):
        assert error_of(of_function, FunctionName="x")["Code"] == "ResourceNotFoundException"
    error = error_of(client.create_code_signing_config, AllowedPublishers={"SigningProfileVersionArns": ["x"]})
    assert error["Code"] == "ValidationException"
