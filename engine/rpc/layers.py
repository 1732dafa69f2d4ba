"""LayerService: layers as engine.v1 has them, over the registry."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from engine.model.layer import LayerVersion, layer_arn, parse_resource
from engine.registry.api import LayerContent, Layers
from engine.registry.policies import document, layer_statement, wrong
from engine.rpc import pages
from engine.rpc.calls import Method
from engine.rpc.convert import BLOB_PREFIX, blob_sha256, timestamp
from engine.v1 import layers_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["LayerService"]

_PARENT = re.compile(r"layers/([^/]+)")


class LayerService:
    """Publishes, reads and removes layer versions."""

    def __init__(self, layers: Layers, *, region: str, account: str) -> None:
        self._layers = layers
        self._region = region
        self._account = account

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "PublishLayerVersion": self.publish,
            "GetLayerVersion": self.get,
            "ListLayers": self.list,
            "ListLayerVersions": self.list_versions,
            "DeleteLayerVersion": self.delete,
            "AddLayerVersionPermission": self.permit,
            "GetLayerVersionPolicy": self.policy,
            "RemoveLayerVersionPermission": self.forbid,
        }

    async def publish(self, request: pb.PublishLayerVersionRequest) -> pb.PublishLayerVersionResponse:
        """Make a version."""
        given = request.layer_version
        content = LayerContent(
            blob_sha256(given.code_blob),
            given.description,
            given.license_info,
            tuple(given.compatible_runtimes),
            tuple(given.compatible_architectures),
        )
        layer = await self._layers.publish(_layer(request.parent), content)
        return pb.PublishLayerVersionResponse(layer_version=self._proto(layer))

    async def get(self, request: pb.GetLayerVersionRequest) -> pb.GetLayerVersionResponse:
        """Read one."""
        layer = self._layers.get(parse_resource(request.name))
        return pb.GetLayerVersionResponse(layer_version=self._proto(layer))

    async def list(self, request: pb.ListLayersRequest) -> pb.ListLayersResponse:
        """List a page of layers."""
        layers, after = self._layers.list(
            limit=pages.page_limit(request.page_size),
            after=pages.page_start(request.page_token),
            runtime=request.compatible_runtime,
            architecture=request.compatible_architecture,
        )
        return pb.ListLayersResponse(
            latest_versions=[self._proto(layer) for layer in layers], next_page_token=pages.page_token(after)
        )

    async def list_versions(self, request: pb.ListLayerVersionsRequest) -> pb.ListLayerVersionsResponse:
        """List a page of versions."""
        start = pages.page_start(request.page_token)
        layers, after = self._layers.list_versions(
            _layer(request.parent),
            limit=pages.page_limit(request.page_size),
            after=int(start) if start.isdigit() else 0,
            runtime=request.compatible_runtime,
            architecture=request.compatible_architecture,
        )
        return pb.ListLayerVersionsResponse(
            layer_versions=[self._proto(layer) for layer in layers],
            next_page_token=pages.page_token(str(after) if after else ""),
        )

    async def delete(self, request: pb.DeleteLayerVersionRequest) -> pb.DeleteLayerVersionResponse:
        """Remove one."""
        await self._layers.delete(parse_resource(request.name))
        return pb.DeleteLayerVersionResponse()

    async def permit(self, request: pb.AddLayerVersionPermissionRequest) -> pb.AddLayerVersionPermissionResponse:
        """Add a statement."""
        ref = parse_resource(request.name)
        arn = layer_arn(self._region, self._account, *ref)
        statement = layer_statement(
            request.statement_id, request.action, request.principal, arn, request.organization_id
        )
        policy = await self._layers.permit(ref, statement, revision=request.etag)
        return pb.AddLayerVersionPermissionResponse(
            statement=orjson.dumps(statement).decode(), etag=policy["RevisionId"]
        )

    async def policy(self, request: pb.GetLayerVersionPolicyRequest) -> pb.GetLayerVersionPolicyResponse:
        """Read a policy."""
        found = self._layers.policy(parse_resource(request.name))
        return pb.GetLayerVersionPolicyResponse(policy=document(found), etag=found["RevisionId"])

    async def forbid(self, request: pb.RemoveLayerVersionPermissionRequest) -> pb.RemoveLayerVersionPermissionResponse:
        """Remove a statement."""
        await self._layers.forbid(parse_resource(request.name), request.statement_id, revision=request.etag)
        return pb.RemoveLayerVersionPermissionResponse()

    def _proto(self, layer: LayerVersion) -> pb.LayerVersion:
        return pb.LayerVersion(
            name=layer.ref.resource_name(),
            version=layer.ref.version,
            code_blob=BLOB_PREFIX + layer.code_sha256,
            code_size_bytes=layer.code_size_bytes,
            description=layer.description,
            license_info=layer.license_info,
            compatible_runtimes=layer.runtimes,
            compatible_architectures=layer.architectures,
            create_time=timestamp(layer.create_time),
            arn=layer_arn(self._region, self._account, *layer.ref),
        )


def _layer(parent: str) -> str:
    """The name of a layer as a whole; whether it can be one is the registry's to say. Raises InvalidArgument."""
    match = _PARENT.fullmatch(parent)
    if match is None:
        raise wrong("parent", "must be layers/{layer}")
    return match[1]
