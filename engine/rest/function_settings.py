"""The operations on a function's recursion, runtime management and scaling settings.

What they may be is engine.registry.function_settings'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.model.function import LATEST
from engine.registry import function_settings as settings
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms


class FunctionSettings:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._settings = settings.FunctionSettings(rooms.attached)
        self._documents = rooms.documents
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "GetFunctionRecursionConfig": self.get_recursion,
            "GetFunctionScalingConfig": self.get_scaling,
            "GetRuntimeManagementConfig": self.get_runtime,
            "PutFunctionRecursionConfig": self.put_recursion,
            "PutFunctionScalingConfig": self.put_scaling,
            "PutRuntimeManagementConfig": self.put_runtime,
        }

    async def get_recursion(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionRecursionConfig."""
        return {"RecursiveLoop": self._settings.recursion(self._named.check(params).name)}

    async def put_recursion(self, params: Params, request: Request) -> dict[str, Any]:
        """PutFunctionRecursionConfig."""
        name = self._named.check(params).name
        return {"RecursiveLoop": await self._settings.set_recursion(name, params["RecursiveLoop"])}

    async def get_runtime(self, params: Params, request: Request) -> dict[str, Any]:
        """GetRuntimeManagementConfig."""
        ref = self._named.check(params)
        return {**self._settings.runtime(ref.name, ref.qualifier), "FunctionArn": self._arn(params)}

    async def put_runtime(self, params: Params, request: Request) -> dict[str, Any]:
        """PutRuntimeManagementConfig."""
        ref = self._named.check(params)
        own = self._documents.runtime_version_arn(self._named.function(ref).config.runtime)
        mode, arn = params["UpdateRuntimeOn"], params.get("RuntimeVersionArn") or ""
        setting = await self._settings.set_runtime(ref.name, ref.qualifier, mode, arn, own=own)
        return {**setting, "FunctionArn": self._arn(params)}

    async def get_scaling(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionScalingConfig. What is asked for is applied by capacity providers, which are not served."""
        ref = self._named.check(params)
        wanted = self._settings.scaling(ref.name, ref.qualifier)
        requested = {} if wanted is None else {"RequestedFunctionScalingConfig": dict(wanted)}
        return {"FunctionArn": self._arn(params), **requested}

    async def put_scaling(self, params: Params, request: Request) -> dict[str, Any]:
        """PutFunctionScalingConfig."""
        ref = self._named.check(params)
        function = self._named.function(ref)
        await self._settings.set_scaling(ref.name, ref.qualifier, params.get("FunctionScalingConfig"))
        return {"FunctionState": function.state.value.capitalize()}

    def _arn(self, params: Params) -> str:
        ref = self._named.ref(params)
        return self._documents.arn(ref.name, self._named.qualifier(params) or LATEST)
