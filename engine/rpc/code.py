"""CodeService: functions' zips back to who asks for them, and zips from a store that speaks S3.

Uploads are engine.rpc.uploads'; what a zip may be is the code store's to say. Guarantees that a zip is sent no faster
than it is read, a piece at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing

from engine.errors import InvalidArgument
from engine.model.names import parse_resource_name
from engine.registry.api import CodeStore, Registry
from engine.registry.code_s3 import S3Object
from engine.rpc.calls import Method, Write
from engine.rpc.convert import BLOB_PREFIX
from engine.v1 import code_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["CodeService"]
KEY_LIMIT_CHARACTERS = 1_024
"""Of a key and of a version: docs.aws.amazon.com/lambda/latest/api/API_FunctionCode.html."""
BUCKET_LIMIT_CHARACTERS = 63


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
        wanted = request.s3_object
        wrong = {
            f"s3_object.{name}": f"must have 1 to {most:,} characters"
            for name, text, most in (
                ("bucket", wanted.bucket, BUCKET_LIMIT_CHARACTERS),
                ("key", wanted.key, KEY_LIMIT_CHARACTERS),
                ("version", wanted.version or "-", KEY_LIMIT_CHARACTERS),
            )
            if not 0 < len(text) <= most
        }
        if wrong:
            raise InvalidArgument("the object in S3 cannot be", fix="name a bucket and a key in it", fields=wrong)
        blob = await self._code.fetch(S3Object(wanted.bucket, wanted.key, wanted.version))
        return pb.ImportCodeResponse(
            code_blob=BLOB_PREFIX + blob.sha256, size_bytes=blob.size_bytes, unpacked_bytes=blob.unpacked_bytes
        )
