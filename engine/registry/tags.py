"""Tags: names and values that users give to functions, and to resources that have no owner.

Finding the resource is the caller's work. Guarantees that a resource never has more than LIMIT tags, or one of AWS's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.errors import InvalidArgument
from engine.registry.attached import Attached, Document

KIND = "tags"
LIMIT = 50
"""Of one resource: docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html."""
NAME_LIMIT_CHARS, VALUE_LIMIT_CHARS = 128, 256


class Tags:
    """The tags of every resource. `key` tells resources without an owner apart."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached

    def of(self, owner: str, key: str = "") -> Mapping[str, str]:
        """Those of a resource; none if it has none, or is not there."""
        return dict(self._attached.get(KIND, owner, key) or {})

    async def add(self, tags: Mapping[str, str], owner: str, key: str = "") -> Mapping[str, str]:
        """Give a resource these, in place of those with the same names, and return all that it has. Raises
        InvalidArgument, NotFound."""
        after = await self._attached.change(
            KIND, owner, key, lambda before: checked({**(before or {}), **tags}) or None
        )
        return dict(after or {})

    async def remove(self, names: Collection[str], owner: str, key: str = "") -> Mapping[str, str]:
        """Take these from a resource, and return what it has left. One that is not there is no error. Raises
        NotFound."""

        def without(before: Document | None) -> Document | None:
            return {name: value for name, value in (before or {}).items() if name not in names} or None

        return dict(await self._attached.change(KIND, owner, key, without) or {})

    async def forget(self, owner: str, key: str = "") -> None:
        """The resource is gone."""
        await self._attached.delete(KIND, owner, key)


def checked(tags: Document) -> Document:
    """The tags. Raises InvalidArgument for more than a resource may have, and for what is none."""
    if len(tags) > LIMIT:
        raise InvalidArgument("Number of tags exceeds resource tag limit.", fields={"tags": f"more than {LIMIT}"})
    for name, value in tags.items():
        if name.lower().startswith("aws:"):
            raise InvalidArgument(
                "aws: prefixed tag key names are not allowed for external use.", fields={"tags": f"{name!a} is AWS's"}
            )
        if not 0 < len(name) <= NAME_LIMIT_CHARS or len(value) > VALUE_LIMIT_CHARS:
            raise InvalidArgument(
                f"{name[:NAME_LIMIT_CHARS]!a} is too long for a tag, or empty",
                fix=f"use names of 1 to {NAME_LIMIT_CHARS} characters, and values of at most {VALUE_LIMIT_CHARS}",
                fields={"tags": "a name or a value is too long, or a name is empty"},
            )
    return tags
