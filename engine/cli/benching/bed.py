"""The test bed: an engine with functions to call, and an echo server beside it; and other engines of other settings.

Functions have names of their own and are deleted at the end, so that a running engine can be measured too.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import secrets
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from engine.cli.benching.processes import echo_server, own_engine, stopped_by_signals
from engine.cli.benching.targets import a_change
from engine.cli.client import CONTROL_TIMEOUT_S, UPLOAD_TIMEOUT_S, Engine, connected, failures_of
from engine.cli.options import Choices
from engine.v1 import functions_pb2, resources_pb2, urls_pb2

HANDLER = '''"""Returns what it gets: the least that a function can do, in each way to do it."""


def handler(event, context):
    return event


def stream(event, context):
    yield b'{"key1": "' + event["key1"].encode() + b'"}'


def flood(event, context):
    chunk = bytes(65_536)
    for _ in range(event):
        yield chunk


def talk(event, context):
    for chunk in event.stream:
        yield chunk
'''

TIMEOUT_MS = 900_000
"""A conversation lasts as long as its scenario."""

ENGINES: dict[str, Mapping[str, str]] = {
    "": {},
    "unparked": {"CLEAVE_PARKED_FLOOR": "0", "CLEAVE_PARKED_CEILING": "0"},
    "long-streams": {"CLEAVE_STREAM_LIMIT_MB": "1100"},
}
"""The settings of an engine by the name that a scenario calls it: the defaults, one that parks nothing, and one that
lets a gigabyte out of a function."""
CHUNK_BYTES = 1 << 20


@dataclass
class Bed:
    """An engine and an echo server, both up."""

    engine_address: str
    echo_address: str
    _engine: Engine
    http_address: str = ""  # of an engine of its own
    codes: Mapping[str, Callable[[], bytes]] = field(default_factory=lambda: {"": trivial_code})
    _token: str = field(default_factory=lambda: secrets.token_hex(4))
    _blobs: dict[str, str] = field(default_factory=dict)
    _hosts: dict[str, str] = field(default_factory=dict)
    _functions: dict[tuple[int, str, str, bool, int], str] = field(default_factory=dict)
    _changes: Iterator[int] = field(default_factory=itertools.count)

    def function(
        self, memory_mb: int, handler: str = "handler", code: str = "", *, own_layout: bool = False, copy: int = 0
    ) -> str:
        """The resource name of a function of this memory tier, with a handler of this code; made when first asked
        for. Those of different `copy` are alike and yet not the same."""
        key = (memory_mb, handler, code, own_layout, copy)
        if key not in self._functions:
            words = (str(memory_mb), handler, code, "own" if own_layout else "", str(copy) if copy else "")
            # Engines that do not know the field have no such functions: they are not asked for any.
            layout: dict[str, Any] = {"own_layout": True} if own_layout else {}
            name = "-".join(("cleave-bench", self._token, *filter(None, words)))
            response = self._engine.functions.CreateFunction(
                functions_pb2.CreateFunctionRequest(
                    function_id=name,
                    function=resources_pb2.Function(
                        config=resources_pb2.FunctionConfig(
                            handler=f"app.{handler}", memory_mb=memory_mb, timeout_ms=TIMEOUT_MS, **layout
                        ),
                        code_blob=self._blob(code),
                    ),
                ),
                timeout=CONTROL_TIMEOUT_S,
            )
            self._functions[key] = response.function.name
        return self._functions[key]

    def url(self, name: str, *, streamed: bool = False) -> str:
        """The host under which a function answers over HTTP; made when first asked for."""
        if name not in self._hosts:
            mode = urls_pb2.URL_INVOKE_MODE_RESPONSE_STREAM if streamed else urls_pb2.URL_INVOKE_MODE_BUFFERED
            request = urls_pb2.CreateUrlRequest(url=urls_pb2.Url(name=name, invoke_mode=mode))
            self._hosts[name] = self._engine.urls.CreateUrl(request, timeout=CONTROL_TIMEOUT_S).url.host
        return self._hosts[name]

    def renewer(self, name: str) -> Callable[[], None]:
        """A change of the function, after which no sandbox of it is warm: the next call is a cold start."""

        def renew() -> None:
            change = a_change(name, next(self._changes))
            self._engine.functions.UpdateFunction(change, timeout=CONTROL_TIMEOUT_S)

        return renew

    def clear(self) -> None:
        """Delete the functions."""
        self._hosts.clear()
        while self._functions:
            request = functions_pb2.DeleteFunctionRequest(name=self._functions.popitem()[1])
            with contextlib.suppress(grpc.RpcError):
                self._engine.functions.DeleteFunction(request, timeout=CONTROL_TIMEOUT_S)

    def _blob(self, code: str) -> str:
        if code not in self._blobs:
            data = self.codes[code]()
            header = functions_pb2.UploadCodeHeader(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
            frames = [functions_pb2.UploadCodeRequest(header=header)]
            for at in range(0, len(data), CHUNK_BYTES):
                frames.append(functions_pb2.UploadCodeRequest(chunk=data[at : at + CHUNK_BYTES]))
            answer = self._engine.functions.UploadCode(iter(frames), timeout=UPLOAD_TIMEOUT_S)
            self._blobs[code] = answer.code_blob
        return self._blobs[code]


class Beds:
    """One bed for each kind of engine, made when it is first asked for."""

    def __init__(self, stack: contextlib.ExitStack, codes: Mapping[str, Callable[[], bytes]]) -> None:
        self._stack = stack
        self._codes = codes
        self._echo = stack.enter_context(echo_server())
        self._beds: dict[str, Bed] = {}

    def bed(self, engine: str = "", choices: Choices | None = None) -> Bed:
        """The one of this engine of ENGINES, which is started, or which `choices` lead to. Raises Problem."""
        if engine not in self._beds:
            http_address = ""
            if choices is None:
                own = self._stack.enter_context(own_engine(settings=ENGINES[engine]))
                choices, http_address = Choices(address=own.grpc), own.http
            connection = self._stack.enter_context(connected(choices))
            self._stack.enter_context(failures_of("cannot measure", choices))
            bed = self._beds[engine] = Bed(choices.address, self._echo, connection, http_address, self._codes)
            self._stack.callback(bed.clear)
        return self._beds[engine]


@contextlib.contextmanager
def test_beds(codes: Mapping[str, Callable[[], bytes]] | None = None) -> Iterator[Beds]:
    """Beds that are gone with the context. `codes` are zips beside the trivial one, by the names in scenarios. Raises
    Problem."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped_by_signals())
        yield Beds(stack, {"": trivial_code, **(codes or {})})


def trivial_code() -> bytes:
    """HANDLER, zipped."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        # A fixed date: the same bytes each time.
        file.writestr(zipfile.ZipInfo("app.py"), HANDLER)
    return archive.getvalue()
