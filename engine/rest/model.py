"""The service models of AWS Lambda and CloudWatch Logs: operations, and the shapes of what they take, give and refuse.

Read from lambda-2015-03-31.json and logs-2014-03-28.json beside this module, which .ci/aws-models writes from
botocore's own models. Routing is engine.rest.routes', reading and writing by shapes engine.rest.shapes'. Guarantees
that every shape that is named is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, NamedTuple

import orjson

LAMBDA_MODEL = "lambda-2015-03-31.json"
LOGS_MODEL = "logs-2014-03-28.json"

# The model's patterns are Java's; Python's re has no Unicode categories. The separators are all there are (Unicode 15).
_CATEGORIES = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}


class Member(NamedTuple):
    """One member of a structure. `place` is "path", "query", "header" or "status", "" for the document; `wire` is its
    name there."""

    shape: Shape
    place: str
    wire: str


@dataclass(slots=True, eq=False)
class Shape:
    """What one value may be. `least` and `most` are of a number's value, of anything else's length."""

    name: str
    kind: str
    """structure, list, map, string, integer, long, double, boolean, blob or timestamp"""
    enum: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    pattern: str = ""
    sensitive: bool = False
    members: dict[str, Member] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    payload: str = ""
    """The member that is the whole body."""
    is_stream: bool = False
    key: Shape | None = None
    value: Shape | None = None
    member: Shape | None = None
    error_status: int = 0
    by_wire: dict[str, str] = field(default_factory=dict)
    """Names of the members of the document by their names there."""
    elsewhere: tuple[tuple[str, Member], ...] = ()
    """The members that are not in the document."""
    _regex: re.Pattern[str] | None = None

    @property
    def is_structure(self) -> bool:
        """Whether it has members."""
        return self.kind == "structure"

    @property
    def is_number(self) -> bool:
        """Whether its bounds are of its value."""
        return self.kind in ("integer", "long", "double")

    def matches(self, text: str) -> bool:
        """Whether a string fits the pattern."""
        if self._regex is None:
            self._regex = re.compile(translated(self.pattern))
        return self._regex.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation. `query` are the fields that tell it apart from another of the same path."""

    name: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    status: int
    input: Shape
    output: Shape | None
    errors: tuple[str, ...]


class Model(NamedTuple):
    """All of it."""

    operations: Mapping[str, Operation]
    shapes: Mapping[str, Shape]

    @property
    def errors(self) -> Mapping[str, Shape]:
        """The errors that operations are known to end in, by name."""
        return {name: shape for name, shape in self.shapes.items() if shape.error_status}


def load_model(file: str = LAMBDA_MODEL) -> Model:
    """Read a model: a few milliseconds."""
    document = orjson.loads(files("engine.rest").joinpath(file).read_bytes())
    shapes = {name: _shape(name, raw) for name, raw in document["shapes"].items()}
    for name, raw in document["shapes"].items():
        _link(shapes[name], raw, shapes)
    operations = {name: _operation(name, raw, shapes) for name, raw in document["operations"].items()}
    return Model(operations, shapes)


def translated(pattern: str) -> str:
    """A pattern of the model in Python's syntax."""
    for category, characters in _CATEGORIES.items():
        pattern = pattern.replace(category, characters)
    return pattern


def _shape(name: str, raw: dict[str, Any]) -> Shape:
    return Shape(
        name,
        raw["type"],
        enum=tuple(raw.get("enum", ())),
        least=raw.get("min"),
        most=raw.get("max"),
        pattern=raw.get("pattern", ""),
        sensitive=raw.get("sensitive", False),
        required=tuple(raw.get("required", ())),
        payload=raw.get("payload", ""),
        is_stream=raw.get("eventstream", False),
        error_status=raw.get("error", 0),
    )


def _link(shape: Shape, raw: dict[str, Any], shapes: Mapping[str, Shape]) -> None:
    for part in ("key", "value", "member"):
        if part in raw:
            setattr(shape, part, shapes[raw[part]])
    for name, one in raw.get("members", {}).items():
        shape.members[name] = Member(shapes[one["shape"]], one.get("in", ""), one.get("as", name))
    shape.by_wire = {member.wire: name for name, member in shape.members.items() if not member.place}
    shape.elsewhere = tuple((name, member) for name, member in shape.members.items() if member.place)


def _operation(name: str, raw: dict[str, Any], shapes: Mapping[str, Shape]) -> Operation:
    return Operation(
        name,
        raw["method"],
        raw["path"],
        tuple((key, value) for key, value in raw.get("query", ())),
        raw["status"],
        shapes[raw["input"]],
        shapes[raw["output"]] if "output" in raw else None,
        tuple(raw["errors"]),
    )
