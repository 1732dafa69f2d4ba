"""TagResource, UntagResource, ListTags.

Tags belong to functions, code signing configurations and event source mappings; each is there or a ResourceNotFound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import InvalidArgument, NotFound
from engine.registry.attached import Attached, Document
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

KIND = "tags"
LIMIT = 50
"""Of one resource: docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html."""
UNOWNED = {"code-signing-config": "Code signing configuration", "event-source-mapping": "Event source mapping"}
"""The kinds of tagged resources that are no functions, and what AWS calls them."""


class Tags:
    """The operations on tags."""

    def __init__(self, rooms: Rooms) -> None:
        self._attached = rooms.attached
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {"ListTags": self.list, "TagResource": self.tag, "UntagResource": self.untag}

    async def tag(self, params: Params, request: Request) -> dict[str, Any]:
        """TagResource."""
        owner, key = self._resource(params["Resource"])
        if not params["Tags"]:
            raise InvalidArgument("An error occurred and the request cannot be processed.")
        await self._attached.change(KIND, owner, key, lambda before: checked({**(before or {}), **params["Tags"]}))
        return {}

    async def untag(self, params: Params, request: Request) -> dict[str, Any]:
        """UntagResource. A key that is not there is no error."""
        owner, key = self._resource(params["Resource"])
        gone = set(params["TagKeys"])

        def without(before: Document | None) -> Document | None:
            return {name: value for name, value in (before or {}).items() if name not in gone} or None

        await self._attached.change(KIND, owner, key, without)
        return {}

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListTags."""
        return {"Tags": dict(self._attached.get(KIND, *self._resource(params["Resource"])) or {})}

    def _resource(self, arn: str) -> tuple[str, str]:
        """Whose tags they are, as owner and key. Raises NotFound, InvalidArgument for a version or an alias."""
        kind, _, name = arn.split(":", 5)[5].partition(":")
        if kind == "function":
            if ":" in name:
                raise InvalidArgument(
                    "Tags on function aliases and versions are not supported. Please specify a function ARN."
                )
            return self._named.check({"FunctionName": arn}).name, ""
        key = arn if kind == "code-signing-config" else name
        if self._attached.get(kind, "", key) is None:
            raise NotFound(f"{UNOWNED.get(kind, kind.replace('-', ' ').capitalize())} not found: {arn}")
        return "", f"{kind}:{name}"


def checked(tags: Document) -> Document:
    """The tags. Raises InvalidArgument for more than a resource may have, or one of AWS's own."""
    if len(tags) > LIMIT:
        raise InvalidArgument("Number of tags exceeds resource tag limit.")
    if any(name.lower().startswith("aws:") for name in tags):
        raise InvalidArgument("aws: prefixed tag key names are not allowed for external use.")
    return tags


async def set_tags(attached: Attached, tags: Mapping[str, str] | None, owner: str, key: str = "") -> None:
    """The tags of a resource that was just created."""
    if tags:
        await attached.put(KIND, owner, key, dict(tags))
