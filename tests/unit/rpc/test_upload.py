"""An upload is one header, then chunks; whatever else it is, it is refused and what was under way ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from engine.errors import InvalidArgument
from engine.v1.functions_pb2 import UploadCodeHeader, UploadCodeRequest
from tests.unit.rpc.things import SHA256, code, fields, front, refusal

MIB = 1_048_576


def header(sha256: str = "", size_bytes: int = 0) -> UploadCodeRequest:
    return UploadCodeRequest(header=UploadCodeHeader(sha256=sha256, size_bytes=size_bytes))


def chunk(data: bytes) -> UploadCodeRequest:
    return UploadCodeRequest(chunk=data)


async def test_the_bytes_of_an_upload_arrive_in_order_with_what_was_announced() -> None:
    async with front() as it:
        frames = [header(SHA256.upper(), 3 * MIB), chunk(b"a" * MIB), chunk(b""), chunk(b"b" * MIB), chunk(b"c" * MIB)]
        stored = await it.functions.UploadCode(iter(frames))
        assert it.code.received == b"a" * MIB + b"b" * MIB + b"c" * MIB
        assert it.code.announced == (SHA256, 3 * MIB)
        assert (stored.code_blob, stored.size_bytes, stored.unpacked_bytes) == (f"blobs/{SHA256}", 3 * MIB, 9 * MIB)


async def test_a_header_may_announce_nothing() -> None:
    async with front() as it:
        await it.functions.UploadCode(iter([header(), chunk(b"zip")]))
        assert it.code.announced == (None, None)


@pytest.mark.parametrize(
    ("frames", "field"),
    [
        ([], "header"),
        ([chunk(b"zip")], "header"),
        ([UploadCodeRequest()], "header"),
        ([header("12")], "header.sha256"),
        ([header("", -1)], "header.size_bytes"),
    ],
)
async def test_an_upload_without_a_good_header_is_refused(frames: list[UploadCodeRequest], field: str) -> None:
    async with front() as it:
        status = await refusal(it.functions.UploadCode(iter(frames)))
        assert (code(status), list(fields(status))) == ("INVALID_ARGUMENT", [field])
        assert not it.code.ended.done()


@pytest.mark.parametrize(
    ("frame", "field"),
    [(header(), "header"), (UploadCodeRequest(), "frame"), (chunk(b"x" * (MIB + 1)), "chunk")],
)
async def test_a_wrong_frame_is_refused_and_the_store_hears_of_it(frame: UploadCodeRequest, field: str) -> None:
    async with front() as it:
        status = await refusal(it.functions.UploadCode(iter([header(), chunk(b"zip"), frame])))
        assert (code(status), list(fields(status))) == ("INVALID_ARGUMENT", [field])
        assert isinstance(await it.code.ended, InvalidArgument)


async def test_an_upload_whose_client_leaves_is_not_taken_for_a_whole_one() -> None:
    async with front() as it:

        async def frames() -> AsyncIterator[UploadCodeRequest]:
            yield header()
            yield chunk(b"zip")
            await asyncio.Event().wait()

        call = it.functions.UploadCode(frames())
        await it.code.began.wait()
        call.cancel()
        assert isinstance(await it.code.ended, asyncio.CancelledError | grpc.aio.BaseError)
