"""Names of functions in all the forms that clients use, taken apart once.

AWS accepts a name, a partial ARN and a whole ARN, each with or without a qualifier; engine.v1 has resource names
(https://google.aip.dev/122). Source of the AWS forms: the patterns of botocore's service model, lambda/2015-03-31.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from engine.errors import InvalidArgument
from engine.model.function import LATEST
from engine.model.partitions import partition_of

FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AWS = re.compile(
    r"(?:arn:aws[a-zA-Z-]*:lambda:(?P<region>[a-z0-9-]+):)?(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_-]+)(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[A-Za-z0-9_-]+))?"
)
_RESOURCE = re.compile(
    r"functions/(?P<name>[^/]+)(?:/(?:versions/(?P<version>\$LATEST|[1-9][0-9]*)|aliases/(?P<alias>(?![0-9]+$)[A-Za-z0-9_-]+)))?"
)
_NAMES = "letters, digits, - and _, at most 64"


class FunctionRef(msgspec.Struct, frozen=True):
    """A function, and which version or alias of it."""

    name: str
    qualifier: str = LATEST

    def resource_name(self) -> str:
        """The engine.v1 name, such as functions/thumbs/versions/3."""
        if self.qualifier == LATEST:
            return f"functions/{self.name}"
        kind = "versions" if self.qualifier.isdigit() else "aliases"
        return f"functions/{self.name}/{kind}/{self.qualifier}"


def check_function_name(name: str, field: str = "name") -> str:
    """Return `name` if it can be a function's, else raise InvalidArgument naming `field`."""
    if not FUNCTION_NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} is not a function name", fix=f"use {_NAMES}", fields={field: f"must be {_NAMES}"}
        )
    return name


@lru_cache(maxsize=1_024)
def parse_resource_name(text: str) -> FunctionRef:
    """Take apart functions/{f}[/versions/{v} | /aliases/{a}]; raises InvalidArgument."""
    match = _RESOURCE.fullmatch(text)
    if match is None:
        raise InvalidArgument(
            f"{text!r} is not the name of a function",
            fix="use functions/{function}, with /versions/{version} or /aliases/{alias} after it where one is meant",
            fields={"name": "must be functions/{function}"},
        )
    return FunctionRef(check_function_name(match["name"]), match["version"] or match["alias"] or LATEST)


def parse_aws_name(text: str, qualifier: str | None = None) -> FunctionRef:
    """Take apart a name, partial ARN or ARN as AWS's clients send it, with the Qualifier parameter; raises
    InvalidArgument, also when both name one and they differ."""
    match = _AWS.fullmatch(text)
    if match is None:
        raise InvalidArgument(
            f"{text!r} is not a function name or ARN",
            fix="use the function's name or its ARN",
            fields={"FunctionName": "must be a function's name or ARN"},
        )
    inline = match["qualifier"]
    if inline and qualifier and inline != qualifier:
        raise InvalidArgument(
            "The derived qualifier from the function name does not match the specified qualifier.",
            fix="give the qualifier once",
            fields={"Qualifier": "differs from the one in FunctionName"},
        )
    return FunctionRef(check_function_name(match["name"], "FunctionName"), inline or qualifier or LATEST)


def function_arn(region: str, account: str, ref: FunctionRef) -> str:
    """The ARN, qualified unless it means $LATEST."""
    arn = f"arn:{partition_of(region)}:lambda:{region}:{account}:function:{ref.name}"
    return arn if ref.qualifier == LATEST else f"{arn}:{ref.qualifier}"
