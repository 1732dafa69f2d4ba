"""Zips in a store that speaks S3: which object, which store, and its bytes, piece by piece.

Theory of operation: each fetch is a process of its own, engine.registry.code_s3_child, which signs and reads with
botocore and writes what comes to a pipe. The engine never imports botocore: its start, its memory and its calls stay
as they are, a fetch that hangs ends by a kill, and what may be connected to is held by the process for itself.

What is done with the bytes is the caller's. Guarantees that an object over the limit is refused before a byte of it is
read, that a fetch ends within its time, and that no process is left of one that ended, however.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from engine.config import Settings
from engine.errors import EngineError, InvalidArgument, InvalidCode, NotServed, PermissionDenied, Unavailable
from engine.registry.code_s3_child import FORBIDDEN, NOT_INSTALLED, Failed, Found, Wanted

T = TypeVar("T")

TIMEOUT_S = 300.0
FETCHES = 4
"""At a time. Others wait for their turn, and their time runs."""
PIECE_BYTES = 262_144
_LINE_BYTES = 65_536
_CHILD = Path(__file__).with_name("code_s3_child.py")
_OF_A_CLOUD = ("AWS_CONTAINER_", "AWS_EC2_METADATA_", "AWS_ENDPOINT_URL")
_DENIED = frozenset(
    {
        "403",
        "AccessDenied",
        "AllAccessDisabled",
        "ExpiredToken",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
    }
)
_PASSING = frozenset({"500", "502", "503", "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"})


@dataclass(frozen=True, slots=True)
class S3Object:
    """An object in a bucket; `version` "": the latest."""

    bucket: str
    key: str
    version: str = ""


KEY_LIMIT_CHARACTERS = 1_024
"""Of a key and of a version: docs.aws.amazon.com/lambda/latest/api/API_FunctionCode.html."""
BUCKET_LIMIT_CHARACTERS = 63


def check_object(wanted: S3Object) -> None:
    """Raise InvalidArgument for what no object can be called."""
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


@dataclass(frozen=True, slots=True)
class S3Store:
    """A store and how to reach it. Of `environ`, the variables AWS_… say who asks, by botocore's rules; where they name
    nobody, requests are not signed."""

    endpoint: str = ""  # "": there is none
    region: str = "us-east-1"
    timeout_s: float = TIMEOUT_S
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


def store_of(settings: Settings, environ: Mapping[str, str]) -> S3Store:
    """The store that an engine's settings name."""
    region = settings.s3_region or settings.region
    return S3Store(settings.s3_endpoint, region, settings.s3_timeout_s, dict(environ))


class S3Reader:
    """Reads objects."""

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(FETCHES, thread_name_prefix="s3")
        self._turns = asyncio.Semaphore(FETCHES)

    def close(self) -> None:
        """No more is read."""
        self._threads.shutdown(wait=False)

    async def read(self, wanted: S3Object, limit_bytes: int, take: Callable[[AsyncIterable[bytes]], Awaitable[T]]) -> T:
        """What `take` makes of the object's bytes. Raises NotServed (no store is set), InvalidCode (no such object or
        bucket, or one over `limit_bytes`), PermissionDenied, Unavailable (it cannot be reached, or takes too long), and
        what `take` raises."""
        store = self._store
        if not store.endpoint:
            raise NotServed(
                "This engine was told of no S3-compatible store to fetch code from",
                fix="start it with AWS_ENDPOINT_URL_S3 (the setting s3_endpoint), such as http://127.0.0.1:9090, or "
                "send the zip itself (ZipFile)",
            )
        try:
            async with asyncio.timeout(store.timeout_s), self._turns, aclosing(self._pieces(wanted, limit_bytes)) as it:
                return await take(it)
        except TimeoutError:
            raise Unavailable(
                f"{store.endpoint} did not send {wanted.bucket}/{wanted.key} within {store.timeout_s:g} s",
                fix="try again, or give s3_timeout_s a larger value",
            ) from None

    async def _pieces(self, wanted: S3Object, limit_bytes: int) -> AsyncGenerator[bytes]:
        begun = self._threads.submit(self._begin, wanted)
        try:
            child = await asyncio.wrap_future(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(_end_what_began)
            raise
        try:
            output = child.stdout
            assert output is not None
            left = self._size(await self._in_thread(output.readline, _LINE_BYTES), wanted)
            if left > limit_bytes:
                # AWS knows no limit of its own for the zip: what it holds is over it all the more.
                raise InvalidCode(
                    f"Unzipped size must be smaller than {limit_bytes} bytes",
                    fix="leave out what the function does not need",
                )
            while left > 0 and (piece := await self._in_thread(_read, output, min(left, PIECE_BYTES))):
                left -= len(piece)
                yield piece
            if left:
                raise Unavailable(f"{self._store.endpoint} broke off in the middle of the object", fix="try again")
        finally:
            child.kill()  # also ends what a thread still reads
            await asyncio.shield(self._in_thread(_leave, child))

    def _begin(self, wanted: S3Object) -> subprocess.Popen[bytes]:
        store = self._store
        request = Wanted(store.endpoint, store.region, wanted.bucket, wanted.key, wanted.version)
        try:
            child = subprocess.Popen(
                [sys.executable, "-I", str(_CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(store.environ),
            )
        except OSError as error:
            raise Unavailable(
                f"The process that reads from S3 could not be started: {error.strerror}",
                fix="see what this host has of memory, processes and open files",
            ) from error
        assert child.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, and its answer will be missed
            # Not closed: its end tells the process that nobody waits for it any more.
            child.stdin.write(msgspec.json.encode(request) + b"\n")
            child.stdin.flush()
        return child

    def _size(self, line: bytes, wanted: S3Object) -> int:
        """Of the object that was found. Raises what became of one that was not."""
        try:
            answer = msgspec.json.decode(line, type=Found | Failed)
        except msgspec.DecodeError:
            raise Unavailable("The process that reads from S3 ended without an answer", fix="try again") from None
        if isinstance(answer, Failed):
            raise _refusal(answer, wanted, self._store.endpoint)
        return answer.size_bytes

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


def _refusal(failed: Failed, wanted: S3Object, endpoint: str) -> EngineError:
    """In AWS's words where S3 has answered."""
    told = f"S3 Error Code: {failed.code}. S3 Error Message: {failed.message}"
    if failed.code == NOT_INSTALLED:
        return NotServed("Code from S3 needs the Python package botocore", fix="install botocore beside the engine")
    if failed.code == FORBIDDEN:
        return PermissionDenied(f"{endpoint} is not used: {failed.message}", fix="give s3_endpoint the store's address")
    if not failed.code or failed.code in _PASSING:
        why = told if failed.code else failed.message
        return Unavailable(f"{endpoint} cannot be read: {why}", fix="see that the store runs, then try again")
    if failed.code in _DENIED:
        return PermissionDenied(
            "Your access has been denied by S3, please make sure your request credentials have permission to GetObject "
            f"for {wanted.bucket}/{wanted.key}. {told}",
            fix="start the engine with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of somebody who may read it",
        )
    return InvalidCode(
        f"Error occurred while GetObject. {told}",
        fix="upload the zip to the bucket, then try again",
        fields={"s3_object": failed.message},
    )


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """For the process: who asks, and nothing that leads to a cloud's own addresses, to a proxy or to a home."""
    usual = {name: text for name, text in environ.items() if name.startswith("AWS_")}
    kept = {name: text for name, text in usual.items() if not name.startswith(_OF_A_CLOUD)}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}


def _read(file: IO[bytes], limit: int) -> bytes:
    return file.read1(limit)  # type: ignore[attr-defined, no-any-return]


def _leave(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()
    child.wait()


def _end_what_began(begun: Future[subprocess.Popen[bytes]]) -> None:
    if not begun.cancelled() and begun.exception() is None:
        _leave(begun.result())
