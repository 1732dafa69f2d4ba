"""PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy: a function's policy as a whole document.

It is the policy that AddPermission adds statements to, and engine.registry.policies' to check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.registry.attached import Document
from engine.registry.policies import Policies, document, none
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms


class ResourcePolicies:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._policies = Policies(rooms.attached)
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "DeleteResourcePolicy": self.delete,
            "GetResourcePolicy": self.get,
            "PutResourcePolicy": self.put,
        }

    async def put(self, params: Params, request: Request) -> dict[str, Any]:
        """PutResourcePolicy: nothing of what was there is kept."""
        whose = self._resource(params["ResourceArn"])
        return _written(await self._policies.replace(*whose, params["Policy"], revision=params.get("RevisionId") or ""))

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetResourcePolicy."""
        return _written(self._policies.get(*self._resource(params["ResourceArn"])))

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteResourcePolicy."""
        whose = self._resource(params["ResourceArn"])
        await self._policies.delete(*whose, revision=params.get("RevisionId") or "")
        return {}

    def _resource(self, arn: str) -> tuple[str, str]:
        """Whose policy it is, by name and qualifier. Raises NotFound."""
        if ":function:" not in arn:
            raise none()
        named = {"FunctionName": arn}
        ref = self._named.check(named)
        return ref.name, self._named.qualifier(named)


def _written(policy: Document) -> dict[str, Any]:
    return {"Policy": document(policy), "RevisionId": policy["RevisionId"]}
