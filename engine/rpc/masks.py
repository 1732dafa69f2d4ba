"""Which fields an UpdateFunction changes, by the rules of https://google.aip.dev/134 and 161.

No mask means every field that is set; "*" means all of them, with what is not set back at its default. Output-only
fields, the name and the etag may be named and change nothing (https://google.aip.dev/203). Every other path is refused
by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.errors import InvalidArgument
from engine.v1 import resources_pb2

CONFIG_FIELDS = frozenset(field.name for field in resources_pb2.FunctionConfig.DESCRIPTOR.fields)
CONFIG_PATHS = {f"config.{name}": name for name in CONFIG_FIELDS}
CODE = "code_blob"
UNCHANGEABLE = frozenset(field.name for field in resources_pb2.Function.DESCRIPTOR.fields) - {"config", CODE}
EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Selection:
    """The fields to change: names in FunctionConfig, and whether the code is one."""

    config: frozenset[str]
    code: bool


def populated(config: resources_pb2.FunctionConfig) -> frozenset[str]:
    """The names of the fields that are not zero."""
    return frozenset(field.name for field, _ in config.ListFields())


def select(paths: Iterable[str], function: resources_pb2.Function) -> Selection:
    """What the paths of a mask choose. Raises InvalidArgument that names each path that is none."""
    paths = list(paths)
    if not paths:
        return Selection(populated(function.config), bool(function.code_blob))
    if paths == [EVERYTHING]:
        return Selection(CONFIG_FIELDS, True)
    config: set[str] = set()
    code = False
    unknown = []
    for path in paths:
        if path == "config":
            config |= CONFIG_FIELDS
        elif path in CONFIG_PATHS:
            config.add(CONFIG_PATHS[path])
        elif path == CODE:
            code = True
        elif path not in UNCHANGEABLE:
            unknown.append(path)
    if unknown:
        named = ", ".join(repr(path) for path in unknown)
        raise InvalidArgument(
            f"update_mask names what a function does not have: {named}",
            fix='use paths such as "config.memory_mb", "config" or "code_blob", or "*" alone',
            fields={"update_mask": f"unknown: {named}"},
        )
    return Selection(frozenset(config), code)
