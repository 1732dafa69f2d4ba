"""FunctionSettingsService: recursion, runtime management and scaling over engine.registry.function_settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from engine.errors import InvalidArgument
from engine.model.function import LATEST
from engine.model.names import FunctionRef, parse_resource_name
from engine.registry.api import Registry
from engine.registry.attached import Document
from engine.registry.function_settings import FunctionSettings, runtime_version_arn
from engine.rpc.calls import Method
from engine.rpc.names import version_of, whole_function
from engine.v1 import function_settings_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["FunctionSettingsService"]
E = TypeVar("E", bound=int)

LOOPS = {
    pb.RECURSIVE_LOOP_UNSPECIFIED: "Terminate",
    pb.RECURSIVE_LOOP_TERMINATE: "Terminate",
    pb.RECURSIVE_LOOP_ALLOW: "Allow",
}
MODES = {
    pb.UPDATE_RUNTIME_ON_UNSPECIFIED: "Auto",
    pb.UPDATE_RUNTIME_ON_AUTO: "Auto",
    pb.UPDATE_RUNTIME_ON_FUNCTION_UPDATE: "FunctionUpdate",
    pb.UPDATE_RUNTIME_ON_MANUAL: "Manual",
}
_MEMBERS = {
    "MinExecutionEnvironments": "min_execution_environments",
    "MaxExecutionEnvironments": "max_execution_environments",
}


class FunctionSettingsService:
    """Sets and reads them."""

    def __init__(self, registry: Registry, settings: FunctionSettings, *, region: str) -> None:
        self._registry = registry
        self._settings = settings
        self._region = region

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "PutFunctionRecursionConfig": self.put_recursion,
            "GetFunctionRecursionConfig": self.get_recursion,
            "PutRuntimeManagementConfig": self.put_runtime,
            "GetRuntimeManagementConfig": self.get_runtime,
            "PutFunctionScalingConfig": self.put_scaling,
            "GetFunctionScalingConfig": self.get_scaling,
        }

    async def put_recursion(
        self, request: pb.PutFunctionRecursionConfigRequest
    ) -> pb.PutFunctionRecursionConfigResponse:
        """Say what becomes of loops."""
        loop = _value(LOOPS, request.recursive_loop, "recursive_loop")
        loop = await self._settings.set_recursion(self._function(request.name), loop)
        return pb.PutFunctionRecursionConfigResponse(recursive_loop=_number(LOOPS, loop))

    async def get_recursion(
        self, request: pb.GetFunctionRecursionConfigRequest
    ) -> pb.GetFunctionRecursionConfigResponse:
        """Read it."""
        loop = self._settings.recursion(self._function(request.name))
        return pb.GetFunctionRecursionConfigResponse(recursive_loop=_number(LOOPS, loop))

    async def put_runtime(self, request: pb.PutRuntimeManagementConfigRequest) -> pb.PutRuntimeManagementConfigResponse:
        """Say when a runtime is renewed."""
        ref = parse_resource_name(request.name)
        own = runtime_version_arn(self._region, self._registry.get(ref).config.runtime)
        mode = _value(MODES, request.config.update_runtime_on, "config.update_runtime_on")
        found = await self._settings.set_runtime(
            ref.name, ref.qualifier, mode, request.config.runtime_version_arn, own=own
        )
        return pb.PutRuntimeManagementConfigResponse(config=_runtime(found))

    async def get_runtime(self, request: pb.GetRuntimeManagementConfigRequest) -> pb.GetRuntimeManagementConfigResponse:
        """Read it."""
        ref = parse_resource_name(request.name)
        self._registry.get(ref)
        return pb.GetRuntimeManagementConfigResponse(config=_runtime(self._settings.runtime(ref.name, ref.qualifier)))

    async def put_scaling(self, request: pb.PutFunctionScalingConfigRequest) -> pb.PutFunctionScalingConfigResponse:
        """Say how many environments a version is to have."""
        ref = self._version(request.name)
        wanted = {
            name: getattr(request.requested, field)
            for name, field in _MEMBERS.items()
            if request.requested.HasField(field)  # type: ignore[arg-type]
        }
        await self._settings.set_scaling(ref.name, ref.qualifier, wanted if request.HasField("requested") else None)
        return pb.PutFunctionScalingConfigResponse()

    async def get_scaling(self, request: pb.GetFunctionScalingConfigRequest) -> pb.GetFunctionScalingConfigResponse:
        """Read it."""
        ref = self._version(request.name)
        wanted = self._settings.scaling(ref.name, ref.qualifier)
        if wanted is None:
            return pb.GetFunctionScalingConfigResponse()
        given = {field: wanted[name] for name, field in _MEMBERS.items() if name in wanted}
        return pb.GetFunctionScalingConfigResponse(requested=pb.FunctionScalingConfig(**given))

    def _function(self, resource_name: str) -> str:
        """The name of a function that is there. Raises NotFound, InvalidArgument."""
        return self._registry.get(FunctionRef(whole_function(resource_name))).name

    def _version(self, resource_name: str) -> FunctionRef:
        """A published version that is there. Raises NotFound, InvalidArgument."""
        ref = version_of(resource_name)
        if ref.qualifier == LATEST:
            raise InvalidArgument(
                "$LATEST has no scaling of its own", fix="name a version", fields={"name": "must be a version"}
            )
        self._registry.get(ref)
        return ref


def _runtime(setting: Document) -> pb.RuntimeManagementConfig:
    return pb.RuntimeManagementConfig(
        update_runtime_on=_number(MODES, setting["UpdateRuntimeOn"]),
        runtime_version_arn=setting.get("RuntimeVersionArn", ""),
    )


def _value(values: Mapping[E, str], number: E, field: str) -> str:
    if number not in values:
        raise InvalidArgument(
            f"{field} {number} is none that this engine knows", fix="use one of the enum", fields={field: "unknown"}
        )
    return values[number]


def _number(values: Mapping[E, str], value: str) -> E:
    """The last of the enum with this value: the first is for what was not said."""
    return next(number for number in reversed(list(values)) if values[number] == value)
