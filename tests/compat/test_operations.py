"""Every operation of AWS's API, through an unmodified boto3 client: each is known, served or not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from tests.compat.service_model import MODEL, NOT_SERVED, OF_EVERY_OPERATION
from tests.compat.stub_rooms import Rooms

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

NOT_BUILT = re.compile(r"\w*(DurableExecution|CapacityProvider)\w*")
"""What of AWS's API this release does not serve."""
SERVED = {name for name in MODEL.operation_names if not NOT_BUILT.fullmatch(name)}


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
    except ClientError as caught:
        refused = caught
    if refused is None:
        assert answered is not None
        assert answered < 300
        assert name in SERVED
    else:
        error = refused.response["Error"]
        operation = MODEL.operation_model(name)
        if name not in NOT_SERVED:
            assert error["Code"] in {shape.name for shape in operation.error_shapes} | set(OF_EVERY_OPERATION)
        assert refused.response["ResponseMetadata"]["HTTPStatusCode"] < 500
        if name not in SERVED:
            assert error["Code"] == "InvalidParameterValueException"
            assert isinstance(refused, unchecked.exceptions.InvalidParameterValueException)
            assert error["Message"].startswith(f"{name} is an operation of AWS Lambda that this")
    assert rooms.faults.events == []
