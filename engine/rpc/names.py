"""The parts of the resource names that a request may give: a function as a whole, a version, an alias;
and the ids of resources that have no owner."""

from __future__ import annotations

import re

from engine.errors import InvalidArgument
from engine.model.function import LATEST
from engine.model.names import FunctionRef, parse_resource_name


def whole_function(resource_name: str, field: str = "name") -> str:
    """The name of a function that is meant as a whole. Raises InvalidArgument for a version or an alias of one."""
    ref = parse_resource_name(resource_name)
    if ref.qualifier != LATEST:
        raise InvalidArgument(
            f"{resource_name} is a part of a function",
            fix=f"use functions/{ref.name}",
            fields={field: "must be functions/{function}"},
        )
    return ref.name


def version_of(resource_name: str) -> FunctionRef:
    """A version, $LATEST included. Raises InvalidArgument for an alias and for a function as a whole."""
    ref = parse_resource_name(resource_name)
    if "/versions/" not in resource_name:
        raise InvalidArgument(
            f"{resource_name} is not a version",
            fix=f"use functions/{ref.name}/versions/{{version}}",
            fields={"name": "must be functions/{function}/versions/{version}"},
        )
    return ref


def alias_of(resource_name: str) -> FunctionRef:
    """An alias. Raises InvalidArgument for a version and for a function as a whole."""
    ref = parse_resource_name(resource_name)
    if "/aliases/" not in resource_name:
        raise InvalidArgument(
            f"{resource_name} is not an alias",
            fix=f"use functions/{ref.name}/aliases/{{alias}}",
            fields={"name": "must be functions/{function}/aliases/{alias}"},
        )
    return ref


def unowned(resource_name: str, pattern: re.Pattern[str], form: str) -> str:
    """The id of a resource that is no function's; `form` shows how its name looks. Raises InvalidArgument."""
    match = pattern.fullmatch(resource_name)
    if match is None:
        raise InvalidArgument(
            f"{resource_name!a} is no such name", fix=f"use {form}", fields={"name": f"must be {form}"}
        )
    return match[1]
