"""VersionService: versions over the registry, with the manners of https://google.aip.dev."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.model.function import Function
from engine.registry.api import Registry
from engine.rpc import pages
from engine.rpc.calls import Method
from engine.rpc.convert import blob_sha256
from engine.rpc.names import version_of, whole_function
from engine.v1 import resources_pb2
from engine.v1 import versions_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["VersionService"]

ToProto = Callable[[Function], resources_pb2.Function]
"""A function or a version as a message."""


class VersionService:
    """Publishes, lists and deletes versions."""

    def __init__(self, registry: Registry, to_proto: ToProto) -> None:
        self._registry = registry
        self._to_proto = to_proto

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {"PublishVersion": self.publish, "ListVersions": self.list, "DeleteVersion": self.delete}

    async def publish(self, request: pb.PublishVersionRequest) -> pb.PublishVersionResponse:
        """Make a version of what $LATEST is."""
        version = await self._registry.versions.publish(
            whole_function(request.parent, "parent"),
            description=request.description or None,
            code_sha256=blob_sha256(request.code_blob) or None,
            etag=request.etag or None,
        )
        return pb.PublishVersionResponse(version=self._to_proto(version))

    async def list(self, request: pb.ListVersionsRequest) -> pb.ListVersionsResponse:
        """List a page of versions."""
        versions, after = self._registry.versions.list(
            whole_function(request.parent, "parent"),
            limit=pages.page_limit(request.page_size),
            after=pages.page_start(request.page_token),
        )
        return pb.ListVersionsResponse(
            versions=[self._to_proto(version) for version in versions], next_page_token=pages.page_token(after)
        )

    async def delete(self, request: pb.DeleteVersionRequest) -> pb.DeleteVersionResponse:
        """Delete a version."""
        ref = version_of(request.name)
        await self._registry.versions.delete(ref.name, ref.qualifier)
        return pb.DeleteVersionResponse()
