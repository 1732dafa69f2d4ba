"""Function URLs as settings, through an unmodified boto3 client."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.compat.conftest import Create
from tests.compat.stub_rooms import REGION
from tests.compat.test_functions import ARN, error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

CORS: Any = {"AllowOrigins": ["https://example.com"], "AllowMethods": ["GET"], "MaxAge": 60, "AllowCredentials": True}


def test_a_url_is_made_changed_listed_and_removed(client: LambdaClient, create: Create) -> None:
    create()
    made = client.create_function_url_config(FunctionName="thumbs", AuthType="NONE", Cors=CORS)
    assert re.fullmatch(rf"http://[a-z2-7]{{32}}\.lambda-url\.{REGION}\.localhost:\d+/", made["FunctionUrl"])
    assert (made["FunctionArn"], made["AuthType"], made["Cors"]) == (ARN, "NONE", CORS)
    assert (made["InvokeMode"], "LastModifiedTime" in made) == ("BUFFERED", False)
    got = client.get_function_url_config(FunctionName=ARN)
    assert (got["FunctionUrl"], got["CreationTime"]) == (made["FunctionUrl"], made["CreationTime"])
    updated = client.update_function_url_config(FunctionName="thumbs", InvokeMode="RESPONSE_STREAM")
    assert (updated["FunctionUrl"], updated["InvokeMode"]) == (made["FunctionUrl"], "RESPONSE_STREAM")
    assert (updated["AuthType"], updated["Cors"], updated["CreationTime"]) == ("NONE", CORS, made["CreationTime"])
    (listed,) = client.list_function_url_configs(FunctionName="thumbs")["FunctionUrlConfigs"]
    assert listed["FunctionUrl"] == made["FunctionUrl"]
    client.delete_function_url_config(FunctionName="thumbs")
    assert client.list_function_url_configs(FunctionName="thumbs")["FunctionUrlConfigs"] == []
    again = client.create_function_url_config(FunctionName="thumbs", AuthType="AWS_IAM")
    assert again["FunctionUrl"] != made["FunctionUrl"]


def test_they_are_refused_in_aws_words(client: LambdaClient, create: Create) -> None:
    create()
    missing, none = "ResourceNotFoundException", "The resource you requested does not exist."
    for call in (client.get_function_url_config, client.update_function_url_config, client.delete_function_url_config):
        error = error_of(call, FunctionName="thumbs")
        assert (error["Code"], error["Message"]) == (missing, none)
        for qualifier in ("1", "$LATEST"):
            error = error_of(call, FunctionName="thumbs", Qualifier=qualifier)
            assert error["Code"] == "ValidationException"
            assert error["Message"].startswith(f"1 validation error detected: Value '{qualifier}' at 'qualifier'")
    for name, parameters in (("x", {}), ("thumbs", {"Qualifier": "live"})):
        error = error_of(client.create_function_url_config, FunctionName=name, AuthType="NONE", **parameters)
        assert (error["Code"], error["Message"]) == (missing, "Function does not exist")
        error = error_of(client.update_function_url_config, FunctionName=name, AuthType="NONE", **parameters)
        assert (error["Code"], error["Message"]) == (missing, "Function does not exist")
    assert error_of(client.list_function_url_configs, FunctionName="x")["Message"] == "Function does not exist"
    client.create_function_url_config(FunctionName="thumbs", AuthType="NONE")
    error = error_of(client.create_function_url_config, FunctionName="thumbs", AuthType="NONE")
    assert (error["Code"], error["Message"]) == (
        "ResourceConflictException",
        f"Failed to create function url config for [functionArn = {ARN}]. Error message:  FunctionUrlConfig exists for "
        "this Lambda function",
    )
    error = error_of(client.update_function_url_config, FunctionName="thumbs", AuthType="SOME")
    assert error["Message"].endswith("Member must satisfy enum value set: [NONE, AWS_IAM]")


def test_a_url_ends_with_its_function(client: LambdaClient, create: Create) -> None:
    create()
    client.create_function_url_config(FunctionName="thumbs", AuthType="NONE")
    client.delete_function(FunctionName="thumbs")
    create()
    assert error_of(client.get_function_url_config, FunctionName="thumbs")["Code"] == "ResourceNotFoundException"
