"""What the model says that a single value may be, and the words that AWS has for a value that may not.

Going through structures is engine.rest.shapes' work. Limits that AWS holds in code and not in the model are the
registry's. The texts are those of AWS's own answers: "1 validation error detected: Value '5401' at 'timeout' failed to
satisfy constraint: Member must have value less than or equal to 5400".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import InvalidArgument
from engine.rest.model import Shape

SHOWN_CHARACTERS = 200
"""So much of a value is repeated in a message."""
SHOWN_PROBLEMS = 10
_DEEP = 8


class ValidationFailed(InvalidArgument):
    """A value that the service model does not allow."""

    aws_type = "ValidationException"
    reason = "VALIDATION_FAILED"


def violations(shape: Shape, value: Any) -> list[str]:
    """What is wrong with one value of the right type: AWS's texts, empty if nothing is."""
    found: list[str] = []
    if shape.enum and value not in shape.enum:
        found.append(_enum(shape))
    if shape.least is not None or shape.most is not None:
        what, size = ("value", value) if shape.is_number else ("length", len(value))
        if shape.most is not None and size > shape.most:
            found.append(f"Member must have {what} less than or equal to {shape.most}")
        if shape.least is not None and size < shape.least:
            found.append(f"Member must have {what} greater than or equal to {shape.least}")
    if shape.pattern and not shape.matches(value):
        found.append(f"Member must satisfy regular expression pattern: {shape.pattern}")
    return found


def constraints(shape: Shape) -> list[str]:
    """Every constraint of a shape in AWS's words, as its answers about an item of a list or a map name them all."""
    found = [_enum(shape)] if shape.enum else []
    what = "value" if shape.is_number else "length"
    if shape.most is not None:
        found.append(f"Member must have {what} less than or equal to {shape.most}")
    if shape.least is not None:
        found.append(f"Member must have {what} greater than or equal to {shape.least}")
    if shape.pattern:
        found.append(f"Member must satisfy regular expression pattern: {shape.pattern}")
    return found


def problem(shape: Shape | None, path: str, value: Any, constraint: str) -> str:
    """AWS's sentence for one violation; `path` as of aws_path. A sensitive value is not repeated."""
    if value is None:
        shown = "null"
    elif shape is not None and is_sensitive(shape):
        shown = "'***'"
    else:
        text = _shown(value, _DEEP)
        shown = f"'{text}'" if len(text) <= SHOWN_CHARACTERS else f"'{text[:SHOWN_CHARACTERS]}…'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def refusal(problems: Sequence[tuple[str, str]], kind: type[InvalidArgument] = InvalidArgument) -> InvalidArgument:
    """The error for every problem of a request, each the path of a member with AWS's sentence about it."""
    count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected"
    sentences = "; ".join(sentence for _, sentence in problems[:SHOWN_PROBLEMS])
    return kind(f"{count}: {sentences}", fields=dict(problems))


def aws_path(path: str) -> str:
    """A path of members as AWS writes it: each begins with a small letter."""
    return ".".join(part[:1].lower() + part[1:] for part in path.split("."))


def is_sensitive(shape: Shape) -> bool:
    """Whether its values, or the values in it, are for nobody's log."""
    inner = (shape.value, shape.member)
    return shape.sensitive or any(part is not None and is_sensitive(part) for part in inner)


def _enum(shape: Shape) -> str:
    return f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _shown(value: Any, depth: int) -> str:
    """A value as Java writes it, which is what AWS's answers show."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list) and not depth:
        return "…"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={_shown(inner, depth - 1)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item, depth - 1) for item in value) + "]"
    return str(value)
