"""CodeService: functions' zips back to who asks for them, and zips from a store that speaks S3.

Uploads are engine.rpc.uploads'; what a zip may be is the code store's to say. Guarantees that a zip is sent no faster
than it is read, a piece at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing

from engine.model.names import parse_resource_name
from engine.registry.api import CodeStore, Registry
from engine.registry.code_s3 import S3Object, check_object
from engine.rpc.calls import Method, Write
from engine.rpc.convert import BLOB_PREFIX
from engine.v1 import code_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["CodeService"]


class CodeService:
    """Sends and fetches code."""

    def __init__(self, registry: Registry, code: CodeStore) -> None:
        self._registry = registry
        self._code = code

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {"DownloadCode": self.download, "ImportCode": self.fetch}

    async def download(self, request: pb.DownloadCodeRequest, write: Write) -> None:
        """Send the zip of a function, a version or an alias."""
        function = self._registry.get(parse_resource_name(request.name))
        async with aclosing(self._code.read_zip(function.code_sha256)) as pieces:
            header = pb.DownloadCodeHeader(sha256=function.code_sha256, size_bytes=function.code_size_bytes)
            await write(pb.DownloadCodeResponse(header=header))
            async for piece in pieces:
                await write(pb.DownloadCodeResponse(chunk=piece))

    async def fetch(self, request: pb.ImportCodeRequest) -> pb.ImportCodeResponse:
        """Store a zip that lies in a bucket."""
        given = request.s3_object
        wanted = S3Object(given.bucket, given.key, given.version)
        check_object(wanted)
        blob = await self._code.fetch(wanted)
        return pb.ImportCodeResponse(
            code_blob=BLOB_PREFIX + blob.sha256, size_bytes=blob.size_bytes, unpacked_bytes=blob.unpacked_bytes
        )
