"""Code on its ways other than an upload: from a store that speaks S3, and back. The part of
engine.client.calls.AsyncCalls and of engine.client.sync.Client about it."""

from __future__ import annotations

import abc
import asyncio
from pathlib import Path
from typing import TypeVar

from engine.client.packing import packed
from engine.client.resource_calls import Call
from engine.client.results import ref_of
from engine.errors import InvalidArgument
from engine.registry.api import CodeStore
from engine.registry.code_s3 import S3Object, check_object

T = TypeVar("T")
Code = str | Path | bytes
"""A folder, a zip's path, a zip's bytes, or s3://bucket/key, with ?versionId= where it is not the latest."""
_SCHEME = "s3://"


def object_of(code: Code) -> S3Object | None:
    """The object that code names; None where it is on this side. Raises InvalidArgument."""
    if not isinstance(code, str) or not code.lower().startswith(_SCHEME):
        return None
    place, question, version = code[len(_SCHEME) :].partition("?versionId=")
    bucket, _, key = place.partition("/")
    if not bucket or not key or (question and not version):
        raise InvalidArgument(f"{code!a} names no object in a bucket", fix="write s3://BUCKET/KEY.zip")
    return S3Object(bucket, key, version)


def import_code(wanted: S3Object) -> Call[str]:
    """Have the engine store an object; its SHA-256."""

    async def local(code: CodeStore) -> str:
        check_object(wanted)
        return (await code.fetch(wanted)).sha256

    fields = {"bucket": wanted.bucket, "key": wanted.key, "version": wanted.version}
    return Call("ImportCode", {"s3_object": fields}, local, room="code")


class AsyncCodeCalls(abc.ABC):
    """For async callers."""

    @abc.abstractmethod
    async def _make(self, call: Call[T]) -> T: ...

    @abc.abstractmethod
    async def _upload(self, code: bytes) -> str:
        """Store a zip; returns its SHA-256."""

    @abc.abstractmethod
    async def _download(self, resource_name: str) -> bytes: ...

    async def download_code(self, name: str, *, qualifier: str | None = None) -> bytes:
        """The zip of a function, a version or an alias, as it was deployed. Raises NotFound."""
        return await self._download(ref_of(name, qualifier).resource_name())

    async def _store(self, code: Code) -> str:
        """Have the engine store code, from wherever it is; returns its SHA-256."""
        wanted = object_of(code)
        if wanted is not None:
            return await self._make(import_code(wanted))
        return await self._upload(await asyncio.to_thread(packed, code))


class CodeCalls(abc.ABC):
    """For callers without an event loop."""

    @abc.abstractmethod
    def _make(self, call: Call[T]) -> T: ...

    @abc.abstractmethod
    def _upload(self, code: bytes) -> str: ...

    @abc.abstractmethod
    def _download(self, resource_name: str) -> bytes: ...

    def download_code(self, name: str, *, qualifier: str | None = None) -> bytes:
        """See AsyncCodeCalls.download_code."""
        return self._download(ref_of(name, qualifier).resource_name())

    def _store(self, code: Code) -> str:
        wanted = object_of(code)
        return self._upload(packed(code)) if wanted is None else self._make(import_code(wanted))
