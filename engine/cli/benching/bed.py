"""The test bed: an engine with functions to call, and an echo server beside it.

Functions have names of their own and are deleted at the end, so that a running engine can be measured too.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import secrets
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc

from engine.cli.benching.processes import echo_server, own_engine, stopped_by_signals
from engine.cli.client import CONTROL_TIMEOUT_S, Engine, connected, failures_of
from engine.cli.options import Choices
from engine.v1 import functions_pb2, resources_pb2

HANDLER = '''"""Returns what it gets: the least that a function can do, in each way to do it."""


def handler(event, context):
    return event


def stream(event, context):
    yield b'{"key1": "' + event["key1"].encode() + b'"}'


def talk(event, context):
    for chunk in event.stream:
        yield chunk
'''

TIMEOUT_MS = 900_000
"""A conversation lasts as long as its scenario."""


@dataclass
class Bed:
    """An engine and an echo server, both up."""

    engine_address: str
    echo_address: str
    _engine: Engine
    _token: str = field(default_factory=lambda: secrets.token_hex(4))
    _code_blob: str = ""
    _functions: dict[tuple[int, str], str] = field(default_factory=dict)
    _changes: Iterator[int] = field(default_factory=itertools.count)

    def function(self, memory_mb: int, handler: str = "handler") -> str:
        """The resource name of a function of this memory tier with a handler of HANDLER; made when first asked for."""
        key = (memory_mb, handler)
        if key not in self._functions:
            response = self._engine.functions.CreateFunction(
                functions_pb2.CreateFunctionRequest(
                    function_id=f"cleave-bench-{self._token}-{memory_mb}-{handler}",
                    function=resources_pb2.Function(
                        config=resources_pb2.FunctionConfig(
                            handler=f"app.{handler}", memory_mb=memory_mb, timeout_ms=TIMEOUT_MS
                        ),
                        code_blob=self._code(),
                    ),
                ),
                timeout=CONTROL_TIMEOUT_S,
            )
            self._functions[key] = response.function.name
        return self._functions[key]

    def renewer(self, name: str) -> Callable[[], None]:
        """A change of the function, after which no sandbox of it is warm: the next call is a cold start."""

        def renew() -> None:
            config = resources_pb2.FunctionConfig(description=f"change {next(self._changes)}")
            change = functions_pb2.UpdateFunctionRequest(function=resources_pb2.Function(name=name, config=config))
            change.update_mask.paths.append("config.description")
            self._engine.functions.UpdateFunction(change, timeout=CONTROL_TIMEOUT_S)

        return renew

    def clear(self) -> None:
        """Delete the functions."""
        while self._functions:
            request = functions_pb2.DeleteFunctionRequest(name=self._functions.popitem()[1])
            with contextlib.suppress(grpc.RpcError):
                self._engine.functions.DeleteFunction(request, timeout=CONTROL_TIMEOUT_S)

    def _code(self) -> str:
        if not self._code_blob:
            data = _zip()
            header = functions_pb2.UploadCodeHeader(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
            frames = [
                functions_pb2.UploadCodeRequest(header=header),
                functions_pb2.UploadCodeRequest(chunk=data),
            ]
            self._code_blob = self._engine.functions.UploadCode(iter(frames), timeout=CONTROL_TIMEOUT_S).code_blob
        return self._code_blob


@contextlib.contextmanager
def test_bed(choices: Choices | None = None) -> Iterator[Bed]:
    """An engine of the bench's own, or the one that `choices` leads to. Raises Problem."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped_by_signals())
        echo = stack.enter_context(echo_server())
        if choices is None:
            choices = Choices(address=stack.enter_context(own_engine()))
        engine = stack.enter_context(connected(choices))
        stack.enter_context(failures_of("cannot measure", choices))
        bed = Bed(choices.address, echo, engine)
        stack.callback(bed.clear)
        yield bed


def _zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        # A fixed date: the same bytes each time.
        file.writestr(zipfile.ZipInfo("app.py"), HANDLER)
    return archive.getvalue()
