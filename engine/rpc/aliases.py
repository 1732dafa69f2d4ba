"""AliasService: aliases over the registry, with the manners of https://google.aip.dev."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.errors import InvalidArgument
from engine.model.alias import Alias
from engine.model.names import FunctionRef, function_arn
from engine.registry.api import AliasChange, Registry
from engine.rpc import pages
from engine.rpc.calls import Method
from engine.rpc.convert import timestamp
from engine.rpc.names import alias_of, whole_function
from engine.v1 import aliases_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["AliasService"]

CHANGEABLE = ("version", "weights", "description")
UNCHANGEABLE = frozenset(field.name for field in pb.Alias.DESCRIPTOR.fields) - set(CHANGEABLE)
EVERYTHING = "*"


class AliasService:
    """Creates, reads and changes aliases."""

    def __init__(self, registry: Registry, *, region: str, account: str) -> None:
        self._registry = registry
        self._region = region
        self._account = account

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "CreateAlias": self.create,
            "GetAlias": self.get,
            "ListAliases": self.list,
            "UpdateAlias": self.update,
            "DeleteAlias": self.delete,
        }

    async def create(self, request: pb.CreateAliasRequest) -> pb.CreateAliasResponse:
        """Create an alias."""
        name = whole_function(request.parent, "parent")
        alias = await self._registry.aliases.create(name, request.alias_id, _change(request.alias, CHANGEABLE))
        return pb.CreateAliasResponse(alias=self._proto(alias))

    async def get(self, request: pb.GetAliasRequest) -> pb.GetAliasResponse:
        """Read one alias."""
        ref = alias_of(request.name)
        return pb.GetAliasResponse(alias=self._proto(self._registry.aliases.get(ref.name, ref.qualifier)))

    async def list(self, request: pb.ListAliasesRequest) -> pb.ListAliasesResponse:
        """List a page of aliases."""
        aliases, after = self._registry.aliases.list(
            whole_function(request.parent, "parent"),
            limit=pages.page_limit(request.page_size),
            after=pages.page_start(request.page_token),
            version=request.version,
        )
        return pb.ListAliasesResponse(
            aliases=[self._proto(alias) for alias in aliases], next_page_token=pages.page_token(after)
        )

    async def update(self, request: pb.UpdateAliasRequest) -> pb.UpdateAliasResponse:
        """Change what the mask selects."""
        ref = alias_of(request.alias.name)
        change = _change(request.alias, _selected(request.update_mask.paths, request.alias))
        alias = await self._registry.aliases.update(ref.name, ref.qualifier, change, etag=request.alias.etag or None)
        return pb.UpdateAliasResponse(alias=self._proto(alias))

    async def delete(self, request: pb.DeleteAliasRequest) -> pb.DeleteAliasResponse:
        """Delete an alias."""
        ref = alias_of(request.name)
        await self._registry.aliases.delete(ref.name, ref.qualifier, etag=request.etag or None)
        return pb.DeleteAliasResponse()

    def _proto(self, alias: Alias) -> pb.Alias:
        ref = FunctionRef(alias.function_name, alias.name)
        return pb.Alias(
            name=ref.resource_name(),
            etag=alias.etag,
            version=alias.version,
            weights=dict(alias.weights),
            description=alias.description,
            create_time=timestamp(alias.create_time),
            update_time=timestamp(alias.update_time),
            arn=function_arn(self._region, self._account, ref),
        )


def _change(alias: pb.Alias, chosen: Iterable[str]) -> AliasChange:
    chosen = set(chosen)
    return AliasChange(
        version=alias.version if "version" in chosen else None,
        weights=dict(alias.weights) if "weights" in chosen else None,
        description=alias.description if "description" in chosen else None,
    )


def _selected(paths: Iterable[str], alias: pb.Alias) -> Iterable[str]:
    """What the paths of a mask choose. Raises InvalidArgument that names each path that is none."""
    paths = list(paths)
    if not paths:
        return [field.name for field, _ in alias.ListFields()]
    if paths == [EVERYTHING]:
        return CHANGEABLE
    unknown = ", ".join(repr(path) for path in paths if path not in CHANGEABLE and path not in UNCHANGEABLE)
    if unknown:
        raise InvalidArgument(
            f"update_mask names what an alias does not have: {unknown}",
            fix=f'use {", ".join(CHANGEABLE)}, or "*" alone',
            fields={"update_mask": f"unknown: {unknown}"},
        )
    return paths
