"""Versions as AWS's clients publish, list and delete them, over the registry.

Guarantees AWS's own texts where a RevisionId is stale, where a version is not there and where it cannot be deleted.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from engine.errors import InUse, InvalidArgument, NotFound, StaleEtag
from engine.model.function import LATEST, Function
from engine.model.names import FunctionRef
from engine.registry.api import Registry
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

PAGE_MAX = 50
"""docs.aws.amazon.com/lambda/latest/api/API_ListVersionsByFunction.html."""


class Versions:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._registry = rooms.registry
        self._documents = rooms.documents
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {"ListVersionsByFunction": self.list, "PublishVersion": self.publish}

    async def publish(self, params: Params, request: Request) -> dict[str, Any]:
        """PublishVersion."""
        ref = FunctionRef(self._named.unqualified(params))
        self._documents.check_honoured(params)
        latest = self._named.function(ref)
        _check_code(params.get("CodeSha256") or "", latest)
        try:
            version = await self._registry.versions.publish(
                ref.name, description=params.get("Description"), etag=params.get("RevisionId") or None
            )
        except NotFound:
            raise self._named.missing(ref) from None
        except StaleEtag:
            raise stale() from None
        return self._documents.configuration(version, version.version)

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListVersionsByFunction: $LATEST first. The marker is the last version of the page before."""
        ref = FunctionRef(self._named.ref(params).name)
        latest = self._named.function(ref)
        after = params.get("Marker") or ""
        if after and after != LATEST and not (after.isascii() and after.isdigit()):
            raise InvalidArgument("Invalid Marker.", fix="use NextMarker of the page before", fields={"Marker": "?"})
        limit = min(params.get("MaxItems") or PAGE_MAX, PAGE_MAX)
        found = [] if after else [latest]
        more = LATEST
        if limit > len(found):
            published, more = self._registry.versions.list(
                ref.name, limit=limit - len(found), after="" if after == LATEST else after
            )
            found += published
        elif not self._registry.versions.list(ref.name, limit=1)[0]:
            more = ""
        listed = {"Versions": [self._documents.listed(version, version.version) for version in found]}
        return {**listed, "NextMarker": more} if more else listed


async def publish_if_asked(registry: Registry, params: Params, function: Function) -> Function:
    """The version of what was written a moment ago, where a CreateFunction or an UpdateFunctionCode asks for one; else
    the function. Raises StaleEtag if somebody else wrote in between."""
    if not params.get("Publish"):
        return function
    return await registry.versions.publish(function.name, etag=function.etag)


async def delete_version(registry: Registry, ref: FunctionRef) -> None:
    """What a DeleteFunction with a qualifier does. A version that is not there is no error, as on AWS."""
    if not ref.qualifier.isdigit():
        raise InvalidArgument("Deletion of aliases is not currently supported.", fields={"Qualifier": "is an alias"})
    try:
        await registry.versions.delete(ref.name, ref.qualifier)
    except NotFound:
        return
    except InUse as error:
        raise InUse(error.message) from None


def every_version(registry: Registry, *, limit: int, after: str) -> tuple[list[Function], str]:
    """At most `limit` functions and versions behind `after`, which is "name:version", and the one to go on after."""
    name, _, version = after.partition(":")
    found: list[Function] = []
    if version:  # the rest of the function in whose middle the page before ended
        try:
            found = registry.versions.list(name, limit=limit + 1, after="" if version == LATEST else version)[0]
        except NotFound:  # deleted meanwhile
            found = []
    while len(found) <= limit:
        page, name = registry.list(limit=limit, after=name)
        for function in page:
            found += [function, *registry.versions.list(function.name, limit=limit)[0]]
        if not name:
            break
    more = found[limit - 1] if len(found) > limit else None
    return found[:limit], f"{more.name}:{more.version}" if more else ""


def stale() -> StaleEtag:
    """The refusal of a RevisionId that is no longer the latest."""
    return StaleEtag(
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve "
        "the latest Revision Id"
    )


def _check_code(given: str, latest: Function) -> None:
    current = base64.b64encode(bytes.fromhex(latest.code_sha256)).decode()
    if given and given != current:
        raise InvalidArgument(
            f"CodeSHA256 ({given}) is different from current CodeSHA256 in $LATEST ({current}). Please try again with "
            "the CodeSHA256 in $LATEST.",
            fields={"CodeSha256": "is not that of $LATEST"},
        )
