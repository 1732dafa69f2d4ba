"""Every operation of AWS's API, through an unmodified boto3 client: each is known, served or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from engine.rest.routes import load_model
from tests.compat.stub_rooms import Rooms

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

MODEL = load_model()
SERVED = {
    "CreateFunction",
    "DeleteFunction",
    "GetFunction",
    "GetFunctionConfiguration",
    "Invoke",
    "InvokeWithResponseStream",
    "ListFunctions",
    "UpdateFunctionCode",
    "UpdateFunctionConfiguration",
}


def test_the_model_has_the_operations_that_are_counted_on() -> None:
    assert len(MODEL.operation_names) == 91
    assert set(MODEL.operation_names) > SERVED


def labels(name: str) -> dict[str, Any]:
    """The least that a client needs to know where to send a request: something for each label of the path."""
    shape: Any = MODEL.operation_model(name).input_shape
    members = shape.members if shape is not None else {}
    return {
        member: 1 if inner.type_name in ("integer", "long") else "arn:aws:lambda:us-east-1:000000000000:thing/x y"
        for member, inner in members.items()
        if inner.serialization.get("location") == "uri"
    }


@pytest.mark.parametrize("name", MODEL.operation_names)
def test_every_operation_answers_with_a_success_or_a_modelled_error(
    unchecked: LambdaClient, rooms: Rooms, name: str
) -> None:
    call = getattr(unchecked, xform_name(name))
    answered, refused = None, None
    try:
        answered = call(**labels(name))["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        refused = error
    if refused is None:
        assert (answered, name in SERVED) == (200, True)
    else:
        code = refused.response["Error"]["Code"]
        assert code in {shape.name for shape in MODEL.error_shapes}
        assert isinstance(refused, getattr(unchecked.exceptions, code))
        status = refused.response["ResponseMetadata"]["HTTPStatusCode"]
        assert (status == 501) == (name not in SERVED)
        if status == 501:
            assert code == "ServiceException"
            assert refused.response["Error"]["Message"].startswith(f"{name} is an operation of AWS Lambda that this")
    assert rooms.faults.events == []
