"""The operations on layers, as AWS's clients call them.

What a layer may be is engine.registry.layers'. Guarantees AWS's own words for what is not there.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from engine.errors import InvalidArgument
from engine.model.layer import LayerRef, LayerVersion, layer_arn, parse_arn
from engine.registry.api import LayerContent
from engine.registry.policies import document, statement_of
from engine.rest.code_downloads import location
from engine.rest.code_sources import stored
from engine.rest.configuration import last_modified
from engine.rest.layer_names import check_place, in_arns, ref_of
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

LIST_PAGE_MAX = 50
"""A page of ListLayers: docs.aws.amazon.com/lambda/latest/api/API_ListLayers.html."""


class Layers:
    """PublishLayerVersion, GetLayerVersion and their siblings."""

    def __init__(self, rooms: Rooms) -> None:
        self._registry = rooms.registry
        self._code = rooms.code
        self._documents = rooms.documents

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "AddLayerVersionPermission": self.permit,
            "DeleteLayerVersion": self.delete,
            "GetLayerVersion": self.get,
            "GetLayerVersionByArn": self.get_by_arn,
            "GetLayerVersionPolicy": self.policy,
            "ListLayers": self.list_layers,
            "ListLayerVersions": self.list_versions,
            "PublishLayerVersion": self.publish,
            "RemoveLayerVersionPermission": self.forbid,
        }

    async def publish(self, params: Params, request: Request) -> dict[str, Any]:
        """PublishLayerVersion."""
        name = self._name(params)
        self._documents.check_honoured(params)
        blob = await stored(self._code, params["Content"], "Content.")
        content = LayerContent(
            blob.sha256,
            params.get("Description", ""),
            params.get("LicenseInfo", ""),
            tuple(params.get("CompatibleRuntimes") or ()),
            tuple(params.get("CompatibleArchitectures") or ()),
        )
        return self._whole(await self._registry.layers.publish(name, content), request)

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetLayerVersion."""
        return self._whole(self._registry.layers.get(self._ref(params)), request)

    async def get_by_arn(self, params: Params, request: Request) -> dict[str, Any]:
        """GetLayerVersionByArn."""
        return self._whole(self._registry.layers.get(ref_of(params["Arn"], self._documents)), request)

    async def list_layers(self, params: Params, request: Request) -> dict[str, Any]:
        """ListLayers. The marker is the name of the last layer of the page before."""
        limit = min(params.get("MaxItems", LIST_PAGE_MAX), LIST_PAGE_MAX)
        layers, marker = self._registry.layers.list(limit=limit, after=params.get("Marker", ""), **_filters(params))
        listed: dict[str, Any] = {
            "Layers": [
                {
                    "LayerName": layer.ref.name,
                    "LayerArn": self._arn(layer.ref.name),
                    "LatestMatchingVersion": self._listed(layer),
                }
                for layer in layers
            ]
        }
        return {**listed, "NextMarker": marker} if marker else listed

    async def list_versions(self, params: Params, request: Request) -> dict[str, Any]:
        """ListLayerVersions, newest first. The marker is the number of the last one of the page before."""
        limit = min(params.get("MaxItems", LIST_PAGE_MAX), LIST_PAGE_MAX)
        marker = params.get("Marker", "") or "0"
        if not (marker.isascii() and marker.isdigit()):
            raise InvalidArgument("Invalid Marker.", fix="use NextMarker of the page before", fields={"Marker": "?"})
        name = self._name(params)
        layers, after = self._registry.layers.list_versions(name, limit=limit, after=int(marker), **_filters(params))
        listed: dict[str, Any] = {"LayerVersions": [self._listed(layer) for layer in layers]}
        return {**listed, "NextMarker": str(after)} if after else listed

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteLayerVersion."""
        await self._registry.layers.delete(self._ref(params))
        return {}

    async def permit(self, params: Params, request: Request) -> dict[str, Any]:
        """AddLayerVersionPermission."""
        ref = self._ref(params)
        given = {"PrincipalOrgID": params.get("OrganizationId")}
        arn = self._arn(*ref)
        statement = statement_of(params["StatementId"], params["Action"], params["Principal"], arn, given)
        with in_arns(self._documents):
            policy = await self._registry.layers.permit(ref, statement, revision=params.get("RevisionId") or "")
        return {"Statement": orjson.dumps(statement).decode(), "RevisionId": policy["RevisionId"]}

    async def forbid(self, params: Params, request: Request) -> dict[str, Any]:
        """RemoveLayerVersionPermission."""
        ref, revision = self._ref(params), params.get("RevisionId") or ""
        with in_arns(self._documents):
            await self._registry.layers.forbid(ref, params["StatementId"], revision=revision)
        return {}

    async def policy(self, params: Params, request: Request) -> dict[str, Any]:
        """GetLayerVersionPolicy."""
        with in_arns(self._documents):
            found = self._registry.layers.policy(self._ref(params))
        return {"Policy": document(found), "RevisionId": found["RevisionId"]}

    def _name(self, params: Params) -> str:
        """The layer's, which may be given as its ARN."""
        given: str = params["LayerName"]
        arn = parse_arn(given)
        if arn is None:
            return given
        check_place(given, arn.region, arn.account, self._documents)
        return arn.name

    def _ref(self, params: Params) -> LayerRef:
        number: int = params["VersionNumber"]
        if number < 1:
            raise InvalidArgument("Layer Version Cannot be less than 1", fields={"VersionNumber": "is less than 1"})
        return LayerRef(self._name(params), number)

    def _arn(self, name: str, version: int = 0) -> str:
        return layer_arn(self._documents.region, self._documents.account, name, version)

    def _listed(self, layer: LayerVersion) -> dict[str, Any]:
        """The LayerVersionsListItem."""
        document: dict[str, Any] = {
            "LayerVersionArn": self._arn(*layer.ref),
            "Version": layer.ref.version,
            "CreatedDate": last_modified(layer.create_time),
        }
        if layer.runtimes:
            document["CompatibleRuntimes"] = list(layer.runtimes)
        if layer.architectures:
            document["CompatibleArchitectures"] = list(layer.architectures)
        if layer.description:
            document["Description"] = layer.description
        if layer.license_info:
            document["LicenseInfo"] = layer.license_info
        return document

    def _whole(self, layer: LayerVersion, request: Request) -> dict[str, Any]:
        content = {
            "Location": location(request, self._code, layer.code_sha256),
            "CodeSha256": base64.b64encode(bytes.fromhex(layer.code_sha256)).decode(),
            "CodeSize": layer.code_size_bytes,
        }
        arn = self._arn(layer.ref.name)
        return {"Content": content, "LayerArn": arn, **self._listed(layer), "Description": layer.description}


def _filters(params: Params) -> dict[str, str]:
    return {
        "runtime": params.get("CompatibleRuntime", ""),
        "architecture": params.get("CompatibleArchitecture", ""),
    }
