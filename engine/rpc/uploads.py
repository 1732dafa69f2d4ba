"""The rules of an upload's frames: one header first, then chunks of at most 1 MiB. What the bytes are is the code
store's business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from engine.errors import InvalidArgument
from engine.rpc.convert import is_sha256
from engine.v1 import functions_pb2 as pb

CHUNK_LIMIT_BYTES = 1_048_576
_FIX = "send one header, then chunks of at most 1 MiB, then end the stream"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the header says; None where it says nothing."""

    sha256: str | None
    size_bytes: int | None


async def read_header(frames: AsyncIterator[pb.UploadCodeRequest]) -> Announcement:
    """Read the first frame. Raises InvalidArgument if it is no header, or one with values that cannot be."""
    first = await anext(frames, None)
    if first is None or first.WhichOneof("frame") != "header":
        raise InvalidArgument(
            "the upload does not start with a header", fix=_FIX, fields={"header": "must be the first frame"}
        )
    header = first.header
    wrong = {}
    sha256 = header.sha256.lower()
    if sha256 and not is_sha256(sha256):
        wrong["header.sha256"] = "must be 64 hex digits"
    if header.size_bytes < 0:
        wrong["header.size_bytes"] = "must not be negative"
    if wrong:
        raise InvalidArgument(
            f"the upload's header cannot be: {', '.join(wrong)}", fix="correct it or leave it out", fields=wrong
        )
    return Announcement(sha256 or None, header.size_bytes or None)


async def read_chunks(frames: AsyncIterator[pb.UploadCodeRequest]) -> AsyncIterator[bytes]:
    """The bytes of the frames after the header. Raises InvalidArgument for a second header, a frame that is neither,
    and a chunk over its limit."""
    async for frame in frames:
        kind = frame.WhichOneof("frame")
        if kind != "chunk":
            raise InvalidArgument(
                "the upload has a second header" if kind == "header" else "the upload has a frame with nothing in it",
                fix=_FIX,
                fields={kind or "frame": "must be sent once, first" if kind else "must be a chunk"},
            )
        if len(frame.chunk) > CHUNK_LIMIT_BYTES:
            raise InvalidArgument(
                f"a chunk has {len(frame.chunk):,} bytes", fix=_FIX, fields={"chunk": "at most 1,048,576 bytes"}
            )
        yield frame.chunk
