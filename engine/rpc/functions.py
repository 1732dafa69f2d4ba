"""FunctionService: the control plane over the registry and the code store, with the manners of https://google.aip.dev.

Leaves to the registry which values a function may have, and to the code store which zips. Guarantees that what a
request names and this service does not know is refused by its name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

from engine.errors import InvalidArgument
from engine.model.function import Function, FunctionConfig
from engine.model.names import check_function_name, parse_resource_name
from engine.registry.api import CodeStore, Registry
from engine.rpc import masks, pages, uploads
from engine.rpc.calls import Method
from engine.rpc.convert import BLOB_PREFIX, blob_sha256, config_change, function_to_proto
from engine.rpc.names import whole_function
from engine.v1 import functions_pb2 as pb
from engine.v1 import resources_pb2

SERVICE = pb.DESCRIPTOR.services_by_name["FunctionService"]


PreloadBytes = Callable[[FunctionConfig], int]
"""What the modules of a function's preload take; 0 where that is not known."""


class FunctionService:
    """Creates, reads and changes functions."""

    def __init__(
        self, registry: Registry, code: CodeStore, *, region: str, account: str, preload_bytes: PreloadBytes
    ) -> None:
        self._registry = registry
        self._code = code
        self._region = region
        self._account = account
        self._preload_bytes = preload_bytes

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "CreateFunction": self.create,
            "GetFunction": self.get,
            "ListFunctions": self.list,
            "UpdateFunction": self.update,
            "DeleteFunction": self.delete,
            "UploadCode": self.upload,
        }

    async def create(self, request: pb.CreateFunctionRequest) -> pb.CreateFunctionResponse:
        """Create a function from uploaded code, or only check that it could be."""
        name = check_function_name(request.function_id, "function_id")
        config = request.function.config
        change = config_change(config, masks.populated(config))
        sha256 = blob_sha256(request.function.code_blob)
        function = await self._registry.create(name, change, sha256, validate_only=request.validate_only)
        return pb.CreateFunctionResponse(function=self.to_proto(function))

    async def get(self, request: pb.GetFunctionRequest) -> pb.GetFunctionResponse:
        """Read one function, version or alias."""
        return pb.GetFunctionResponse(function=self.to_proto(self._registry.get(parse_resource_name(request.name))))

    async def list(self, request: pb.ListFunctionsRequest) -> pb.ListFunctionsResponse:
        """List a page of functions."""
        functions, after = self._registry.list(
            limit=pages.page_limit(request.page_size), after=pages.page_start(request.page_token)
        )
        return pb.ListFunctionsResponse(
            functions=[self.to_proto(function) for function in functions], next_page_token=pages.page_token(after)
        )

    async def update(self, request: pb.UpdateFunctionRequest) -> pb.UpdateFunctionResponse:
        """Change what the mask selects."""
        function = request.function
        name = whole_function(function.name)
        selection = masks.select(request.update_mask.paths, function)
        if selection.code and not function.code_blob:
            raise InvalidArgument(
                "a function cannot be without code",
                fix="set code_blob to what FunctionService.UploadCode returns, or leave it out of the mask",
                fields={"code_blob": "must be set"},
            )
        changed = await self._registry.update(
            name,
            config_change(function.config, selection.config),
            code_sha256=blob_sha256(function.code_blob) if selection.code else None,
            etag=function.etag or None,
        )
        return pb.UpdateFunctionResponse(function=self.to_proto(changed))

    async def delete(self, request: pb.DeleteFunctionRequest) -> pb.DeleteFunctionResponse:
        """Delete a function with everything that belongs to it."""
        await self._registry.delete(whole_function(request.name), etag=request.etag or None)
        return pb.DeleteFunctionResponse()

    async def upload(self, requests: AsyncIterator[pb.UploadCodeRequest]) -> pb.UploadCodeResponse:
        """Store a zip."""
        announced = await uploads.read_header(requests)
        blob = await self._code.add(
            uploads.read_chunks(requests), sha256=announced.sha256, size_bytes=announced.size_bytes
        )
        return pb.UploadCodeResponse(
            code_blob=BLOB_PREFIX + blob.sha256, size_bytes=blob.size_bytes, unpacked_bytes=blob.unpacked_bytes
        )

    def to_proto(self, function: Function) -> resources_pb2.Function:
        """A function or a version of one as a message."""
        taken = self._preload_bytes(function.config) if function.config.preload else 0
        return function_to_proto(function, region=self._region, account=self._account, preload_bytes=taken)
