"""Aliases as AWS's clients make, read, change, list and delete them, over the registry, in AWS's own texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import AlreadyExists, InUse, InvalidArgument, NotFound, StaleEtag
from engine.model.alias import Alias
from engine.model.function import LATEST
from engine.model.names import FunctionRef
from engine.registry.api import AliasChange
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms
from engine.rest.versions import stale

PAGE_MAX = 50


class Aliases:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._registry = rooms.registry
        self._documents = rooms.documents
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "CreateAlias": self.create,
            "DeleteAlias": self.delete,
            "GetAlias": self.get,
            "ListAliases": self.list,
            "UpdateAlias": self.update,
        }

    async def create(self, params: Params, request: Request) -> dict[str, Any]:
        """CreateAlias."""
        function, name = self._function(params), params["Name"]
        try:
            alias = await self._registry.aliases.create(function, name, _change(params))
        except AlreadyExists:
            raise AlreadyExists(f"Alias already exists: {self._documents.arn(function, name)}") from None
        except NotFound:
            raise self._missing_version(function, params) from None
        except InvalidArgument as error:
            raise plainly(error) from None
        return self._document(alias)

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetAlias."""
        function, name = self._function(params), params["Name"]
        try:
            return self._document(self._registry.aliases.get(function, name))
        except NotFound:
            raise self._missing(function, name) from None

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListAliases. The marker is the name of the last alias of the page before."""
        found, more = self._registry.aliases.list(
            self._function(params),
            limit=min(params.get("MaxItems") or PAGE_MAX, PAGE_MAX),
            after=params.get("Marker") or "",
            version=params.get("FunctionVersion") or "",
        )
        listed = {"Aliases": [self._document(alias) for alias in found]}
        return {**listed, "NextMarker": more} if more else listed

    async def update(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateAlias: only what is given changes."""
        function, name = self._function(params), params["Name"]
        aliases = self._registry.aliases
        try:
            aliases.get(function, name)
        except NotFound:
            raise NotFound(f"Alias not found: {self._documents.arn(function, name)}") from None
        try:
            alias = await aliases.update(function, name, _change(params), etag=params.get("RevisionId") or None)
        except NotFound:
            raise self._missing_version(function, params) from None
        except StaleEtag:
            raise stale() from None
        except InvalidArgument as error:
            raise plainly(error) from None
        except InUse as error:
            raise InUse(error.message) from None
        return self._document(alias)

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteAlias. One that is not there is no error, as on AWS."""
        try:
            await self._registry.aliases.delete(self._function(params), params["Name"])
        except NotFound as error:
            if self._named.find(self._named.ref(params).name) is None:
                raise error from None
        return {}

    def _function(self, params: Params) -> str:
        """The function. Raises NotFound in AWS's words."""
        name = self._named.unqualified(params)
        self._named.function(FunctionRef(name))
        return name

    def _document(self, alias: Alias) -> dict[str, Any]:
        document: dict[str, Any] = {
            "AliasArn": self._documents.arn(alias.function_name, alias.name),
            "Name": alias.name,
            "FunctionVersion": alias.version,
            "Description": alias.description,
            "RevisionId": alias.etag,
        }
        if alias.weights:
            document["RoutingConfig"] = {"AdditionalVersionWeights": dict(alias.weights)}
        return document

    def _missing(self, function: str, name: str) -> NotFound:
        return NotFound(f"Cannot find alias arn: {self._documents.arn(function, name)}")

    def _missing_version(self, function: str, params: Params) -> NotFound:
        """For an alias of a version that is not there, or of a function that went meanwhile."""
        there = self._named.find(function) is not None
        for version in (params.get("FunctionVersion", ""), *(_weights(params) or {})):
            ref = FunctionRef(function, version)
            try:
                self._registry.get(ref)
            except NotFound:
                if version and version != LATEST and there:
                    return self._named.missing(ref)
        return self._named.missing(FunctionRef(function))


def plainly(error: InvalidArgument) -> InvalidArgument:
    """A refusal of the registry as AWS says it: what is wrong, and neither the field nor what to do."""
    return InvalidArgument("; ".join(error.fields.values()) or error.message, fields=error.fields)


def _change(params: Params) -> AliasChange:
    return AliasChange(
        version=params.get("FunctionVersion"), weights=_weights(params), description=params.get("Description")
    )


def _weights(params: Params) -> Mapping[str, float] | None:
    routing = params.get("RoutingConfig")
    return None if routing is None else routing.get("AdditionalVersionWeights") or {}
