"""AddPermission, RemovePermission, GetPolicy, as AWS's clients call them.

What a policy is, is engine.registry.policies'. Guarantees AWS's own words for what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from engine.errors import InvalidArgument, NotFound
from engine.model.function import LATEST, Function
from engine.model.names import FunctionRef
from engine.registry.policies import Policies, document, statement_of
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms


class Permissions:
    """The operations on a function's policy."""

    def __init__(self, rooms: Rooms) -> None:
        self._policies = Policies(rooms.attached)
        self._documents = rooms.documents
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {"AddPermission": self.add, "GetPolicy": self.get, "RemovePermission": self.remove}

    async def add(self, params: Params, request: Request) -> dict[str, Any]:
        """AddPermission."""
        ref, qualifier = self._target(params)
        if qualifier == LATEST:
            raise InvalidArgument("We currently do not support adding policies for $LATEST.")
        function = self._there(ref, qualifier)
        arn = self._documents.arn(ref.name, qualifier)
        statement = statement_of(params["StatementId"], params["Action"], params["Principal"], arn, params)
        revision = params.get("RevisionId") or ""
        await self._policies.add(ref.name, qualifier, statement, revision=revision, others={function.etag})
        return {"Statement": orjson.dumps(statement).decode()}

    async def remove(self, params: Params, request: Request) -> dict[str, Any]:
        """RemovePermission."""
        ref, qualifier = self._target(params)
        if self._named.find(ref.name) is None:
            raise NotFound(f"No policy found for: {self._documents.arn(ref.name, qualifier)}")
        function = self._there(ref, qualifier)
        revision = params.get("RevisionId") or ""
        await self._policies.remove(
            ref.name, qualifier, params["StatementId"], revision=revision, others={function.etag}
        )
        return {}

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetPolicy."""
        ref, qualifier = self._target(params)
        found = self._policies.get(ref.name, qualifier)
        return {"Policy": document(found), "RevisionId": found["RevisionId"]}

    def _target(self, params: Params) -> tuple[FunctionRef, str]:
        return self._named.ref(params), self._named.qualifier(params)

    def _there(self, ref: FunctionRef, qualifier: str) -> Function:
        """What the policy is for. Raises NotFound."""
        self._named.function(FunctionRef(ref.name))
        try:
            return self._named.function(ref)
        except NotFound:
            if qualifier.isdigit() or "$" in qualifier:
                raise
            raise NotFound(f"Cannot find alias arn: {self._documents.arn(ref.name, qualifier)}") from None
