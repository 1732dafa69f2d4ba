"""What the model says that a single value may be, and the words that AWS has for a value that may not.

Going through structures is engine.rest.shapes' work. Limits that AWS holds in code and not in the model are the
registry's. The texts are those of AWS's own answers: "1 validation error detected: Value '5401' at 'timeout' failed to
satisfy constraint: Member must have value less than or equal to 5400".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson
from botocore.model import Shape

from engine.errors import InvalidArgument

SHOWN_CHARACTERS = 200
"""So much of a value is repeated in a message."""
SHOWN_PROBLEMS = 10

# The model's patterns are Java's; Python's re has no Unicode categories. The separators are all there are (Unicode 15).
_CATEGORIES = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}


def violations(shape: Shape, value: Any) -> list[str]:
    """What is wrong with one value of the right type: AWS's texts, empty if nothing is."""
    rules = shape.metadata
    found: list[str] = []
    if "enum" in rules and value not in rules["enum"]:
        found.append(f"Member must satisfy enum value set: [{', '.join(rules['enum'])}]")
    what, size = ("value", value) if isinstance(value, int | float) else ("length", _length(value))
    if "min" in rules and size is not None and size < rules["min"]:
        found.append(f"Member must have {what} greater than or equal to {rules['min']}")
    if "max" in rules and size is not None and size > rules["max"]:
        found.append(f"Member must have {what} less than or equal to {rules['max']}")
    if "pattern" in rules and not found and not re.fullmatch(translated(rules["pattern"]), value):
        found.append(f"Member must satisfy regular expression pattern: {rules['pattern']}")
    return found


def translated(pattern: str) -> str:
    """A pattern of the model in Python's syntax."""
    for category, characters in _CATEGORIES.items():
        pattern = pattern.replace(category, characters)
    return pattern


def problem(shape: Shape | None, path: str, value: Any, constraint: str) -> str:
    """AWS's sentence for one violation; `path` as of aws_path. A sensitive value is not repeated."""
    if value is None:
        shown = "null"
    elif shape is not None and _is_sensitive(shape):
        shown = "'***'"
    else:
        text = value if isinstance(value, str) else _json(value)
        shown = f"'{text}'" if len(text) <= SHOWN_CHARACTERS else f"'{text[:SHOWN_CHARACTERS]}…'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def refusal(problems: Sequence[tuple[str, str]]) -> InvalidArgument:
    """The error for every problem of a request, each the path of a member with AWS's sentence about it."""
    count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected"
    sentences = "; ".join(sentence for _, sentence in problems[:SHOWN_PROBLEMS])
    return InvalidArgument(f"{count}: {sentences}", fields=dict(problems))


def aws_path(path: str) -> str:
    """A path of members as AWS writes it: each begins with a small letter."""
    return ".".join(part[:1].lower() + part[1:] for part in path.split("."))


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:
        # Nested deeper than orjson writes.
        return "…"


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, str | bytes | list | dict) else None


def _is_sensitive(shape: Shape) -> bool:
    if shape.metadata.get("sensitive"):
        return True
    inner = (getattr(shape, "value", None), getattr(shape, "member", None))
    return any(part is not None and _is_sensitive(part) for part in inner)
