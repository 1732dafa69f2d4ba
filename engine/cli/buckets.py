"""`s3://bucket/key` where `cleave deploy` takes a path: an object that the engine fetches, not this command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from engine.cli.problems import usage

if TYPE_CHECKING:
    from engine.cli.client import Engine
    from engine.v1 import code_pb2

SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class Source:
    """An object; `version` "": the latest."""

    bucket: str
    key: str
    version: str

    @property
    def stem(self) -> str:
        """What the function is called by default."""
        return PurePosixPath(self.key).stem


def source_of(text: str) -> Source | None:
    """The object that an argument names; None where it is a path. Raises Problem."""
    if not text.lower().startswith(SCHEME):
        return None
    place, question, query = text[len(SCHEME) :].partition("?versionId=")
    bucket, _, key = place.partition("/")
    if not bucket or not key or (question and not query):
        raise usage(f"cannot deploy {text}", "it names no object in a bucket", "write s3://BUCKET/KEY.zip")
    return Source(bucket, key, query)


def fetched(engine: Engine, source: Source) -> code_pb2.ImportCodeResponse:
    """Have the engine store the object. Raises grpc.RpcError."""
    from engine.cli.client import UPLOAD_TIMEOUT_S
    from engine.v1 import code_pb2

    wanted = code_pb2.S3Object(bucket=source.bucket, key=source.key, version=source.version)
    return engine.code.ImportCode(code_pb2.ImportCodeRequest(s3_object=wanted), timeout=UPLOAD_TIMEOUT_S)
