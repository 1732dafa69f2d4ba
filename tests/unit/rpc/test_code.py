"""CodeService: zips back, and what may be asked for in a bucket."""

from __future__ import annotations

import pytest

from engine.registry.code_s3 import S3Object
from engine.v1 import code_pb2 as pb
from engine.v1 import code_pb2_grpc
from tests.unit.rpc.things import SHA256, code, fields, front, refusal


async def test_a_download_is_one_header_and_the_zip_in_its_pieces() -> None:
    async with front("thumbs") as it:
        it.code.pieces = [b"first", b"second"]
        calls: code_pb2_grpc.CodeServiceAsyncStub = code_pb2_grpc.CodeServiceStub(it.channel)
        frames = [frame async for frame in calls.DownloadCode(pb.DownloadCodeRequest(name="functions/thumbs"))]
        assert frames[0].header.sha256 == it.registry.functions["thumbs"].code_sha256
        assert [frame.chunk for frame in frames[1:]] == [b"first", b"second"]
        status = await refusal(calls.DownloadCode(pb.DownloadCodeRequest(name="functions/none")))
        assert code(status) == "NOT_FOUND"


async def test_an_object_is_fetched_as_it_is_named() -> None:
    async with front() as it:
        calls: code_pb2_grpc.CodeServiceAsyncStub = code_pb2_grpc.CodeServiceStub(it.channel)
        wanted = pb.S3Object(bucket="b", key="k/é", version="v")
        stored = await calls.ImportCode(pb.ImportCodeRequest(s3_object=wanted))
        assert stored.code_blob == f"blobs/{SHA256}"
        assert it.code.fetched == [S3Object("b", "k/é", "v")]


@pytest.mark.parametrize(
    ("wanted", "wrong"),
    [
        (pb.S3Object(), ["s3_object.bucket", "s3_object.key"]),
        (pb.S3Object(bucket="b" * 64, key="k"), ["s3_object.bucket"]),
        (pb.S3Object(bucket="b", key="k" * 1_025), ["s3_object.key"]),
        (pb.S3Object(bucket="b", key="k", version="v" * 1_025), ["s3_object.version"]),
    ],
)
async def test_what_is_no_object_is_refused_by_its_field(wanted: pb.S3Object, wrong: list[str]) -> None:
    async with front() as it:
        calls: code_pb2_grpc.CodeServiceAsyncStub = code_pb2_grpc.CodeServiceStub(it.channel)
        status = await refusal(calls.ImportCode(pb.ImportCodeRequest(s3_object=wanted)))
        assert (code(status), list(fields(status))) == ("INVALID_ARGUMENT", wrong)
        assert it.code.fetched == []
