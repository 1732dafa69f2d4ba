"""Small settings of a function that are stored and returned: what becomes of recursive loops, and when its runtime is
renewed. Nothing here acts on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import InvalidArgument
from engine.model.function import LATEST
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

RECURSION = "recursion"
RUNTIME = "runtime-management"


class FunctionSettings:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._attached = rooms.attached
        self._documents = rooms.documents
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "GetFunctionRecursionConfig": self.get_recursion,
            "GetRuntimeManagementConfig": self.get_runtime,
            "PutFunctionRecursionConfig": self.put_recursion,
            "PutRuntimeManagementConfig": self.put_runtime,
        }

    async def get_recursion(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionRecursionConfig."""
        found = self._attached.get(RECURSION, self._named.check(params).name)
        return dict(found or {"RecursiveLoop": "Terminate"})

    async def put_recursion(self, params: Params, request: Request) -> dict[str, Any]:
        """PutFunctionRecursionConfig."""
        name = self._named.check(params).name
        setting = {"RecursiveLoop": params["RecursiveLoop"]}
        await self._attached.put(RECURSION, name, "", setting)
        return setting

    async def get_runtime(self, params: Params, request: Request) -> dict[str, Any]:
        """GetRuntimeManagementConfig."""
        ref = self._named.check(params)
        found = self._attached.get(RUNTIME, ref.name, ref.qualifier) or {"UpdateRuntimeOn": "Auto"}
        return {**found, "FunctionArn": self._documents.arn(ref.name, self._named.qualifier(params) or LATEST)}

    async def put_runtime(self, params: Params, request: Request) -> dict[str, Any]:
        """PutRuntimeManagementConfig."""
        ref = self._named.check(params)
        mode, arn = params["UpdateRuntimeOn"], params.get("RuntimeVersionArn")
        if mode == "Manual" and not arn:
            raise InvalidArgument("You must specify a RuntimeVersionArn when UpdateRuntimeOn is set to Manual.")
        if mode != "Manual" and arn:
            raise InvalidArgument("RuntimeVersionArn can only be specified when UpdateRuntimeOn is set to Manual.")
        if arn and arn != self._documents.runtime_version_arn(self._named.function(ref).config.runtime):
            raise InvalidArgument(
                f"The runtime version {arn} is not there: a function runs on the engine's own interpreter",
                fix="use Auto, or the RuntimeVersionArn of GetFunctionConfiguration",
            )
        setting = {"UpdateRuntimeOn": mode, **({"RuntimeVersionArn": arn} if arn else {})}
        await self._attached.put(RUNTIME, ref.name, ref.qualifier, setting)
        return {**setting, "FunctionArn": self._documents.arn(ref.name, self._named.qualifier(params) or LATEST)}
