"""PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy: a function's policy as a whole document.

It is the policy that AddPermission adds statements to. Nothing here decides about a call.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import orjson

from engine.errors import InvalidArgument, StaleEtag
from engine.registry.attached import Document
from engine.registry.policies import KIND, document, none
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms


class ResourcePolicies:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._attached = rooms.attached
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
        owner, key = self._resource(params["ResourceArn"])
        statements = _statements(params["Policy"])

        def change(before: Document | None) -> Document:
            _check_revision(params, before)
            return {"Statement": statements, "RevisionId": str(uuid.uuid4())}

        after = await self._attached.change(KIND, owner, key, change)
        return _written(after or {})

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetResourcePolicy."""
        found = self._attached.get(KIND, *self._resource(params["ResourceArn"]))
        if found is None:
            raise none()
        return _written(found)

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteResourcePolicy."""
        owner, key = self._resource(params["ResourceArn"])

        def change(before: Document | None) -> None:
            if before is None:
                raise none()
            _check_revision(params, before)

        await self._attached.change(KIND, owner, key, change)
        return {}

    def _resource(self, arn: str) -> tuple[str, str]:
        """Whose policy it is, by name and qualifier. Raises NotFound."""
        if ":function:" not in arn:
            raise none()
        named = {"FunctionName": arn}
        ref = self._named.check(named)
        return ref.name, self._named.qualifier(named)


def _statements(text: str) -> list[Any]:
    """The statements of a policy. Raises InvalidArgument for what is none."""
    try:
        policy = orjson.loads(text)
    except orjson.JSONDecodeError:
        policy = None
    statements = policy.get("Statement") if isinstance(policy, dict) else None
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise InvalidArgument("The policy is not valid: it must be a JSON document with a Statement.")
    sids: set[str] = set()
    for number, one in enumerate(statements):
        if not isinstance(one, dict) or one.get("Effect") not in ("Allow", "Deny"):
            raise InvalidArgument("The policy is not valid: each Statement must have an Effect, Allow or Deny.")
        missing = [name for name in ("Principal", "Action") if not one.get(name)]
        if missing:
            raise InvalidArgument(f"The policy is not valid: each Statement must have {' and '.join(missing)}.")
        sid = one.setdefault("Sid", f"statement{number}")
        if not isinstance(sid, str) or sid in sids:
            raise InvalidArgument("The policy is not valid: the Sid of each Statement must be text that no other has.")
        sids.add(sid)
    return statements


def _written(policy: Document) -> dict[str, Any]:
    return {"Policy": document(policy), "RevisionId": policy["RevisionId"]}


def _check_revision(params: Params, before: Document | None) -> None:
    given = params.get("RevisionId")
    if given and (before is None or given != before["RevisionId"]):
        raise StaleEtag(
            "The Revision Id provided does not match the latest Revision Id. Call the GetResourcePolicy API to "
            "retrieve the latest Revision Id"
        )
