"""Layers: archives that functions share, published as numbered versions, and the names that clients have for them.

AWS's forms are those of botocore's service model (lambda/2015-03-31); engine.v1 has resource names
(https://google.aip.dev/122), the command `name:version`. Which values a layer may have is engine.registry.layers' work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from engine.errors import InvalidArgument
from engine.model.partitions import partition_of

LAYERS_LIMIT = 5
"""Of one function: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
NAME = re.compile(r"[a-zA-Z0-9_-]{1,140}")
_ARN = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:(?P<name>[a-zA-Z0-9_-]+)"
    r"(?::(?P<version>[0-9]+))?"
)
_RESOURCE = re.compile(r"layers/(?P<name>[a-zA-Z0-9_-]+)/versions/(?P<version>[0-9]+)")
_SHORT = re.compile(r"(?P<name>[a-zA-Z0-9_-]+):(?P<version>[0-9]+)")


class LayerRef(NamedTuple):
    """A version of a layer. Whether there is one is not said."""

    name: str
    version: int

    def resource_name(self) -> str:
        """The engine.v1 name, such as layers/deps/versions/3."""
        return f"layers/{self.name}/versions/{self.version}"


class LayerArn(NamedTuple):
    """An ARN of a layer, taken apart; version 0: of the layer as a whole."""

    region: str
    account: str
    name: str
    version: int


@dataclass(frozen=True, slots=True)
class LayerUse:
    """A layer version as a function has it: all that it needs, for the version may be deleted."""

    ref: LayerRef
    code_sha256: str  # hex, of the zip
    code_size_bytes: int
    unpacked_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LayerVersion:
    """A layer version as stored; it never changes but for its policy."""

    ref: LayerRef
    code_sha256: str  # hex, of the zip
    code_size_bytes: int
    unpacked_bytes: int
    create_time: datetime  # aware, UTC
    description: str = ""
    license_info: str = ""
    runtimes: tuple[str, ...] = ()  # those that it is for: a hint for who looks for one
    architectures: tuple[str, ...] = ()  # x86_64, arm64

    def use(self) -> LayerUse:
        """What a function keeps of it."""
        return LayerUse(self.ref, self.code_sha256, self.code_size_bytes, self.unpacked_bytes)

    def suits(self, runtime: str, architecture: str) -> bool:
        """Whether it says that it is for both; one that is "" is not asked for."""
        return (not runtime or runtime in self.runtimes) and (not architecture or architecture in self.architectures)


def parse_arn(text: str) -> LayerArn | None:
    """Take an ARN of a layer or of a version apart; None where it is neither."""
    match = _ARN.fullmatch(text)
    return match and LayerArn(match["region"], match["account"], match["name"], int(match["version"] or 0))


def parse_layer(text: str, field: str = "name") -> LayerRef:
    """A layer version as users name it: name:version, its ARN or layers/{layer}/versions/{version}. Raises
    InvalidArgument."""
    match = _RESOURCE.fullmatch(text) or _ARN.fullmatch(text) or _SHORT.fullmatch(text)
    if match is None or not match["version"]:
        raise InvalidArgument(
            f"{text!r} is not the name of a layer version",
            fix="use layers/{layer}/versions/{version}, or name:version",
            fields={field: "must be layers/{layer}/versions/{version}"},
        )
    return LayerRef(match["name"], int(match["version"]))


def parse_resource(text: str, field: str = "name") -> LayerRef:
    """layers/{layer}/versions/{version} alone. Raises InvalidArgument."""
    return parse_layer(text if _RESOURCE.fullmatch(text) else "/" + text, field)


def layer_arn(region: str, account: str, name: str, version: int = 0) -> str:
    """The ARN of a layer version; of the layer as a whole without one."""
    arn = f"arn:{partition_of(region)}:lambda:{region}:{account}:layer:{name}"
    return f"{arn}:{version}" if version else arn
