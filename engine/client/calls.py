"""The calls of an engine for async callers: AsyncClient makes them over gRPC, Engine in this process, in the same way.

What differs between the two are the methods that begin with an underscore. Guarantees: a call that is throttled is made
again after the time that the engine names, at most `retries` times, since nothing of it ran; what may have run is never
repeated.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar, Unpack

from msgspec.structs import replace

from engine.client.async_attached import AsyncAttachedCalls
from engine.client.async_layers import AsyncLayerCalls
from engine.client.async_resources import AsyncResourceCalls
from engine.client.async_stored import AsyncStoredCalls
from engine.client.code_calls import Code
from engine.client.events import AsyncEventCalls
from engine.client.log_reads import When, log_query
from engine.client.results import FunctionOptions, InvokeOptions, Result, ref_of, request_of, result_of, timed_out
from engine.client.streams import AsyncConversation, AsyncStream, Items
from engine.errors import NotFound, Throttled
from engine.model.function import Function
from engine.model.invocation import Completion, InvokeRequest, LogLine
from engine.observe.log_query import LogQuery

T = TypeVar("T")
OnLog = Callable[[LogLine], None]
"""Told of each line of the log as it is written, on the event loop."""
PAGE = 1_000


class AsyncCalls(AsyncResourceCalls, AsyncLayerCalls, AsyncStoredCalls, AsyncAttachedCalls, AsyncEventCalls):
    """What can be asked of an engine. `code` is a folder, a zip's path, a zip's bytes, or an object in a store that
    speaks S3 (s3://bucket/key), which the engine fetches. Every call raises EngineError
    for what the engine refuses."""

    def __init__(self, *, retries: int) -> None:
        self._retries = retries

    async def deploy(self, code: Code, name: str, **options: Unpack[FunctionOptions]) -> Function:
        """Create a function, or change the code and what is given of one that exists."""
        sha256 = await self._store(code)
        try:
            existing = await self.get_function(name)
        except NotFound:
            return await self._create(name, sha256, options)
        return await self._update(existing.name, sha256, existing.etag, options)

    async def create_function(self, name: str, code: Code, **options: Unpack[FunctionOptions]) -> Function:
        """Raises AlreadyExists, InvalidArgument with every wrong field."""
        return await self._create(name, await self._store(code), options)

    async def update_function(
        self,
        name: str,
        *,
        code: Code | None = None,
        etag: str = "",
        **options: Unpack[FunctionOptions],
    ) -> Function:
        """Change what is given. Raises NotFound, StaleEtag if an etag is given and is not the current one."""
        sha256 = None if code is None else await self._store(code)
        return await self._update(ref_of(name).name, sha256, etag, options)

    async def get_function(self, name: str) -> Function:
        """Raises NotFound."""
        return await self._get(ref_of(name).resource_name())

    async def list_functions(self) -> list[Function]:
        """All of them, by name."""
        functions, after = await self._list("")
        while after:
            more, after = await self._list(after)
            functions += more
        return functions

    async def delete_function(self, name: str, *, etag: str = "") -> None:
        """Raises NotFound, StaleEtag."""
        await self._delete(ref_of(name).name, etag)

    async def invoke(
        self,
        name: str,
        event: object = None,
        *,
        log_tail: bool = False,
        timeout_s: float | None = None,
        check: bool = True,
        **options: Unpack[InvokeOptions],
    ) -> Result:
        """Run a function once: `event` is sent as JSON (bytes: as they are), `.value` is what it returned.

        Raises FunctionFailed if it fails; with check=False its Result has the error instead. `timeout_s` is the
        caller's own patience, retries included: TimedOut."""
        request = request_of(name, event, options, log=log_tail)
        try:
            async with asyncio.timeout(timeout_s):
                completion = await self._retrying(lambda: self._invoke(request))
        except TimeoutError:
            raise timed_out(timeout_s) from None
        return result_of(completion, check=check)

    def invoke_stream(
        self,
        name: str,
        event: object = None,
        *,
        on_log: OnLog | None = None,
        timeout_s: float | None = None,
        **options: Unpack[InvokeOptions],
    ) -> AsyncStream:
        """Run a function whose answer is read as it is made; it begins with the first read."""
        request = request_of(name, event, options, log=on_log is not None)
        return AsyncStream(lambda: self._stream(request, on_log), retries=self._retries, timeout_s=timeout_s)

    def converse(
        self,
        name: str,
        event: object = None,
        *,
        on_log: OnLog | None = None,
        timeout_s: float | None = None,
        **options: Unpack[InvokeOptions],
    ) -> AsyncConversation:
        """Run a function that reads its input while its answer is read; it begins with the first read or send."""
        request = request_of(name, event, options, log=on_log is not None, talk=True)

        def begin(chunks: AsyncIterator[bytes]) -> Items:
            return self._stream(replace(request, input=chunks), on_log)

        return AsyncConversation(begin, retries=self._retries, timeout_s=timeout_s)

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        request_id: str = "",
        limit: int = 0,
        since: When = None,
        until: When = None,
        contains: str | bytes = "",
    ) -> AsyncGenerator[LogLine, None]:
        """What is kept of a function's log, oldest first, at most the newest `limit`; then each line to come, if
        told to follow, until it is closed. `since` (included) and `until` (excluded) are moments, or a timedelta for
        how long ago; `contains` is text that a line has, in this very case."""
        query = log_query(request_id, limit, since, until, contains)
        return self._logs(ref_of(name).resource_name(), query, follow)

    async def _retrying(self, call: Callable[[], Awaitable[T]]) -> T:
        for _ in range(self._retries):
            try:
                return await call()
            except Throttled as error:
                await asyncio.sleep(error.retry_after_ms / 1000)
        return await call()

    @abc.abstractmethod
    async def _create(self, name: str, sha256: str, options: FunctionOptions) -> Function: ...

    @abc.abstractmethod
    async def _update(self, name: str, sha256: str | None, etag: str, options: FunctionOptions) -> Function: ...

    @abc.abstractmethod
    async def _get(self, resource_name: str) -> Function: ...

    @abc.abstractmethod
    async def _list(self, after: str) -> tuple[list[Function], str]:
        """A page, and where the next begins."""

    @abc.abstractmethod
    async def _delete(self, name: str, etag: str) -> None: ...

    @abc.abstractmethod
    async def _invoke(self, request: InvokeRequest) -> Completion: ...

    @abc.abstractmethod
    def _stream(self, request: InvokeRequest, on_log: OnLog | None) -> Items:
        """Chunks, then the Completion without them. Closing it stops the function."""

    @abc.abstractmethod
    def _logs(self, resource_name: str, query: LogQuery, follow: bool) -> AsyncGenerator[LogLine, None]: ...
