"""What the front refuses of an unmodified boto3 client, and in which words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.compat.conftest import Create
from tests.compat.stub_rooms import ROLE, Rooms, make_zip
from tests.compat.test_functions import error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

VALID = {
    "FunctionName": "thumbs",
    "Runtime": "python3.11",
    "Role": ROLE,
    "Handler": "app.handler",
    "Code": {"ZipFile": make_zip()},
}
ONE = "1 validation error detected: "
IN_CODE: list[dict[str, Any]] = [{"Timeout": 901}, {"EphemeralStorage": {"Size": 10_241}}]
"""Bounds that AWS holds in its code: its model allows these values."""


def code_of(changed: dict[str, Any]) -> str:
    """The error for a value that is out of bounds."""
    return "InvalidParameterValueException" if changed in IN_CODE else "ValidationException"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"MemorySize": 40_000},
            "Value '40000' at 'memorySize' failed to satisfy constraint: Member must have value less than or equal to "
            "32768",
        ),
        (
            {"MemorySize": 127},
            "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal "
            "to 128",
        ),
        (
            {"Timeout": 901},
            "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
        ),
        (
            {"Timeout": 0},
            "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            {"EphemeralStorage": {"Size": 10_241}},
            "Value '10241' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value less than "
            "or equal to 10240",
        ),
        (
            {"Role": "none"},
            "Value 'none' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:",
        ),
        (
            {"Handler": "a b"},
            "Value 'a b' at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: ",
        ),
        (
            {"Description": "x" * 257},
            f"Value '{'x' * 200}…' at 'description' failed to satisfy constraint: Member must have length less than or "
            "equal to 256",
        ),
        ({"Role": None}, "Value null at 'role' failed to satisfy constraint: Member must not be null"),
        (
            {"Environment": {"Variables": {"1": "secret"}}},
            "Value '***' at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: "
            "[Member must satisfy regular expression pattern: ",
        ),
        (
            {"FunctionName": "x" * 141},
            f"Value '{'x' * 141}' at 'functionName' failed to satisfy constraint: Member must have length less than or "
            "equal to 140",
        ),
    ],
)
def test_a_value_out_of_bounds_is_refused_in_aws_words(
    unchecked: LambdaClient, rooms: Rooms, changed: dict[str, Any], sentence: str
) -> None:
    error = error_of(unchecked.create_function, **{**VALID, **changed})
    assert (error["Code"], error["status"]) == (code_of(changed), 400)
    assert error["Message"].startswith(ONE + sentence)
    assert "secret" not in error["Message"]
    assert rooms.registry.functions == {}


ENVIRONMENT = (
    "Lambda was unable to configure your environment variables because the environment variables you have provided "
)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"MemorySize": 10_241},
            "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240",
        ),
        (
            {"Runtime": "cobol85"},
            "Value cobol85 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs,",
        ),
        (
            {"Environment": {"Variables": {"AWS_REGION": "secret", "AWS_SECRET_KEY": "secret", "A1": ""}}},
            f"{ENVIRONMENT}contains reserved keys that are currently not supported for modification. Reserved keys "
            "used in this request: AWS_REGION, AWS_SECRET_KEY",
        ),
        ({"Environment": {"Variables": {"A1": "secret" * 700}}}, f"{ENVIRONMENT}exceeded the 4KB limit. "),
        ({"FunctionName": "x" * 65}, f"1 validation error detected: Value '{'x' * 65}' at 'functionName' failed to"),
        (
            {"PackageType": "Image", "Code": {"ImageUri": "x"}},
            "1 validation error detected: Value 'Image' at 'packageType' failed to satisfy constraint: Member must "
            "satisfy enum value set: [Zip]; container images are not served by this release; ",
        ),
        (
            {"Code": {"ImageUri": "x"}},
            "Please don't provide ImageUri when creating a function with packageType Zip.",
        ),
        (
            {"Code": {"ZipFile": b"x", "S3Bucket": "bucket", "S3Key": "key"}},
            "Please do not provide other FunctionCode parameters when providing a ZipFile.",
        ),
        ({"Code": {"S3Bucket": "bucket"}}, "Please provide a source for function code."),
        ({"Code": {"S3Key": "key"}}, "Please provide a source for function code."),
    ],
)
def test_limits_that_aws_holds_in_its_code_have_its_own_words(
    unchecked: LambdaClient, rooms: Rooms, changed: dict[str, Any], message: str
) -> None:
    error = error_of(unchecked.create_function, **{**VALID, **changed})
    assert (error["Code"], error["status"]) == ("InvalidParameterValueException", 400)
    assert error["Message"].startswith(message)
    assert "secret" not in error["Message"]
    assert rooms.registry.functions == {}


def test_a_zip_over_its_limit_is_too_large(client: LambdaClient, create: Create, rooms: Rooms) -> None:
    create()
    for call, given in (
        (client.create_function, {**VALID, "FunctionName": "other", "Code": {"ZipFile": b"P" * 52_428_801}}),
        (client.update_function_code, {"FunctionName": "thumbs", "ZipFile": b"P" * 52_428_801}),
    ):
        error = error_of(call, **given)
        assert (error["Code"], error["status"]) == ("RequestEntityTooLargeException", 413)
        assert error["Message"] == "Zipped size must be smaller than 52428800 bytes"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"MemorySize": "lots"}, "STRING_VALUE can not be converted to an Integer"),
        ({"MemorySize": True}, "TRUE_VALUE can not be converted to an Integer"),
        ({"MemorySize": 128.5}, "NUMBER_VALUE can not be converted to an Integer"),
        ({"Description": 1}, "NUMBER_VALUE can not be converted to a String"),
        ({"Role": {"a": "b"}}, "Start of structure or map found where not expected."),
    ],
)
def test_a_value_of_another_type_is_a_serialization_error(
    unchecked: LambdaClient, rooms: Rooms, changed: dict[str, Any], sentence: str
) -> None:
    error = error_of(unchecked.create_function, **{**VALID, **changed})
    assert (error["Code"], error["Message"], error["status"]) == ("SerializationException", sentence, 400)
    assert rooms.registry.functions == {}


def test_everything_that_is_wrong_is_said_at_once(unchecked: LambdaClient) -> None:
    error = error_of(unchecked.create_function, FunctionName="thumbs", Timeout=0, Code={"ZipFile": b""})
    assert error["Message"].startswith("2 validation errors detected: Value '0' at 'timeout'")
    assert "; Value null at 'role'" in error["Message"]


@pytest.mark.parametrize("left_out", ["Runtime", "Handler"])
def test_a_zip_needs_a_runtime_and_a_handler(client: LambdaClient, left_out: str) -> None:
    parameters: Any = {name: value for name, value in VALID.items() if name != left_out}
    error = error_of(client.create_function, **parameters)
    assert error["Message"].startswith("Runtime and Handler are mandatory parameters")


def test_a_function_is_not_created_as_a_version(client: LambdaClient) -> None:
    error = error_of(client.create_function, **{**VALID, "FunctionName": "thumbs:3"})
    assert error["Code"] == "InvalidParameterValueException"


def test_a_damaged_zip_is_refused(client: LambdaClient, create: Create, rooms: Rooms) -> None:
    error = error_of(client.create_function, **{**VALID, "Code": {"ZipFile": b"PK no"}})
    assert error["Code"] == "InvalidParameterValueException"
    assert error["Message"] == "Could not unzip uploaded file. Please check your file, then try to upload again."
    create()
    for dry in (True, False):
        error = error_of(client.update_function_code, FunctionName="thumbs", ZipFile=b"no", DryRun=dry)
        assert error["Code"] == "InvalidParameterValueException"


NOT_HONOURED: list[tuple[dict[str, Any], str]] = [
    ({"PublishTo": "LATEST_PUBLISHED"}, "publishTo"),
    ({"VpcConfig": {"SubnetIds": ["subnet-1"]}}, "vpcConfig.subnetIds"),
    ({"VpcConfig": {"SecurityGroupIds": ["sg-1"]}}, "vpcConfig.securityGroupIds"),
    ({"VpcConfig": {"Ipv6AllowedForDualStack": True}}, "vpcConfig.ipv6AllowedForDualStack"),
    (
        {
            "FileSystemConfigs": [
                {
                    "Arn": "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-12345678901234567",
                    "LocalMountPath": "/mnt/a",
                }
            ]
        },
        "fileSystemConfigs",
    ),
    ({"ImageConfig": {"Command": ["app"]}}, "imageConfig.command"),
    ({"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}, "tenancyConfig.tenantIsolationMode"),
    ({"DurableConfig": {"ExecutionTimeout": 1}}, "durableConfig.executionTimeout"),
    (
        {"Code": {"S3Bucket": "bucket", "S3Key": "key", "S3ObjectStorageMode": "REFERENCE"}},
        "code.s3ObjectStorageMode",
    ),
]


@pytest.mark.parametrize(("parameters", "path"), NOT_HONOURED, ids=[path for _, path in NOT_HONOURED])
def test_a_parameter_that_cannot_be_honoured_is_refused_by_name(
    client: LambdaClient, rooms: Rooms, parameters: dict[str, Any], path: str
) -> None:
    error = error_of(client.create_function, **{**VALID, **parameters})
    assert (error["Code"], error["status"]) == ("InvalidParameterValueException", 400)
    assert f" at '{path}' failed to satisfy constraint: Member must not be set: " in error["Message"]
    assert rooms.registry.functions == {}


def test_the_same_parameters_are_refused_in_updates(client: LambdaClient, create: Create) -> None:
    create()
    for parameters, path in NOT_HONOURED:
        name = next(iter(parameters))
        if name in client.meta.service_model.operation_model("UpdateFunctionConfiguration").input_shape.members:  # type: ignore[union-attr]
            error = error_of(client.update_function_configuration, FunctionName="thumbs", **parameters)
            assert f" at '{path}' " in error["Message"]
    mode: Any = {"S3Bucket": "bucket", "S3Key": "key", "S3ObjectStorageMode": "REFERENCE"}
    error = error_of(client.update_function_code, FunctionName="thumbs", **mode)
    assert "Member must not be set" in error["Message"]
    error = error_of(client.update_function_code, FunctionName="thumbs", ImageUri="image")
    assert error["Message"] == "Please don't provide ImageUri when updating a function with packageType Zip."


def test_code_for_another_processor_is_refused(client: LambdaClient, create: Create) -> None:
    own = create()["Architectures"]
    other = ["arm64"] if own == ["x86_64"] else ["x86_64"]
    assert create("same", Architectures=own)["Architectures"] == own
    assert "'architectures'" in error_of(client.create_function, **{**VALID, "Architectures": other})["Message"]


def test_parameters_that_ask_for_nothing_are_accepted(create: Create) -> None:
    create(
        Publish=False,
        VpcConfig={"SubnetIds": [], "SecurityGroupIds": []},
        PackageType="Zip",
        DeadLetterConfig={"TargetArn": ""},
        KMSKeyArn="",
        TracingConfig={"Mode": "PassThrough"},
        Tags={},
        Layers=[],
        FileSystemConfigs=[],
        ImageConfig={},
        SnapStart={"ApplyOn": "None"},
        LoggingConfig={"LogFormat": "Text", "LogGroup": "/aws/lambda/thumbs"},
    )


def test_code_has_to_come_from_somewhere(client: LambdaClient, create: Create) -> None:
    create()
    assert "source for function code" in error_of(client.create_function, **{**VALID, "Code": {}})["Message"]
    assert "source for function code" in error_of(client.update_function_code, FunctionName="thumbs")["Message"]
