"""The operations on functions, as AWS's clients call them, over the registry and the code store.

Invoking is engine.rest.invocations'. Guarantees AWS's own texts where clients and tools look for them: a function that
is not there, a name that is taken, a stale RevisionId.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from engine.errors import AlreadyExists, InvalidArgument, NotFound, StaleEtag
from engine.model.function import LATEST, Function
from engine.model.names import FUNCTION_NAME, FunctionRef
from engine.registry.api import ConfigChange
from engine.registry.tags import Tags, checked
from engine.rest.aws_words import in_aws_words
from engine.rest.code_downloads import location
from engine.rest.code_signing import signing_of
from engine.rest.code_sources import check_package, check_source, stored
from engine.rest.configuration import change_of, check_levels
from engine.rest.layer_names import in_arns, layers_of
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms
from engine.rest.versions import delete_version, every_version, publish_if_asked, stale

LIST_PAGE_MAX = 50
"""A page of ListFunctions: docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html."""
_MARKER = re.compile(rf"{FUNCTION_NAME.pattern}(:(\$LATEST|[0-9]+))?")


class Functions:
    """CreateFunction, GetFunction and their siblings."""

    def __init__(self, rooms: Rooms) -> None:
        self._registry = rooms.registry
        self._code = rooms.code
        self._documents = rooms.documents
        self._signing = signing_of(rooms)
        self._tags = Tags(rooms.attached)
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "CreateFunction": self.create,
            "DeleteFunction": self.delete,
            "GetFunction": self.get,
            "GetFunctionConfiguration": self.get_configuration,
            "ListFunctions": self.list,
            "UpdateFunctionCode": self.update_code,
            "UpdateFunctionConfiguration": self.update_configuration,
        }

    async def create(self, params: Params, request: Request) -> dict[str, Any]:
        """CreateFunction."""
        name = self._named.unqualified(params)
        check_package(params)
        self._documents.check_honoured(params)
        if not params.get("Runtime") or not params.get("Handler"):
            raise InvalidArgument(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
                fields={"Runtime": "is required with Handler", "Handler": "is required with Runtime"},
            )
        check_source(params["Code"], "Code.")
        check_levels(params, None)
        tags = checked(params.get("Tags") or {})
        signing = params.get("CodeSigningConfigArn")
        if signing:
            self._signing.check_usable(signing)
        if self._named.find(name) is not None:
            raise AlreadyExists(f"Function already exist: {name}")
        change = self._change(params)
        blob = await stored(self._code, params["Code"], "Code.")
        try:
            with in_arns(self._documents):
                function = await self._registry.create(name, change, blob.sha256)
        except AlreadyExists:
            raise AlreadyExists(f"Function already exist: {name}") from None
        except InvalidArgument as error:
            raise in_aws_words(error, params) from None
        if tags:
            await self._tags.add(tags, name)
        if signing:
            await self._signing.set(name, signing)
        return self._documents.created(await self._published(params, function))

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunction."""
        function, qualifier = self._named.with_qualifier(params)
        described = {
            "Configuration": self._documents.configuration(function, qualifier),
            "Code": {"RepositoryType": "S3", "Location": location(request, self._code, function.code_sha256)},
        }
        tags = self._tags.of(function.name)
        reserved = self._registry.concurrency.reserved(function.name)
        if reserved is not None:
            described["Concurrency"] = {"ReservedConcurrentExecutions": reserved}
        return {**described, "Tags": dict(tags)} if tags else described

    async def get_configuration(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionConfiguration."""
        return self._documents.configuration(*self._named.with_qualifier(params))

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListFunctions. The marker is the name of the last function of the page before, with its version if versions
        are listed too."""
        after = params.get("Marker", "")
        if after and not _MARKER.fullmatch(after):
            raise InvalidArgument("Invalid Marker.", fix="use NextMarker of the page before", fields={"Marker": "?"})
        region = params.get("MasterRegion", "ALL")
        if region not in ("ALL", self._documents.region):
            return {"Functions": []}
        limit = min(params.get("MaxItems", LIST_PAGE_MAX), LIST_PAGE_MAX)
        if params.get("FunctionVersion") == "ALL":
            functions, marker = every_version(self._registry, limit=limit, after=after)
            listed = {"Functions": [self._documents.listed(one, one.version) for one in functions]}
        else:
            functions, marker = self._registry.list(limit=limit, after=after.partition(":")[0])
            listed = {"Functions": [self._documents.listed(function) for function in functions]}
        return {**listed, "NextMarker": marker} if marker else listed

    async def update_code(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateFunctionCode. A DryRun checks the zip and answers with its hash."""
        name = self._named.unqualified(params)
        self._documents.check_honoured(params)
        function = self._named.function(FunctionRef(name))
        check_package(params, "updating")
        check_source(params)
        revision = params.get("RevisionId")
        if revision and revision != function.etag:
            raise stale()
        blob = await stored(self._code, params)
        if params.get("DryRun"):
            tried = dataclasses.replace(function, code_sha256=blob.sha256, code_size_bytes=blob.size_bytes)
            return self._documents.configuration(tried)
        return await self._update(name, params, code_sha256=blob.sha256)

    async def update_configuration(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateFunctionConfiguration."""
        name = self._named.unqualified(params)
        self._documents.check_honoured(params)
        check_levels(params, self._named.find(name))
        return await self._update(name, params)

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteFunction."""
        ref = self._named.ref(params)
        if self._named.qualifier(params) == LATEST:
            raise InvalidArgument(
                "$LATEST version cannot be deleted without deleting the function.",
                fields={"Qualifier": "must not be $LATEST"},
            )
        self._named.function(FunctionRef(ref.name))
        if ref.qualifier != LATEST:
            await delete_version(self._registry, ref)
            return {"StatusCode": 204}
        try:
            await self._registry.delete(ref.name)
        except NotFound:
            raise self._named.missing(ref) from None
        return {"StatusCode": 204}

    async def _update(self, name: str, params: Params, *, code_sha256: str | None = None) -> dict[str, Any]:
        change = self._change(params)
        try:
            with in_arns(self._documents):
                function = await self._registry.update(
                    name, change, code_sha256=code_sha256, etag=params.get("RevisionId") or None
                )
        except NotFound:
            raise self._named.missing(FunctionRef(name)) from None
        except StaleEtag:
            raise stale() from None
        except InvalidArgument as error:
            raise in_aws_words(error, params) from None
        version = await self._published(params, function)
        return self._documents.configuration(version, "" if version.version == LATEST else version.version)

    def _change(self, params: Params) -> ConfigChange:
        """The settings that a request names. Raises InvalidArgument, PermissionDenied."""
        return dataclasses.replace(change_of(params), layers=layers_of(params, self._documents))

    async def _published(self, params: Params, function: Function) -> Function:
        """What was written, or the version that was to be published of it."""
        try:
            return await publish_if_asked(self._registry, params, function)
        except NotFound:
            raise self._named.missing(FunctionRef(function.name)) from None
        except StaleEtag:
            raise stale() from None
