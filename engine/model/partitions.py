"""The partition that a region is in: the second part of an ARN. Source: partitions.json of botocore."""

from __future__ import annotations

from functools import lru_cache

_OTHERS = {
    "cn-": "aws-cn",
    "eusc-": "aws-eusc",
    "eu-isoe-": "aws-iso-e",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "us-isof-": "aws-iso-f",
}


@lru_cache(maxsize=256)
def partition_of(region: str) -> str:
    """Such as aws-cn for cn-north-1; aws for all that is in no other."""
    return next((partition for prefix, partition in _OTHERS.items() if region.startswith(prefix)), "aws")
