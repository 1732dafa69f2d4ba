"""Errors that the service model documents for an operation, each provoked: those that no other test here has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.compat.conftest import Create
from tests.compat.stub_rooms import ACCOUNT, REGION, make_zip
from tests.compat.test_functions import ARN, error_of

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:deps"
GRANT: dict[str, Any] = {
    "LayerName": "deps",
    "VersionNumber": 1,
    "StatementId": "s",
    "Action": "lambda:GetLayerVersion",
    "Principal": "*",
}
NO_VERSION = "Layer Version Cannot be less than 1"
STALE_LAYER = (
    "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the "
    "latest Revision Id"
)
DIFFER = "The derived qualifier from the function name does not match the specified qualifier."
TWO: dict[str, Any] = {"FunctionName": f"{ARN}:one", "Qualifier": "two"}
MAPPING = "00000000-0000-0000-0000-000000000000"
INVALID, NONE, STALE = "InvalidParameterValueException", "ResourceNotFoundException", "PreconditionFailedException"
PROVOKED: list[tuple[str, dict[str, Any], str, int, str]] = [
    ("add_layer_version_permission", {**GRANT, "VersionNumber": 0}, INVALID, 400, NO_VERSION),
    ("add_layer_version_permission", {**GRANT, "RevisionId": "old"}, STALE, 412, STALE_LAYER),
    (
        "remove_layer_version_permission",
        {"LayerName": "deps", "VersionNumber": 0, "StatementId": "s"},
        INVALID,
        400,
        NO_VERSION,
    ),
    ("get_layer_version_policy", {"LayerName": "deps", "VersionNumber": 0}, INVALID, 400, NO_VERSION),
    (
        "get_layer_version_by_arn",
        {"Arn": f"{LAYER}:0"},
        INVALID,
        400,
        f"Layer version {LAYER}:0 does not exist.",
    ),
    ("create_function_url_config", {**TWO, "AuthType": "NONE"}, INVALID, 400, DIFFER),
    ("update_function_url_config", {**TWO, "AuthType": "NONE"}, INVALID, 400, DIFFER),
    ("delete_function_url_config", TWO, INVALID, 400, DIFFER),
    ("delete_event_source_mapping", {"UUID": MAPPING}, NONE, 404, "The resource you requested does not exist."),
]


@pytest.mark.parametrize(("operation", "parameters", "code", "status", "message"), PROVOKED)
def test_a_documented_error_is_answered_when_it_is_provoked(
    client: LambdaClient,
    create: Create,
    operation: str,
    parameters: dict[str, Any],
    code: str,
    status: int,
    message: str,
) -> None:
    create(Publish=True)
    client.publish_layer_version(LayerName="deps", Content={"ZipFile": make_zip()})
    error = error_of(getattr(client, operation), **parameters)
    assert (error["Code"], error["status"], error["Message"]) == (code, status, message)


def test_the_policy_of_a_layer_has_a_limit_and_what_is_over_it_is_not_kept(client: LambdaClient) -> None:
    client.publish_layer_version(LayerName="deps", Content={"ZipFile": make_zip()})
    error: dict[str, Any] = {}
    for number in range(200):  # of about 270 bytes each
        grant = {**GRANT, "StatementId": f"{number:0100}", "Principal": ACCOUNT}
        before: Any = client.get_layer_version_policy(LayerName="deps", VersionNumber=1) if number else {}
        try:
            client.add_layer_version_permission(**grant)
        except client.exceptions.PolicyLengthExceededException as refused:
            error = dict(refused.response["Error"])
            break
    assert error["Message"].startswith("The final policy size (")
    assert error["Message"].endswith(") is bigger than the limit (20480).")
    after: Any = client.get_layer_version_policy(LayerName="deps", VersionNumber=1)
    assert (after["Policy"], after["RevisionId"]) == (before["Policy"], before["RevisionId"])
