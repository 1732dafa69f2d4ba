"""CodeSigningService: code signing configurations over engine.registry.signing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.errors import InvalidArgument
from engine.model.names import FunctionRef
from engine.registry.api import Registry
from engine.registry.attached import Document
from engine.registry.signing import RESOURCE_NAME, SigningConfigs
from engine.rpc import pages
from engine.rpc.calls import Method
from engine.rpc.names import unowned, whole_function
from engine.v1 import code_signing_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["CodeSigningService"]

CHANGEABLE = ("signing_profile_version_arns", "untrusted_artifact", "description")
UNCHANGEABLE = frozenset(pb.CodeSigningConfig.DESCRIPTOR.fields_by_name) - set(CHANGEABLE)
POLICIES = {
    pb.UNTRUSTED_ARTIFACT_UNSPECIFIED: "Warn",
    pb.UNTRUSTED_ARTIFACT_WARN: "Warn",
    pb.UNTRUSTED_ARTIFACT_ENFORCE: "Enforce",
}


class CodeSigningService:
    """Makes, reads and changes configurations, and gives them to functions."""

    def __init__(self, registry: Registry, configs: SigningConfigs) -> None:
        self._registry = registry
        self._configs = configs

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "CreateCodeSigningConfig": self.create,
            "GetCodeSigningConfig": self.get,
            "ListCodeSigningConfigs": self.list,
            "UpdateCodeSigningConfig": self.update,
            "DeleteCodeSigningConfig": self.delete,
            "ListFunctionsByCodeSigningConfig": self.functions,
            "PutFunctionCodeSigningConfig": self.put_of_function,
            "GetFunctionCodeSigningConfig": self.get_of_function,
            "DeleteFunctionCodeSigningConfig": self.delete_of_function,
        }

    async def create(self, request: pb.CreateCodeSigningConfigRequest) -> pb.CreateCodeSigningConfigResponse:
        """Make one."""
        made = await self._configs.create(_settings(request.code_signing_config, CHANGEABLE), tags=dict(request.tags))
        return pb.CreateCodeSigningConfigResponse(code_signing_config=_proto(made))

    async def get(self, request: pb.GetCodeSigningConfigRequest) -> pb.GetCodeSigningConfigResponse:
        """Read one."""
        return pb.GetCodeSigningConfigResponse(code_signing_config=_proto(self._configs.get(self._arn(request.name))))

    async def list(self, request: pb.ListCodeSigningConfigsRequest) -> pb.ListCodeSigningConfigsResponse:
        """List a page of them."""
        arns, token = pages.page_of(self._configs.arns(), request.page_size, request.page_token)
        found = [_proto(self._configs.get(arn)) for arn in arns]
        return pb.ListCodeSigningConfigsResponse(code_signing_configs=found, next_page_token=token)

    async def update(self, request: pb.UpdateCodeSigningConfigRequest) -> pb.UpdateCodeSigningConfigResponse:
        """Change what the mask selects."""
        wanted = request.code_signing_config
        arn = self._arn(wanted.name)
        self._configs.get(arn)
        after = await self._configs.update(arn, _settings(wanted, _selected(request.update_mask.paths, wanted)))
        return pb.UpdateCodeSigningConfigResponse(code_signing_config=_proto(after))

    async def delete(self, request: pb.DeleteCodeSigningConfigRequest) -> pb.DeleteCodeSigningConfigResponse:
        """Remove one."""
        await self._configs.delete(self._arn(request.name))
        return pb.DeleteCodeSigningConfigResponse()

    async def functions(
        self, request: pb.ListFunctionsByCodeSigningConfigRequest
    ) -> pb.ListFunctionsByCodeSigningConfigResponse:
        """List a page of the functions that have one."""
        names = self._configs.functions(self._arn(request.name))
        here, token = pages.page_of(names, request.page_size, request.page_token)
        return pb.ListFunctionsByCodeSigningConfigResponse(
            functions=[f"functions/{name}" for name in here], next_page_token=token
        )

    async def put_of_function(
        self, request: pb.PutFunctionCodeSigningConfigRequest
    ) -> pb.PutFunctionCodeSigningConfigResponse:
        """Give a function one."""
        await self._configs.set(self._function(request.name), self._arn(request.code_signing_config))
        return pb.PutFunctionCodeSigningConfigResponse()

    async def get_of_function(
        self, request: pb.GetFunctionCodeSigningConfigRequest
    ) -> pb.GetFunctionCodeSigningConfigResponse:
        """Say which one a function has."""
        arn = self._configs.of_function(self._function(request.name))
        return pb.GetFunctionCodeSigningConfigResponse(code_signing_config=_name(arn) if arn else "")

    async def delete_of_function(
        self, request: pb.DeleteFunctionCodeSigningConfigRequest
    ) -> pb.DeleteFunctionCodeSigningConfigResponse:
        """Take it from a function."""
        await self._configs.unset(self._function(request.name))
        return pb.DeleteFunctionCodeSigningConfigResponse()

    def _function(self, resource_name: str) -> str:
        """The name of a function that is there. Raises NotFound, InvalidArgument."""
        return self._registry.get(FunctionRef(whole_function(resource_name))).name

    def _arn(self, resource_name: str) -> str:
        return self._configs.arn(unowned(resource_name, RESOURCE_NAME, "codeSigningConfigs/{id}"))


def _name(arn: str) -> str:
    return f"codeSigningConfigs/{arn.rpartition(':')[2]}"


def _proto(config: Document) -> pb.CodeSigningConfig:
    policy = config["CodeSigningPolicies"]["UntrustedArtifactOnDeployment"]
    return pb.CodeSigningConfig(
        name=_name(config["CodeSigningConfigArn"]),
        signing_profile_version_arns=config["AllowedPublishers"]["SigningProfileVersionArns"],
        untrusted_artifact=pb.UntrustedArtifact.Value(f"UNTRUSTED_ARTIFACT_{policy.upper()}"),
        description=config.get("Description", ""),
        arn=config["CodeSigningConfigArn"],
        last_modified=config["LastModified"],
    )


def _settings(config: pb.CodeSigningConfig, chosen: Iterable[str]) -> dict[str, Any]:
    """The settings by AWS's names. Raises InvalidArgument."""
    found: dict[str, Any] = {}
    if "signing_profile_version_arns" in chosen:
        found["AllowedPublishers"] = {"SigningProfileVersionArns": list(config.signing_profile_version_arns)}
    if "untrusted_artifact" in chosen:
        if config.untrusted_artifact not in POLICIES:
            raise InvalidArgument(
                f"untrusted_artifact {config.untrusted_artifact} is none that this engine knows",
                fix="use one of the enum",
                fields={"untrusted_artifact": "unknown"},
            )
        found["CodeSigningPolicies"] = {"UntrustedArtifactOnDeployment": POLICIES[config.untrusted_artifact]}
    if "description" in chosen:
        found["Description"] = config.description
    return found


def _selected(paths: Iterable[str], config: pb.CodeSigningConfig) -> Iterable[str]:
    """What the paths of a mask choose. Raises InvalidArgument that names each path that is none."""
    paths = list(paths)
    if not paths:
        return [field.name for field, _ in config.ListFields()]
    if paths == ["*"]:
        return CHANGEABLE
    unknown = ", ".join(repr(path) for path in paths if path not in CHANGEABLE and path not in UNCHANGEABLE)
    if unknown:
        raise InvalidArgument(
            f"update_mask names what a configuration does not have: {unknown}",
            fix=f'use {", ".join(CHANGEABLE)}, or "*" alone',
            fields={"update_mask": f"unknown: {unknown}"},
        )
    return paths
