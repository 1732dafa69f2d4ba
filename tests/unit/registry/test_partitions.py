"""ARNs of regions in other partitions than aws."""

from __future__ import annotations

import pytest

from engine.model.layer import layer_arn
from engine.model.names import FunctionRef, function_arn
from engine.model.partitions import partition_of
from engine.registry.policies import statement_of

ACCOUNT = "000000000000"


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("us-east-1", "aws"),
        ("eu-central-2", "aws"),
        ("cn-northwest-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("us-isof-south-1", "aws-iso-f"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
def test_an_arn_names_the_partition_of_its_region(region: str, partition: str) -> None:
    assert partition_of(region) == partition
    arn = function_arn(region, ACCOUNT, FunctionRef("thumbs"))
    assert arn == f"arn:{partition}:lambda:{region}:{ACCOUNT}:function:thumbs"
    assert layer_arn(region, ACCOUNT, "deps", 2) == f"arn:{partition}:lambda:{region}:{ACCOUNT}:layer:deps:2"
    statement = statement_of("s1", "lambda:InvokeFunction", "111111111111", arn, {})
    assert statement["Principal"] == {"AWS": f"arn:{partition}:iam::111111111111:root"}
