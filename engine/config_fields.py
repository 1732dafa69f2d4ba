"""What is said about a setting, in one place: its line of documentation, what it accepts, whether a running engine can
take a change, and its names in the file, in the environment and on the command line.

A settings struct annotates each field with setting(...); describe() reads the annotations back. Which settings there
are is engine.config's; their page is engine.config_docs'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

ENV_PREFIX = "CLEAVE_"


def setting(
    doc: str,
    *,
    values: str = "",
    reloadable: bool = False,
    ge: int | None = None,
    le: int | None = None,
    pattern: str | None = None,
) -> msgspec.Meta:
    """The annotation of one field: `doc` is one line, `values` says what is accepted where the type does not, `ge` and
    `le` are inclusive bounds, `reloadable` fields change on SIGHUP."""
    constraints: dict[str, Any] = {"ge": ge, "le": le, "pattern": pattern}
    return msgspec.Meta(description=doc, extra={"values": values, "reloadable": reloadable}, **constraints)


@dataclass(frozen=True, slots=True)
class Field:
    """A setting as its users meet it."""

    name: str
    doc: str
    values: str  # what it accepts, to stand after "use"
    reloadable: bool
    default: Any  # None where load() works it out
    is_bool: bool
    is_list: bool

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return ENV_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """Its flag of `cleave serve`."""
        return "--" + self.name.replace("_", "-")


def describe(struct: type[msgspec.Struct]) -> dict[str, Field]:
    """Every field of a struct whose fields are annotated with setting(), in order; those that it inherits come last."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    fields = sorted(info.fields, key=lambda field: field.name not in struct.__annotations__)
    return {field.name: _describe(field) for field in fields}


def _describe(field: inspect.Field) -> Field:
    annotated = field.type
    assert isinstance(annotated, inspect.Metadata), f"{field.name} lacks setting(...)"
    extra = annotated.extra or {}
    schema = annotated.extra_json_schema or {}
    kind = annotated.type
    return Field(
        name=field.name,
        doc=schema["description"],
        values=extra["values"] or _values(kind),
        reloadable=extra["reloadable"],
        default=None if field.required else field.default,
        is_bool=isinstance(kind, inspect.BoolType),
        is_list=isinstance(kind, inspect.VarTupleType),
    )


def _values(kind: inspect.Type) -> str:
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=low, le=high):
            return f"a whole number from {low:,} to {high:,}"
        case inspect.FloatType(ge=low, le=high):
            return f"a number from {low:,} to {high:,}"
        case inspect.LiteralType(values=names):
            return " or ".join(str(name) for name in names)
        case _:
            return "a string"
