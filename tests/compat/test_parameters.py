"""Parameters that change what is there, each given and read back: those that no test of the operation itself has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.compat.conftest import Create
from tests.compat.stub_rooms import ACCOUNT, REGION, ROLE, Rooms, make_zip
from tests.compat.test_functions import ARN, error_of, sha
from tests.compat.test_mappings import LEAST, QUEUE

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/"

CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"Role": ROLE + "2"}, {}),
    ({"Handler": "other.handler"}, {}),
    ({"Runtime": "python3.12"}, {}),
    ({"EphemeralStorage": {"Size": 10_240}}, {}),
    ({"Timeout": 900}, {}),
    ({"MemorySize": 10_240}, {}),
    ({"Description": ""}, {}),
    ({"Environment": {"Variables": {"A1": "ü"}}}, {}),
    (
        {"LoggingConfig": {"LogFormat": "JSON", "SystemLogLevel": "DEBUG"}},
        {
            "LoggingConfig": {
                "LogFormat": "JSON",
                "SystemLogLevel": "DEBUG",
                "ApplicationLogLevel": "INFO",
                "LogGroup": "/aws/lambda/thumbs",
            }
        },
    ),
]


@pytest.mark.parametrize(("change", "shown"), CHANGES, ids=lambda one: next(iter(one), ""))
def test_a_setting_that_is_changed_alone_leaves_the_others(
    client: LambdaClient, create: Create, change: dict[str, Any], shown: dict[str, Any]
) -> None:
    create(Description="before", Environment={"Variables": {"BB": "2"}})
    before: Any = client.get_function_configuration(FunctionName="thumbs")
    changed: Any = client.update_function_configuration(FunctionName="thumbs", **change)
    after: Any = client.get_function_configuration(FunctionName="thumbs")
    for answer in (before, changed, after):
        for own in ("ResponseMetadata", "RevisionId", "LastModified", "RuntimeVersionConfig"):
            del answer[own]
    assert changed == after == {**before, **change, **shown}


OF_MAPPINGS: list[tuple[str, dict[str, Any]]] = [
    ("sqs", {"BatchSize": 10_000, "MaximumBatchingWindowInSeconds": 1}),
    ("sqs", {"FunctionResponseTypes": ["ReportBatchItemFailures"]}),
    ("sqs", {"ScalingConfig": {"MaximumConcurrency": 2}}),
    ("sqs", {"ProvisionedPollerConfig": {"MinimumPollers": 2, "MaximumPollers": 200}}),
    ("sqs", {"MetricsConfig": {"Metrics": ["EventCount"]}}),
    ("sqs", {"KMSKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"}),
    ("kinesis", {"ParallelizationFactor": 10}),
    ("kinesis", {"TumblingWindowInSeconds": 900}),
    ("kinesis", {"BisectBatchOnFunctionError": True, "MaximumRetryAttempts": 0}),
    ("kinesis", {"MaximumRecordAgeInSeconds": 60}),
    ("dynamodb", {"DestinationConfig": {"OnFailure": {"Destination": QUEUE}}}),
    ("kafka", {"SourceAccessConfigurations": [{"Type": "VPC_SUBNET", "URI": "subnet:subnet-1"}]}),
    ("msk", {"LoggingConfig": {"SystemLogLevel": "DEBUG"}}),
    ("documentdb", {"DocumentDBEventSourceConfig": {"DatabaseName": "d", "FullDocument": "UpdateLookup"}}),
]


@pytest.mark.parametrize(("source", "change"), OF_MAPPINGS)
def test_a_setting_of_a_mapping_can_be_changed_alone(
    client: LambdaClient, create: Create, source: str, change: dict[str, Any]
) -> None:
    create()
    made: Any = client.create_event_source_mapping(FunctionName="thumbs", **LEAST[source])
    client.update_event_source_mapping(UUID=made["UUID"], **change)
    after: Any = client.get_event_source_mapping(UUID=made["UUID"])
    for own in ("ResponseMetadata", "LastModified", "State"):
        del made[own], after[own]
    assert after == {**made, **change}


def test_a_mapping_can_be_given_to_another_function(client: LambdaClient, create: Create) -> None:
    create()
    create("other")
    made = client.create_event_source_mapping(FunctionName="thumbs", EventSourceArn=QUEUE)
    moved = client.update_event_source_mapping(UUID=made["UUID"], FunctionName="other")
    assert moved["FunctionArn"] == f"{ARN[:-6]}other"
    assert client.list_event_source_mappings(FunctionName="thumbs")["EventSourceMappings"] == []


def test_an_alias_has_an_event_invoke_configuration_of_its_own_that_an_update_changes_in_part(
    client: LambdaClient, create: Create
) -> None:
    create(Publish=True)
    client.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="1")
    live: Any = {"FunctionName": "thumbs", "Qualifier": "live"}
    client.put_function_event_invoke_config(MaximumEventAgeInSeconds=60, **live)
    to: Any = {"OnSuccess": {"Destination": QUEUE}, "OnFailure": {"Destination": QUEUE}}
    changed = client.update_function_event_invoke_config(DestinationConfig=to, **live)
    assert (changed["FunctionArn"], changed["MaximumEventAgeInSeconds"]) == (f"{ARN}:live", 60)
    assert changed["DestinationConfig"] == to
    assert error_of(client.get_function_event_invoke_config, FunctionName="thumbs")["status"] == 404


def test_the_url_of_an_alias_is_changed_and_deleted_alone(client: LambdaClient, create: Create) -> None:
    create(Publish=True)
    client.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="1")
    live: Any = {"FunctionName": "thumbs", "Qualifier": "live"}
    client.create_function_url_config(FunctionName="thumbs", AuthType="NONE")
    client.create_function_url_config(AuthType="NONE", **live)
    cors: Any = {
        "AllowCredentials": True,
        "AllowHeaders": ["x-a"],
        "AllowMethods": ["GET", "POST"],
        "AllowOrigins": ["https://example.com"],
        "ExposeHeaders": ["x-b"],
        "MaxAge": 60,
    }
    assert client.update_function_url_config(Cors=cors, **live)["Cors"] == cors
    assert client.get_function_url_config(**live)["Cors"] == cors
    assert "Cors" not in client.get_function_url_config(FunctionName="thumbs")
    first = client.list_function_url_configs(FunctionName="thumbs", MaxItems=1)
    rest = client.list_function_url_configs(FunctionName="thumbs", MaxItems=1, Marker=first["NextMarker"])
    arns = [one["FunctionArn"] for page in (first, rest) for one in page["FunctionUrlConfigs"]]
    assert (sorted(arns), "NextMarker" in rest) == ([ARN, f"{ARN}:live"], False)
    client.delete_function_url_config(**live)
    left = client.list_function_url_configs(FunctionName="thumbs")["FunctionUrlConfigs"]
    assert [one["FunctionArn"] for one in left] == [ARN]


def test_a_stream_goes_to_the_version_that_is_named_with_its_context(
    client: LambdaClient, create: Create, rooms: Rooms
) -> None:
    create(Publish=True)
    answer: Any = client.invoke_with_response_stream(
        FunctionName="thumbs", Qualifier="1", ClientContext="eyJhIjoxfQ==", TenantId="blue"
    )
    list(answer["EventStream"])
    (request,) = rooms.invoker.requests
    assert (request.ref.qualifier, request.client_context, request.tenant_id) == ("1", b'{"a":1}', "blue")


def test_code_is_updated_only_where_its_revision_is_the_latest(client: LambdaClient, create: Create) -> None:
    made = create()
    other = make_zip("x = 2")
    changed = client.update_function_code(
        FunctionName="thumbs",
        ZipFile=other,
        RevisionId=made["RevisionId"],
        Architectures=made["Architectures"],
    )
    assert changed["CodeSha256"] == sha(other)
    error = error_of(
        client.update_function_code, FunctionName="thumbs", ZipFile=make_zip(), RevisionId=made["RevisionId"]
    )
    assert error["Code"] == "PreconditionFailedException"
    assert client.get_function_configuration(FunctionName="thumbs")["CodeSha256"] == sha(other)


def test_an_alias_can_get_weights_and_lose_them(client: LambdaClient, create: Create) -> None:
    create(Publish=True)
    client.update_function_code(FunctionName="thumbs", ZipFile=make_zip("x = 2"), Publish=True)
    live: Any = {"FunctionName": "thumbs", "Name": "live"}
    client.create_alias(FunctionVersion="1", **live)
    weighted = client.update_alias(RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}}, **live)
    assert weighted["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.1}}
    client.update_alias(Description="the same weights", **live)
    assert client.get_alias(**live)["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.1}}
    assert "RoutingConfig" not in client.update_alias(RoutingConfig={"AdditionalVersionWeights": {}}, **live)


def test_permissions_of_a_version_a_layer_and_a_policy_are_changed_by_their_revision(
    client: LambdaClient, create: Create
) -> None:
    create(Publish=True)
    grant: Any = {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    client.add_permission(FunctionName="thumbs", Qualifier="1", **grant)
    client.remove_permission(FunctionName="thumbs", Qualifier="1", StatementId="s")
    assert error_of(client.get_policy, FunctionName="thumbs", Qualifier="1")["status"] == 404

    client.publish_layer_version(LayerName="deps", Content={"ZipFile": make_zip()})
    layer: Any = {"LayerName": "deps", "VersionNumber": 1}
    made = client.add_layer_version_permission(StatementId="s", Action="lambda:GetLayerVersion", Principal="*", **layer)
    client.remove_layer_version_permission(StatementId="s", RevisionId=made["RevisionId"], **layer)
    assert error_of(client.get_layer_version_policy, **layer)["status"] == 404


def test_publishers_of_a_code_signing_configuration_can_be_replaced(client: LambdaClient, create: Create) -> None:
    made = client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [f"{PROFILE}one"]})
    arn = made["CodeSigningConfig"]["CodeSigningConfigArn"]
    changed = client.update_code_signing_config(
        CodeSigningConfigArn=arn, AllowedPublishers={"SigningProfileVersionArns": [f"{PROFILE}two"]}
    )
    assert changed["CodeSigningConfig"]["AllowedPublishers"] == {"SigningProfileVersionArns": [f"{PROFILE}two"]}
    for name in ("a", "b", "c"):
        create(name, CodeSigningConfigArn=arn)
    first: Any = client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn, MaxItems=2)
    rest: Any = client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn, Marker=first["NextMarker"])
    names = [one.rpartition(":")[2] for page in (first, rest) for one in page["FunctionArns"]]
    assert names == ["a", "b", "c"]


def test_versions_of_a_layer_are_listed_by_what_they_are_for(client: LambdaClient) -> None:
    for runtime, architecture in (("python3.11", "x86_64"), ("python3.12", "arm64")):
        client.publish_layer_version(
            LayerName="deps",
            Content={"ZipFile": make_zip()},
            CompatibleRuntimes=[runtime],  # type: ignore[list-item]
            CompatibleArchitectures=[architecture],  # type: ignore[list-item]
        )
    for wanted, found in (
        ({"CompatibleRuntime": "python3.12"}, [2]),
        ({"CompatibleArchitecture": "x86_64"}, [1]),
        ({"CompatibleRuntime": "python3.12", "CompatibleArchitecture": "x86_64"}, []),
    ):
        listed: Any = client.list_layer_versions(LayerName="deps", **wanted)  # type: ignore[arg-type]
        assert [one["Version"] for one in listed["LayerVersions"]] == found


def test_a_version_is_deleted_by_a_qualifier_and_by_its_arn(client: LambdaClient, create: Create) -> None:
    create(Publish=True)
    for number in range(2, 5):
        client.update_function_code(FunctionName="thumbs", ZipFile=make_zip(f"x = {number}"), Publish=True)
    for named in (
        {"FunctionName": "thumbs", "Qualifier": "1"},
        {"FunctionName": "thumbs:2"},
        {"FunctionName": f"{ARN}:3"},
        {"FunctionName": f"{ARN}:3", "Qualifier": "3"},  # no longer there, which is no error
    ):
        client.delete_function(**named)
    left = client.list_versions_by_function(FunctionName=ARN)["Versions"]
    assert [one["Version"] for one in left] == ["$LATEST", "4"]


def test_a_runtime_can_be_held_at_the_version_that_it_has(client: LambdaClient, create: Create) -> None:
    made = create()
    version = made["RuntimeVersionConfig"]["RuntimeVersionArn"]
    held = client.put_runtime_management_config(
        FunctionName="thumbs", UpdateRuntimeOn="Manual", RuntimeVersionArn=version
    )
    assert (held["UpdateRuntimeOn"], held["RuntimeVersionArn"]) == ("Manual", version)
    assert client.get_runtime_management_config(FunctionName="thumbs")["RuntimeVersionArn"] == version
