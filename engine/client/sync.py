"""Client: the calls of an engine over gRPC, for callers without an event loop. Threads may share one.

The same calls as engine.client.calls.AsyncCalls, which documents them.
"""

from __future__ import annotations

import codecs
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from engine.client import resource_wire, wire
from engine.client.calls import PAGE
from engine.client.code_calls import Code
from engine.client.events import EventCalls
from engine.client.log_reads import When, log_query
from engine.client.resource_calls import Call
from engine.client.results import (
    FunctionFailed,
    FunctionOptions,
    InvokeOptions,
    Result,
    ref_of,
    request_of,
    result_of,
)
from engine.client.stored_calls import StoredCall
from engine.client.sync_attached import AttachedCalls
from engine.client.sync_layers import LayerCalls
from engine.client.sync_resources import ResourceCalls
from engine.client.sync_stored import StoredCalls
from engine.errors import NotFound, Throttled
from engine.model.function import Function
from engine.model.invocation import Completion, LogLine, Report
from engine.v1 import (
    code_pb2,
    code_pb2_grpc,
    functions_pb2,
    functions_pb2_grpc,
    invocations_pb2,
    invocations_pb2_grpc,
    logs_pb2_grpc,
    resources_pb2,
)

T = TypeVar("T")
OnLog = Callable[[LogLine], None]
_TOGETHER_S = 0.05
AHEAD_FRAMES = 16


class Stream:
    """Iterate over it for the chunks of an answer; `report` has what it cost once it has ended."""

    def __init__(self, client: Client, begin: Callable[[], Any], on_log: OnLog | None, timeout_s: float | None) -> None:
        self._client = client
        self._begin = begin
        self._on_log = on_log
        self._timeout_s = timeout_s
        self._call: Any = None
        self._closed = False
        self._completion: Completion | None = None

    @property
    def report(self) -> Report:
        """What it did and cost. Raises RuntimeError before the stream has ended."""
        if self._completion is None:
            raise RuntimeError("the report comes at the stream's end: read it first")
        return self._completion.report

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """The next chunk. Raises FunctionFailed at the end of one that failed, EngineError, TimedOut."""
        while self._completion is None:
            if self._closed:
                raise RuntimeError("the stream was closed")
            item = wire.item_from_frame(self._frame())
            if isinstance(item, bytes):
                return item
            if isinstance(item, LogLine) and self._on_log is not None:
                self._on_log(item)
            if isinstance(item, Completion):
                self._completion = item
                self.close()
                if item.error is not None:
                    raise FunctionFailed(item)
        raise StopIteration

    def read(self) -> bytes:
        """All that is left of the answer."""
        return b"".join(self)

    def text(self) -> Iterator[str]:
        """The chunks as text of UTF-8, characters never taken apart."""
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        for chunk in self:
            if text := decode(chunk):
                yield text
        if text := decode(b"", True):
            yield text

    def close(self) -> None:
        """Stop the function if it still runs. Closing twice is fine."""
        self._closed = True
        # Not kept: gRPC's own __del__ may wait for ever for a lock when it runs as late as the interpreter's end.
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frame(self) -> Any:
        """The next one, with which it begins."""
        if self._call is None:
            return self._client._answer(self._first, self._timeout_s)
        return self._client._answer(lambda: next(self._call), self._timeout_s, 0)

    def _first(self) -> Any:
        call = self._begin()
        frame = next(call)
        self._call = call
        return frame


class Conversation(Stream):
    """A stream whose input is written meanwhile: see AsyncConversation. A thread of its own reads AHEAD_FRAMES of the
    answer before they are asked for."""

    def __init__(
        self,
        client: Client,
        begin: Callable[[Iterator[bytes]], Any],
        on_log: OnLog | None,
        timeout_s: float | None,
    ) -> None:
        super().__init__(client, lambda: begin(self._input()), on_log, timeout_s)
        self._waiting: queue.Queue[bytes | None] = queue.Queue(1)
        self._frames: queue.Queue[Any] = queue.Queue(AHEAD_FRAMES)
        self._beginning = threading.Lock()
        self._reader: threading.Thread | None = None
        self._ended = False  # the last frame has come, or an error
        self._failure: Any = None
        self._over = False

    def send(self, chunk: bytes | str) -> None:
        """See AsyncConversation.send."""
        self._put(chunk.encode() if isinstance(chunk, str) else chunk)

    def end(self) -> None:
        """The input is over."""
        self._put(None)

    def close(self) -> None:
        """See Stream.close."""
        self._over = True
        super().close()
        if self._reader is not None:
            self._reader.join()

    def _start(self) -> None:
        with self._beginning:
            if self._reader is None and not self._over:
                self._frames.put(super()._frame())
                self._reader = threading.Thread(target=self._read_ahead, args=(self._call,), daemon=True)
                self._reader.start()

    def _read_ahead(self, call: Any) -> None:
        last: Any = None
        try:
            for frame in call:
                if frame.WhichOneof("frame") == "finished":
                    last = frame
                    break
                self._hand_over(frame)
        except grpc.RpcError as error:
            self._failure = last = error
        self._ended = True
        self._hand_over(last)

    def _hand_over(self, item: Any) -> None:
        while True:
            try:
                return self._frames.put(item, timeout=_TOGETHER_S)
            except queue.Full:
                if self._over:
                    return

    def _frame(self) -> Any:
        self._start()
        if self._reader is None:
            raise RuntimeError("the stream was closed")
        frame = self._frames.get()
        if frame is None or isinstance(frame, grpc.RpcError):
            self._frames.put(frame)  # for whoever asks again: it is the last
            if frame is None:
                raise StopIteration
            raise wire.error_from_rpc(frame, self._client._address, self._timeout_s)
        return frame

    def _put(self, item: bytes | None) -> None:
        self._start()
        while not (self._over or self._ended):
            try:
                return self._waiting.put(item, timeout=_TOGETHER_S)
            except queue.Full:
                continue
        if self._failure is not None and not self._over:
            raise wire.error_from_rpc(self._failure, self._client._address, self._timeout_s)
        raise BrokenPipeError("the function has ended, or the conversation was closed")

    def _input(self) -> Iterator[bytes]:
        while not (self._over or self._ended):
            if self._reader is None:  # what is taken from the queue could not be sent again
                time.sleep(0.001)
                continue
            try:
                chunk = self._waiting.get(timeout=_TOGETHER_S)
            except queue.Empty:
                continue
            if chunk is None:
                return
            yield chunk


class Client(ResourceCalls, LayerCalls, StoredCalls, AttachedCalls, EventCalls):
    """`with Client() as client`. See AsyncClient for what it takes and AsyncCalls for what the calls do."""

    def __init__(self, address: str | None = None, *, timeout_s: float = 30.0, retries: int = 3) -> None:
        self._address = wire.address_of(address)
        self._timeout_s = timeout_s
        self._retries = retries
        self._channel = grpc.insecure_channel(self._address, options=wire.CHANNEL_OPTIONS)
        self._functions = functions_pb2_grpc.FunctionServiceStub(self._channel)
        self._invocations = invocations_pb2_grpc.InvocationServiceStub(self._channel)
        self._tails = logs_pb2_grpc.LogServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection; calls under way are cancelled. Closing twice is fine."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def deploy(self, code: Code, name: str, **options: Unpack[FunctionOptions]) -> Function:
        """Create a function, or change the code and what is given of one that exists."""
        try:
            existing = self.get_function(name)
        except NotFound:
            return self.create_function(name, code, **options)
        return self.update_function(name, code=code, etag=existing.etag, **options)

    def create_function(self, name: str, code: Code, **options: Unpack[FunctionOptions]) -> Function:
        """See AsyncCalls.create_function."""
        config, _ = wire.config_to_proto(options)
        function = resources_pb2.Function(config=config, code_blob=f"blobs/{self._store(code)}")
        request = functions_pb2.CreateFunctionRequest(function_id=name, function=function)
        answer = self._answer(lambda: self._functions.CreateFunction(request, timeout=self._timeout_s))
        return wire.function_from_proto(answer.function)

    def update_function(
        self,
        name: str,
        *,
        code: Code | None = None,
        etag: str = "",
        **options: Unpack[FunctionOptions],
    ) -> Function:
        """See AsyncCalls.update_function."""
        sha256 = None if code is None else self._store(code)
        request = wire.update_request(ref_of(name).name, sha256, etag, options)
        answer = self._answer(lambda: self._functions.UpdateFunction(request, timeout=self._timeout_s))
        return wire.function_from_proto(answer.function)

    def get_function(self, name: str) -> Function:
        """Raises NotFound."""
        request = functions_pb2.GetFunctionRequest(name=ref_of(name).resource_name())
        answer = self._answer(lambda: self._functions.GetFunction(request, timeout=self._timeout_s))
        return wire.function_from_proto(answer.function)

    def list_functions(self) -> list[Function]:
        """All of them, by name."""
        functions: list[Function] = []
        request = functions_pb2.ListFunctionsRequest(page_size=PAGE)
        while True:
            page = self._answer(lambda: self._functions.ListFunctions(request, timeout=self._timeout_s))
            functions += [wire.function_from_proto(function) for function in page.functions]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return functions

    def delete_function(self, name: str, *, etag: str = "") -> None:
        """Raises NotFound, StaleEtag."""
        request = functions_pb2.DeleteFunctionRequest(name=f"functions/{ref_of(name).name}", etag=etag)
        self._answer(lambda: self._functions.DeleteFunction(request, timeout=self._timeout_s))

    def invoke(
        self,
        name: str,
        event: object = None,
        *,
        log_tail: bool = False,
        timeout_s: float | None = None,
        check: bool = True,
        **options: Unpack[InvokeOptions],
    ) -> Result:
        """See AsyncCalls.invoke."""
        fields = wire.invoke_fields(request_of(name, event, options, log=log_tail))
        message, left_s = invocations_pb2.InvokeRequest(**fields), _countdown(timeout_s)
        answer = self._answer(lambda: self._invocations.Invoke(message, timeout=left_s()), timeout_s)
        return result_of(wire.completion_from_proto(answer), check=check)

    def invoke_stream(
        self,
        name: str,
        event: object = None,
        *,
        on_log: OnLog | None = None,
        timeout_s: float | None = None,
        **options: Unpack[InvokeOptions],
    ) -> Stream:
        """See AsyncCalls.invoke_stream. `on_log` is called in the thread that reads."""
        fields = wire.invoke_fields(request_of(name, event, options, log=on_log is not None))
        message, left_s = invocations_pb2.InvokeStreamRequest(**fields), _countdown(timeout_s)
        return Stream(self, lambda: self._invocations.InvokeStream(message, timeout=left_s()), on_log, timeout_s)

    def converse(
        self,
        name: str,
        event: object = None,
        *,
        on_log: OnLog | None = None,
        timeout_s: float | None = None,
        **options: Unpack[InvokeOptions],
    ) -> Conversation:
        """See AsyncCalls.converse."""
        fields = wire.invoke_fields(request_of(name, event, options, log=on_log is not None, talk=True))
        left_s = _countdown(timeout_s)

        def begin(chunks: Iterable[bytes]) -> Any:
            def frames() -> Iterator[invocations_pb2.ConverseRequest]:
                yield invocations_pb2.ConverseRequest(start=invocations_pb2.ConverseStart(**fields))
                for chunk in chunks:
                    yield invocations_pb2.ConverseRequest(chunk=chunk)

            return self._invocations.Converse(frames(), timeout=left_s())

        return Conversation(self, begin, on_log, timeout_s)

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
    ) -> Iterator[LogLine]:
        """See AsyncCalls.logs."""
        query = log_query(request_id, limit, since, until, contains)
        request = wire.tail_request(ref_of(name).resource_name(), query, follow=follow)
        call: Any = self._tails.TailLogs(request, timeout=None if follow else self._timeout_s)
        try:
            while (answer := self._answer(lambda: next(call, None))) is not None:
                yield from wire.lines_from_proto(answer)
        finally:
            call.cancel()

    def _ask(self, call: StoredCall[T]) -> T:
        return self._make(call)

    def _make(self, call: Call[T] | StoredCall[T]) -> T:
        rpc, request = resource_wire.RPCS[call.method], resource_wire.request_of(call.method, call.fields)
        make = getattr(rpc.stub(self._channel), call.method)
        found: Any = []
        while rpc.paged:
            page = self._answer(lambda: make(request, timeout=self._timeout_s))
            found += rpc.read(page)
            if not page.next_page_token:
                return found  # type: ignore[no-any-return]
            request.page_token = page.next_page_token
        timeout_s = (5 if rpc.slow else 1) * self._timeout_s
        return rpc.read(self._answer(lambda: make(request, timeout=timeout_s)))  # type: ignore[no-any-return]

    def _upload(self, code: bytes) -> str:
        timeout_s = 5 * self._timeout_s
        answer = self._answer(lambda: self._functions.UploadCode(wire.upload_frames(code), timeout=timeout_s))
        return answer.code_blob.removeprefix("blobs/")

    def _download(self, resource_name: str) -> bytes:
        stub, request = code_pb2_grpc.CodeServiceStub(self._channel), code_pb2.DownloadCodeRequest(name=resource_name)
        timeout_s = 5 * self._timeout_s
        return self._answer(lambda: b"".join(frame.chunk for frame in stub.DownloadCode(request, timeout=timeout_s)))

    def _answer(self, call: Callable[[], T], timeout_s: float | None = None, retries: int | None = None) -> T:
        left = self._retries if retries is None else retries
        while True:
            try:
                return call()
            except grpc.RpcError as failed:
                error = wire.error_from_rpc(failed, self._address, timeout_s or self._timeout_s)
                if not isinstance(error, Throttled) or left <= 0:
                    raise error from None
            left -= 1
            time.sleep(error.retry_after_ms / 1000)


def _countdown(timeout_s: float | None) -> Callable[[], float | None]:
    """How much is left of a time from now on, at each moment."""
    until = None if timeout_s is None else time.monotonic() + timeout_s
    return lambda: None if until is None else max(until - time.monotonic(), 0.0)
