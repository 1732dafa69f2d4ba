"""The errors that AWS documents for its operations: each that a client can provoke is provoked, for every operation.

Every answer is held to the service model by the client's hook (tests/compat/conftest.py).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from tests.compat.conftest import Create
from tests.compat.service_model import MODEL
from tests.compat.stub_rooms import ACCOUNT, REGION, ROLE, make_zip
from tests.compat.test_operations import SERVED

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
SIGNING = f"{ARN}:code-signing-config:csc-{'0' * 17}"
MISSING, INVALID = "ResourceNotFoundException", "InvalidParameterValueException"
NAME_CHARACTERS = 64
STATEMENT = {"Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction"}
MEMBERS: dict[str, Any] = {
    "Action": "lambda:InvokeFunction",
    "AuthType": "NONE",
    "CodeSigningConfigArn": SIGNING,
    "EventSourceArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs",
    "FunctionName": "missing",
    "FunctionVersion": "1",
    "MaximumRetryAttempts": 1,
    "Name": "live",
    "Policy": json.dumps({"Version": "2012-10-17", "Statement": [STATEMENT]}),
    "Principal": "s3.amazonaws.com",
    "ProvisionedConcurrentExecutions": 1,
    "Qualifier": "1",
    "RecursiveLoop": "Allow",
    "ReservedConcurrentExecutions": 0,
    "Resource": f"{ARN}:function:missing",
    "ResourceArn": f"{ARN}:function:missing",
    "StatementId": "s",
    "TagKeys": ["a"],
    "Tags": {"a": "b"},
    "UUID": "00000000-0000-4000-8000-000000000000",
    "UpdateRuntimeOn": "Auto",
}


LATER = re.compile(r"\w*(Layer|DurableExecution|CapacityProvider|ScalingConfig|InvokeAsync)\w*")
"""Operations that get their tests with the rooms that serve them."""
NAMES = sorted(name for name in SERVED if not LATER.fullmatch(name))


def modelled(kind: str) -> list[str]:
    """The operations that are known to end in this error."""
    return [name for name in NAMES if kind in {one.name for one in MODEL.operation_model(name).error_shapes}]


def error(client: LambdaClient, name: str, **parameters: Any) -> str:
    """The code of what an operation refuses."""
    with pytest.raises(ClientError) as refused:
        getattr(client, xform_name(name))(**parameters)
    return str(refused.value.response["Error"]["Code"])


def needed(name: str) -> dict[str, Any]:
    """The least that an operation has to be given."""
    shape: Any = MODEL.operation_model(name).input_shape
    return {member: MEMBERS[member] for member in shape.required_members}


FINDS_NOTHING = {
    "CreateEventSourceMapping",  # a function that is not there is a wrong parameter
    "CreateFunction",  # what it names is elsewhere: no role is looked up
    "ListEventSourceMappings",  # what is not there has none
}


def test_what_is_not_there_is_not_found(client: LambdaClient) -> None:
    found = {name: error(client, name, **needed(name)) for name in modelled(MISSING) if name not in FINDS_NOTHING}
    assert found.pop("PutFunctionCodeSigningConfig") == "CodeSigningConfigNotFoundException"
    assert set(found.values()) == {MISSING}, found


def test_a_name_that_no_function_can_have_is_an_invalid_value(unchecked: LambdaClient) -> None:
    for name in modelled(INVALID):
        members: Any = MODEL.operation_model(name).input_shape
        if "FunctionName" not in members.required_members or name in ("CreateFunction", "PutFunctionCodeSigningConfig"):
            continue  # the first has more to say, the second looks for the configuration first
        # Some models know the limit of a name, others only that of an ARN.
        known = f"{{1,{NAME_CHARACTERS}}})" in members.members["FunctionName"].metadata["pattern"]
        given = needed(name) | {"FunctionName": "x" * (NAME_CHARACTERS + 1)}
        assert (name, error(unchecked, name, **given)) == (name, "ValidationException" if known else INVALID)


@pytest.mark.parametrize("name", modelled("PreconditionFailedException"))
def test_a_revision_that_is_not_the_last_is_refused(client: LambdaClient, create: Create, name: str) -> None:
    create(Publish=True)
    client.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="1")
    statement: dict[str, Any] = {"Action": MEMBERS["Action"], "Principal": MEMBERS["Principal"]}
    client.add_permission(FunctionName="thumbs", StatementId="s", **statement)
    arn = f"{ARN}:function:thumbs"
    policy = {"Version": "2012-10-17", "Statement": [{**STATEMENT, "Resource": arn}]}
    own: dict[str, dict[str, Any]] = {
        "AddPermission": {"StatementId": "t"},
        "PutResourcePolicy": {"Policy": json.dumps(policy)},
        "UpdateFunctionCode": {"ZipFile": make_zip("other = 1")},
    }
    given = needed(name) | own.get(name, {}) | {"RevisionId": "00000000-0000-4000-8000-000000000000"}
    given |= {"FunctionName": "thumbs"} if "FunctionName" in given else {"ResourceArn": arn}
    assert error(client, name, **given) == "PreconditionFailedException"


def test_what_is_there_is_not_made_again(client: LambdaClient, create: Create) -> None:
    create(Publish=True)
    code = {"ZipFile": make_zip()}
    of_function = {"Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "Code": code}
    own = {"CreateFunction": of_function, "CreateEventSourceMapping": {"EventSourceArn": MEMBERS["EventSourceArn"]}}
    others = ("AddPermission", "CreateAlias", "CreateFunctionUrlConfig")
    for name in (*others, *own):
        given = {**(own[name] if name in own else needed(name)), "FunctionName": "thumbs"}
        if name != "CreateFunction":
            getattr(client, xform_name(name))(**given)
        assert (name, error(client, name, **given)) == (name, "ResourceConflictException")


def test_a_policy_that_grows_too_long_is_refused(client: LambdaClient, create: Create) -> None:
    create()
    arn = f"{ARN}:function:thumbs"
    statements = [{**STATEMENT, "Sid": "s" * 90 + f"{n}", "Resource": arn} for n in range(82)]
    client.put_resource_policy(ResourceArn=arn, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    given = needed("AddPermission") | {"FunctionName": "thumbs"}
    given["SourceArn"] = f"arn:aws:s3:::{'b' * 1_200}"
    assert error(client, "AddPermission", **given) == "PolicyLengthExceededException"


ELSEWHERE = {
    "CodeSigningConfigNotFoundException": "test_code_signing.py",
    "InvalidRequestContentException": "test_invoke.py",
    "ProvisionedConcurrencyConfigNotFoundException": "test_concurrency.py",
    "RequestTooLargeException": "test_invoke.py",
    "ServiceException": "test_invoke.py",
    "TooManyRequestsException": "test_invoke.py",
    "UnsupportedMediaTypeException": "../unit/rest/test_limits.py",
}
"""What is provoked in another file."""
NOT_PROVOKED = {
    "of parts of AWS that are not here": "CodeArtifact EC2 EFS ENI KMS S3Files SnapStart Subnet SecurityGroup",
    "of what this release refuses or does not enforce": (
        "CapacityProvider CodeSignature CodeVerification DurableExecution ModeNotSupported NoPublishedVersion "
        "PublicPolicy Recursive ResourceInUse ServiceQuota"
    ),
    "of limits that are not kept, or none of its calls can reach": (
        "AliasLimit CodeStorage InvalidRuntime InvalidZipFile ResourceNotReady RuntimeAliasDeleted "
        "RuntimeVersionDeleted SerializedRequest SubnetID"
    ),
}


def test_every_documented_error_is_provoked_or_known_not_to_be() -> None:
    kinds = {one.name for name in NAMES for one in MODEL.operation_model(name).error_shapes}
    here = {MISSING, INVALID, "PolicyLengthExceededException", "PreconditionFailedException"}
    here |= {"ResourceConflictException", *ELSEWHERE}
    parts = " ".join(NOT_PROVOKED.values()).split()
    loose = {kind for kind in kinds - here if not any(part in kind for part in parts)}
    assert loose == set()
    for kind, file in ELSEWHERE.items():
        assert kind in (Path(__file__).parent / file).read_text(), kind
