"""Tags through an unmodified boto3 client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.compat.conftest import Create
from tests.compat.stub_rooms import ACCOUNT, REGION
from tests.compat.test_functions import ARN, error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/a"


def test_tags_come_and_go_with_every_form_of_change(client: LambdaClient, create: Create) -> None:
    create(Tags={"team": "a", "stage": "test"})
    assert client.list_tags(Resource=ARN)["Tags"] == {"team": "a", "stage": "test"}
    client.tag_resource(Resource=ARN, Tags={"team": "b", "cost": "1 é=/"})
    assert client.get_function(FunctionName="thumbs")["Tags"] == {"team": "b", "stage": "test", "cost": "1 é=/"}
    client.untag_resource(Resource=ARN, TagKeys=["team", "cost", "not there"])
    assert client.list_tags(Resource=ARN)["Tags"] == {"stage": "test"}
    client.untag_resource(Resource=ARN, TagKeys=["stage"])
    assert client.list_tags(Resource=ARN)["Tags"] == {}
    assert "Tags" not in client.get_function(FunctionName="thumbs")


def test_a_function_of_the_same_name_does_not_meet_the_tags_of_one_before(client: LambdaClient, create: Create) -> None:
    create(Tags={"team": "a"})
    client.delete_function(FunctionName="thumbs")
    create()
    assert client.list_tags(Resource=ARN)["Tags"] == {}


def test_mappings_and_signing_configurations_have_tags(client: LambdaClient, create: Create) -> None:
    create()
    mapping = client.create_event_source_mapping(EventSourceArn=QUEUE, FunctionName="thumbs", Tags={"a": "b"})
    config = client.create_code_signing_config(
        AllowedPublishers={"SigningProfileVersionArns": [PROFILE]}, Tags={"c": "d"}
    )["CodeSigningConfig"]
    for arn, tags in ((mapping["EventSourceMappingArn"], {"a": "b"}), (config["CodeSigningConfigArn"], {"c": "d"})):
        assert client.list_tags(Resource=arn)["Tags"] == tags
        client.tag_resource(Resource=arn, Tags={"e": "f"})
        client.untag_resource(Resource=arn, TagKeys=list(tags))
        assert client.list_tags(Resource=arn)["Tags"] == {"e": "f"}
    client.delete_event_source_mapping(UUID=mapping["UUID"])
    client.delete_code_signing_config(CodeSigningConfigArn=config["CodeSigningConfigArn"])
    for arn in (mapping["EventSourceMappingArn"], config["CodeSigningConfigArn"]):
        assert error_of(client.list_tags, Resource=arn)["Code"] == "ResourceNotFoundException"


def test_a_resource_has_fifty_tags_at_most(client: LambdaClient, create: Create) -> None:
    fifty = {f"k{number}": "v" for number in range(50)}
    create(Tags=fifty)
    for call in (
        lambda: client.tag_resource(Resource=ARN, Tags={"one": "more"}),
        lambda: create("other", Tags={**fifty, "one": "more"}),
    ):
        with pytest.raises(client.exceptions.InvalidParameterValueException, match=r"exceeds resource tag limit\.$"):
            call()
    assert client.list_tags(Resource=ARN)["Tags"] == fifty
    client.tag_resource(Resource=ARN, Tags={"k1": "w"})


def test_tags_are_refused_in_aws_words(client: LambdaClient, unchecked: LambdaClient, create: Create) -> None:
    create()
    missing = error_of(client.tag_resource, Resource=f"{ARN}s", Tags={"a": "b"})
    assert (missing["Code"], missing["Message"]) == ("ResourceNotFoundException", f"Function not found: {ARN}s")
    for qualifier in ("$LATEST", "1", "live"):
        error = error_of(client.list_tags, Resource=f"{ARN}:{qualifier}")
        assert error["Code"] == "InvalidParameterValueException"
        assert error["Message"] == (
            "Tags on function aliases and versions are not supported. Please specify a function ARN."
        )
    invalid = error_of(client.list_tags, Resource="arn:aws:something")
    assert invalid["Code"] == "ValidationException"
    assert invalid["Message"].startswith(
        "1 validation error detected: Value 'arn:aws:something' at 'resource' failed to satisfy constraint: Member "
        "must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*):lambda:"
    )
    no_keys = error_of(unchecked.untag_resource, Resource=ARN, TagKeys=[])
    assert no_keys["Message"] == (
        "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"
    )
    empty = error_of(client.tag_resource, Resource=ARN, Tags={})
    assert empty["Message"] == "An error occurred and the request cannot be processed."
    own = error_of(client.tag_resource, Resource=ARN, Tags={"aws:cloudformation": "x"})
    assert own["Code"] == "InvalidParameterValueException"
    other = error_of(client.list_tags, Resource=f"arn:aws:lambda:{REGION}:{ACCOUNT}:capacity-provider:a")
    assert other["Message"].startswith("Capacity provider not found: arn:aws:lambda:")
