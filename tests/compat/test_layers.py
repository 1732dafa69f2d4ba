"""Layers through an unmodified boto3 client."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.compat.conftest import Create
from tests.compat.stub_rooms import ACCOUNT, REGION, make_zip
from tests.compat.test_functions import error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:"
ZIP = make_zip("x = 1")


def publish(client: LambdaClient, name: str = "deps", source: str = "x = 1", **about: Any) -> Any:
    return client.publish_layer_version(LayerName=name, Content={"ZipFile": make_zip(source)}, **about)


def refused(call: Any, **parameters: Any) -> tuple[str, int, str]:
    error = error_of(call, **parameters)
    return error["Code"], error["status"], error["Message"]


def test_a_version_is_published_read_and_listed_as_on_aws(client: LambdaClient) -> None:
    about: dict[str, Any] = {
        "Description": "what all need",
        "LicenseInfo": "MIT",
        "CompatibleRuntimes": ["python3.11", "python3.12"],
        "CompatibleArchitectures": ["x86_64"],
    }
    made = publish(client, **about)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    digest = base64.b64encode(hashlib.sha256(ZIP).digest()).decode()
    assert (made["Content"]["CodeSha256"], made["Content"]["CodeSize"]) == (digest, len(ZIP))
    assert (made["LayerArn"], made["LayerVersionArn"], made["Version"]) == (f"{ARN}deps", f"{ARN}deps:1", 1)
    assert {name: made[name] for name in about} == about
    assert made["CreatedDate"] == "2026-01-01T00:00:00.120+0000"
    with urllib.request.urlopen(made["Content"]["Location"]) as answer:
        assert answer.read() == ZIP
    del made["ResponseMetadata"]
    for got in (
        client.get_layer_version(LayerName="deps", VersionNumber=1),
        client.get_layer_version(LayerName=f"{ARN}deps", VersionNumber=1),
        client.get_layer_version_by_arn(Arn=f"{ARN}deps:1"),
    ):
        assert {name: value for name, value in got.items() if name != "ResponseMetadata"} == made
    second = publish(client, source="x = 2")
    assert (second["Version"], "CompatibleRuntimes" in second, second["Description"]) == (2, False, "")
    item = {name: value for name, value in made.items() if name not in ("Content", "LayerArn")}
    assert client.list_layer_versions(LayerName="deps")["LayerVersions"][1] == item
    layers = client.list_layers()["Layers"]
    assert [(one["LayerName"], one["LayerArn"]) for one in layers] == [("deps", f"{ARN}deps")]
    latest: Any = layers[0]["LatestMatchingVersion"]
    # A list leaves out the description that was not given; the answers on one version have an empty one.
    assert (latest["Version"], "Description" in latest) == (2, False)
    matching = client.list_layers(CompatibleRuntime="python3.12", CompatibleArchitecture="x86_64")["Layers"]
    assert matching[0]["LatestMatchingVersion"] == item
    assert client.list_layers(CompatibleArchitecture="arm64")["Layers"] == []


def test_lists_go_on_where_the_marker_says(client: LambdaClient) -> None:
    for name in ("b", "a", "a", "a"):
        publish(client, name)
    first = client.list_layers(MaxItems=1)
    assert [one["LayerName"] for one in first["Layers"]] == ["a"]
    rest = client.list_layers(MaxItems=1, Marker=first["NextMarker"])
    assert [one["LayerName"] for one in rest["Layers"]] == ["b"]
    assert "NextMarker" not in rest
    page = client.list_layer_versions(LayerName="a", MaxItems=2)
    assert [one["Version"] for one in page["LayerVersions"]] == [3, 2]
    page = client.list_layer_versions(LayerName="a", MaxItems=2, Marker=page["NextMarker"])
    assert [one["Version"] for one in page["LayerVersions"]] == [1]
    assert "NextMarker" not in page
    assert client.list_layer_versions(LayerName="none")["LayerVersions"] == []
    assert refused(client.list_layer_versions, LayerName="a", Marker="x")[0] == "InvalidParameterValueException"


def test_a_deleted_version_is_gone_and_its_number_taken(client: LambdaClient) -> None:
    publish(client)
    for _ in range(2):
        answer = client.delete_layer_version(LayerName="deps", VersionNumber=1)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    missing = ("ResourceNotFoundException", 404, "The resource you requested does not exist.")
    assert refused(client.get_layer_version, LayerName="deps", VersionNumber=1) == missing
    assert refused(client.get_layer_version_by_arn, Arn=f"{ARN}deps:1") == missing
    below = ("InvalidParameterValueException", 400, "Layer Version Cannot be less than 1")
    for call in (client.get_layer_version, client.delete_layer_version):
        assert refused(call, LayerName="deps", VersionNumber=0) == below
    assert publish(client)["Version"] == 2


def test_a_function_has_its_layers_in_its_configuration_until_they_are_taken_away(
    client: LambdaClient, create: Create
) -> None:
    arns = [publish(client, name)["LayerVersionArn"] for name in ("base", "more")]
    layers = [{"Arn": arn, "CodeSize": len(ZIP)} for arn in arns]
    assert create(Layers=arns)["Layers"] == layers
    client.publish_version(FunctionName="thumbs")
    changed = client.update_function_configuration(FunctionName="thumbs", Layers=arns[1:])
    assert changed["Layers"] == layers[1:]
    for number, name in enumerate(("base", "more")):
        client.delete_layer_version(LayerName=name, VersionNumber=1)
        assert client.get_function(FunctionName="thumbs:1")["Configuration"]["Layers"] == layers, number
    assert client.update_function_configuration(FunctionName="thumbs", Timeout=9)["Layers"] == layers[1:]
    assert "Layers" not in client.update_function_configuration(FunctionName="thumbs", Layers=[])
    assert "Layers" not in client.get_function_configuration(FunctionName="thumbs")


def test_layers_that_a_function_cannot_have_are_refused_in_awss_words(client: LambdaClient, create: Create) -> None:
    arns = [publish(client, f"l{number}")["LayerVersionArn"] for number in range(6)]
    newer = publish(client, "l0")["LayerVersionArn"]
    client.delete_layer_version(LayerName="l5", VersionNumber=1)
    create()
    for layers, message in (
        ([*arns[:5], newer], "Cannot reference more than 5 layers."),
        ([arns[5]], f"Layer version {arns[5]} does not exist."),
        ([f"{ARN}none:7"], f"Layer version {ARN}none:7 does not exist."),
        (
            [arns[0], newer],
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{arns[0]} and {newer} are versions of the same layer.",
        ),
        (
            [arns[0].replace("us-east-1", "eu-west-1")],
            "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
        ),
    ):
        expected = ("InvalidParameterValueException", 400, message)
        assert refused(client.update_function_configuration, FunctionName="thumbs", Layers=layers) == expected
        assert refused(create, name="other", Layers=layers) == expected
    code, status, message = refused(
        client.update_function_configuration,
        FunctionName="thumbs",
        Layers=[arns[0].replace(ACCOUNT, "123456789012")],
    )
    assert (code, status) == ("AccessDeniedException", 403)
    assert "is not authorized to perform: lambda:GetLayerVersion on resource: " in message
    error = refused(client.update_function_configuration, FunctionName="thumbs", Layers=[f"{ARN}deps"])
    assert "at 'layers' failed to satisfy constraint: " in error[2]


def test_what_is_no_layer_is_refused(client: LambdaClient, unchecked: LambdaClient) -> None:
    call = client.publish_layer_version
    kind, status, message = refused(call, LayerName="deps", Content={"ZipFile": b"no zip"})
    assert (kind, status) == ("InvalidParameterValueException", 400)
    assert message == "Could not unzip uploaded file. Please check your file, then try to upload again."
    assert "source for layer code" in refused(call, LayerName="deps", Content={})[2]
    assert "source for layer code" in refused(call, LayerName="deps", Content={"S3Bucket": "bucket"})[2]
    for parameters, path in (
        ({"CompatibleRuntimes": ["cobol"]}, "compatibleRuntimes"),
        ({"CompatibleArchitectures": ["z80"]}, "compatibleArchitectures"),
        ({"Description": "x" * 257}, "description"),
        ({"LicenseInfo": "x" * 513}, "licenseInfo"),
    ):
        error = refused(unchecked.publish_layer_version, LayerName="deps", Content={"ZipFile": ZIP}, **parameters)
        assert f" at '{path}' failed to satisfy constraint: " in error[2]
    assert client.list_layers()["Layers"] == []


def test_every_runtime_and_processor_that_aws_names_may_be_a_layers(client: LambdaClient) -> None:
    model: Any = client.meta.service_model
    runtimes, architectures = (model.shape_for(name).enum for name in ("Runtime", "Architecture"))
    for start in range(0, len(runtimes), 15):
        some = runtimes[start : start + 15]
        made = publish(client, CompatibleRuntimes=some, CompatibleArchitectures=architectures)
        assert (made["CompatibleRuntimes"], made["CompatibleArchitectures"]) == (some, architectures)


def test_permissions_are_stored_and_given_back(client: LambdaClient, unchecked: LambdaClient) -> None:
    publish(client)
    layer: dict[str, Any] = {"LayerName": "deps", "VersionNumber": 1}
    all_may: dict[str, Any] = {
        **layer, "StatementId": "all", "Action": "lambda:GetLayerVersion", "Principal": "*"
    }  # fmt: skip
    added = client.add_layer_version_permission(**all_may, OrganizationId="o-1234567890")
    statement = {
        "Sid": "all",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "lambda:GetLayerVersion",
        "Resource": f"{ARN}deps:1",
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}},
    }
    assert json.loads(added["Statement"]) == statement
    got = client.get_layer_version_policy(**layer)
    assert json.loads(got["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    assert got["RevisionId"] == added["RevisionId"]
    assert refused(client.add_layer_version_permission, **all_may)[:2] == ("ResourceConflictException", 409)
    stale = refused(client.remove_layer_version_permission, **layer, StatementId="all", RevisionId="old")
    assert stale == (
        "PreconditionFailedException",
        412,
        "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the "
        "latest Revision Id",
    )
    one = {**all_may, "StatementId": "one", "Principal": "123456789012", "RevisionId": got["RevisionId"]}
    client.add_layer_version_permission(**one)
    client.remove_layer_version_permission(**layer, StatementId="all")
    assert refused(client.remove_layer_version_permission, **layer, StatementId="all") == (
        "ResourceNotFoundException",
        404,
        "Statement all is not found in resource policy.",
    )
    answer = client.remove_layer_version_permission(**layer, StatementId="one")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    no_policy = ("ResourceNotFoundException", 404, "No policy is associated with the given resource.")
    assert refused(client.get_layer_version_policy, **layer) == no_policy
    wrong = refused(unchecked.add_layer_version_permission, **{**all_may, "Action": "lambda:InvokeFunction"})
    assert "at 'action' failed to satisfy constraint" in wrong[2]


@pytest.mark.parametrize("operation", ["get", "add", "remove"])
def test_a_policy_of_no_version_is_refused_with_its_arn(client: LambdaClient, operation: str) -> None:
    layer: dict[str, Any] = {"LayerName": "deps", "VersionNumber": 3}
    statement = {"StatementId": "all", "Action": "lambda:GetLayerVersion", "Principal": "*"}
    found = {
        "get": lambda: refused(client.get_layer_version_policy, **layer),
        "add": lambda: refused(client.add_layer_version_permission, **layer, **statement),
        "remove": lambda: refused(client.remove_layer_version_permission, **layer, StatementId="all"),
    }[operation]()
    assert found == ("ResourceNotFoundException", 404, f"Layer version {ARN}deps:3 does not exist.")
