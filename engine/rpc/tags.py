"""TagService: the tags of functions."""

from __future__ import annotations

from collections.abc import Mapping

from engine.model.names import FunctionRef
from engine.registry.api import Registry
from engine.registry.tags import Tags
from engine.rpc.calls import Method
from engine.rpc.names import whole_function
from engine.v1 import tags_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["TagService"]


class TagService:
    """Sets and reads tags."""

    def __init__(self, registry: Registry, tags: Tags) -> None:
        self._registry = registry
        self._tags = tags

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {"AddTags": self.add, "RemoveTags": self.remove, "ListTags": self.list}

    async def add(self, request: pb.AddTagsRequest) -> pb.AddTagsResponse:
        """Give a function tags."""
        return pb.AddTagsResponse(tags=await self._tags.add(dict(request.tags), self._function(request.name)))

    async def remove(self, request: pb.RemoveTagsRequest) -> pb.RemoveTagsResponse:
        """Take tags away."""
        left = await self._tags.remove(set(request.tag_names), self._function(request.name))
        return pb.RemoveTagsResponse(tags=left)

    async def list(self, request: pb.ListTagsRequest) -> pb.ListTagsResponse:
        """Read them."""
        return pb.ListTagsResponse(tags=self._tags.of(self._function(request.name)))

    def _function(self, resource_name: str) -> str:
        """The name of a function that is there. Raises NotFound, InvalidArgument."""
        return self._registry.get(FunctionRef(whole_function(resource_name))).name
