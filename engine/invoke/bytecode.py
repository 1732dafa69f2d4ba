"""Has the Python modules of each code and layer that functions use compiled once, ahead of cold starts, in a sandbox of
its own.

Compiling is most of what a start with a large package costs, and a fifth of one with a trivial module; a sandbox
cannot keep what it compiles. The code may be hostile to the compiler that reads it: so that runs in a sandbox with this
code, no environment of the function's and no network, and what comes out goes to sandboxes of the same code alone
(engine/registry/bytecode.py). None of the code is run.

Works in the background, one code at a time, when a function's code changes and when the engine starts. Guarantees:
nothing waits for it, and where it fails, cold starts compile as they did.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from engine.errors import EngineError, InvalidCode
from engine.guest import wire
from engine.model.function import Function
from engine.model.outcome import Outcome, StartKind
from engine.registry.api import BytecodeStore, Registry
from engine.sandbox.api import Ending, Event, Pool, SandboxSpec

TIME_LIMIT_MS = 120_000
"""The largest package takes half a minute of one vCPU."""
_ANSWER_LIMIT_BYTES = 536_870_912
_MEMORY_MB = 1_769  # one vCPU
_TMP_MB = 512


class _Due(NamedTuple):
    """What is to be compiled, and for which interpreter."""

    sha256: str
    runtime: str
    layer: bool  # one of several folders in one, whose files may hide each other


class BytecodeCompiler:
    """The worker. Make it on the event loop; it begins with the functions that there are."""

    def __init__(
        self,
        pool: Pool,
        code: BytecodeStore,
        registry: Registry,
        *,
        python_versions: Mapping[str, str],
        log: FilteringBoundLogger,
    ) -> None:
        """`python_versions` maps runtimes to the versions of their interpreters, such as "3.11.7"."""
        self._pool = pool
        self._code = code
        self._python_versions = python_versions
        self._log = log
        self._due: asyncio.Queue[_Due] = asyncio.Queue()
        self._asked: set[_Due] = set()  # in this engine's life: what failed is not tried again
        functions, _ = registry.list(limit=2**31)
        for function in functions:
            self._expect(function)
        registry.subscribe(lambda _, function: self._expect(function))
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Stop, and leave no sandbox."""
        self._worker.cancel()
        await asyncio.wait({self._worker})

    def _expect(self, function: Function | None) -> None:
        if function is None:
            return
        runtime = function.config.runtime
        python = self._python_versions.get(runtime)
        if not python:
            return
        layers = (_Due(layer.code_sha256, runtime, True) for layer in function.config.layers)
        for one in (_Due(function.code_sha256, runtime, False), *layers):
            if one not in self._asked and self._code.lacks_bytecode(one.sha256, python, layer=one.layer):
                self._asked.add(one)
                self._due.put_nowait(one)

    async def _work(self) -> None:
        while True:
            due = await self._due.get()
            sha256, runtime = due.sha256, due.runtime
            begun = time.monotonic()
            try:
                modules = await self._compile(due)
            except EngineError as error:
                self._log.warning("bytecode_failed", code_sha256=sha256, runtime=runtime, error=str(error))
            else:
                took_ms = round((time.monotonic() - begun) * 1000)
                self._log.info("bytecode_added", code_sha256=sha256, runtime=runtime, modules=modules, took_ms=took_ms)

    async def _compile(self, due: _Due) -> int:
        sha256, runtime = due.sha256, due.runtime
        spec = SandboxSpec(
            key=("", "", sha256),
            runtime=runtime,
            handler=wire.COMPILER,
            code_path=self._code.get(sha256).path,
            memory_mb=_MEMORY_MB,
            tmp_mb=_TMP_MB,
            environment={},
            forked=True,
        )
        event = Event(
            "", b'{"layer": true}' if due.layer else b"{}", TIME_LIMIT_MS, "", stream_limit_bytes=_ANSWER_LIMIT_BYTES
        )
        sandbox = await self._pool.start(spec)
        try:
            answer = _Answer()
            run = asyncio.ensure_future(sandbox.run(event, answer))
            run.add_done_callback(answer.ended)
            try:
                return await self._code.add_bytecode(sha256, self._python_versions[runtime], answer, layer=due.layer)
            finally:
                run.cancel()
                await asyncio.wait({run})
        finally:
            await sandbox.close()


class _Answer:
    """What the sandbox streams, as it is asked for: a sink for one side, an iterator for the other."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._taken: asyncio.Future[None] | None = None  # what holds the sandbox up
        self._changed = asyncio.Event()
        self._run: asyncio.Future[Ending] | None = None

    def started(self, kind: StartKind) -> None:
        """See RunSink."""

    def initialized(self, failure: Ending | None) -> None:
        """See RunSink."""

    def output(self, data: bytes) -> None:
        """The compiler's warnings are nobody's: see RunSink."""

    def chunk(self, data: bytes) -> asyncio.Future[None]:
        """See RunSink."""
        self._chunks.append(data)
        self._changed.set()
        if self._taken is None or self._taken.done():
            self._taken = asyncio.get_running_loop().create_future()
        return self._taken

    def ended(self, run: asyncio.Future[Ending]) -> None:
        """The sandbox's run is over."""
        self._run = run
        self._changed.set()

    def __aiter__(self) -> _Answer:
        return self

    async def __anext__(self) -> bytes:
        """Raises InvalidCode where the run did not end well, or what it raised."""
        while not self._chunks:
            if self._run is not None:
                outcome = self._run.result().outcome
                if outcome is not Outcome.OK:
                    raise InvalidCode(f"compiling the code in a sandbox ended with {outcome.value}")
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        data, self._chunks = b"".join(self._chunks), []
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)
        return data
