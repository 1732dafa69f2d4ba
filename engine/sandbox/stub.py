"""A pool and sandboxes for the tests of other rooms: each event is answered by a Python callable in the same process.

Leaves to others: isolation; nothing is limited here but time. Guarantees, as engine.sandbox.api states them: a run
never overlaps with another of its sandbox (it raises AssertionError), ends by the event's timeout at the latest, and
is ended by `kill`; a sandbox that is over runs nothing more. It makes no tasks and counts what was done to it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from engine.errors import SandboxFault
from engine.model.invocation import FunctionError
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending, Event, ExpressSink, RunSink, SandboxSpec
from engine.sandbox.lifecycle import Lifecycle, SandboxState
from engine.sandbox.ready import nobody, preparation

Script = Callable[[Event, RunSink], Awaitable[Ending | bytes]]
"""Answers an event: an Ending, or the payload of one that is OK. What it raises comes out of `run` as it is."""

Init = Callable[[Event, RunSink], Awaitable[Ending | None]]
"""The init phase: an Ending with `init_failed` where it fails."""

START_US = 1_000
INIT_US = 2_000
HANDLER_US = 3_000


class Gate:
    """A place where a script waits until the test lets it go on."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._reached = asyncio.Condition()
        self.arrivals = 0

    async def passed(self) -> None:
        """Wait here until the gate is open."""
        async with self._reached:
            self.arrivals += 1
            self._reached.notify_all()
        await self._open.wait()

    async def reached(self, arrivals: int = 1) -> None:
        """Wait until so many have come, all in all."""
        async with self._reached:
            await self._reached.wait_for(lambda: self.arrivals >= arrivals)

    def open(self) -> None:
        """Let everybody through, from here on."""
        self._open.set()


async def echo(event: Event, sink: RunSink) -> bytes:
    """Answer with the event."""
    return event.payload


def ends(outcome: Outcome, *, reusable: bool = False, exit_status: str = "") -> Script:
    """A script that ends so at once."""

    async def script(event: Event, sink: RunSink) -> Ending:
        return Ending(outcome, reusable, exit_status=exit_status, handler_us=HANDLER_US)

    return script


def fails_init(outcome: Outcome, error: FunctionError | None = None, exit_status: str = "") -> Init:
    """An init phase that ends so at once."""

    async def init(event: Event, sink: RunSink) -> Ending:
        init_us, handler_us = (0, INIT_US) if event.covers_init else (INIT_US, 0)
        return Ending(
            outcome,
            False,
            error=error,
            init_us=init_us,
            handler_us=handler_us,
            exit_status=exit_status,
            init_failed=True,
        )

    return init


def behind(gate: Gate, script: Script = echo) -> Script:
    """A script that waits at the gate before it does what `script` does."""

    async def gated(event: Event, sink: RunSink) -> Ending | bytes:
        await gate.passed()
        return await script(event, sink)

    return gated


class StubSandbox:
    """Implements engine.sandbox.api.Sandbox. `script` may be exchanged between two runs."""

    def __init__(self, sandbox_id: str, spec: SandboxSpec, kind: StartKind, script: Script) -> None:
        self._id = sandbox_id
        self._spec = spec
        self._kind = kind
        self._scope: asyncio.Timeout | None = None
        self._running = False
        self._killed = False
        self.lifecycle = Lifecycle(SandboxState.READY)
        self.on_end: Callable[[], None] = nobody
        self.script = script
        self.init: Init | None = None
        self.refusing = False  # the next run fails before it has the event, as a broken socket would
        self.close_gate: Gate | None = None
        self.farewell: Gate | None = None  # what it waits for at its end, where it idles and has time
        self.farewell_ms = 0  # the time that it got
        self._hurried = asyncio.Event()
        self.runs: list[str] = []  # request ids it was given
        self.prepared = False
        self.closes = 0

    @property
    def id(self) -> str:
        return self._id

    @property
    def spec(self) -> SandboxSpec:
        return self._spec

    @property
    def kind(self) -> StartKind:
        return self._kind

    @property
    def dead(self) -> bool:
        return self.lifecycle.over

    async def run(self, event: Event, sink: RunSink) -> Ending:
        assert not self._running, f"{self._id} has an event already"
        if self.lifecycle.over:
            raise SandboxFault("send", 0, "the sandbox is over")
        if self.refusing:
            self.die()
            raise SandboxFault("send", 32, "Broken pipe")
        first = not (self.runs or self.prepared)
        if first:
            self.lifecycle.move(SandboxState.INITIALIZING)
        self.lifecycle.move(SandboxState.RUNNING)
        self._running = True
        self.runs.append(event.request_id)
        try:
            sink.started(self._kind if first else StartKind.WARM)
            async with asyncio.timeout(event.timeout_ms / 1000) as self._scope:
                if first:
                    failure = None if self.init is None else await self.init(event, sink)
                    sink.initialized(failure)
                    if failure is not None:
                        return self._ended(failure)
                answer = await self.script(event, sink)
        except TimeoutError:
            if self._scope is None or not self._scope.expired():
                raise
            outcome = Outcome.EXITED if self._killed else Outcome.TIMEOUT
            return self._ended(
                Ending(outcome, False, exit_status="signal: killed" if self._killed else "", handler_us=HANDLER_US)
            )
        except BaseException:
            self.die()
            raise
        finally:
            self._running = False
            self._scope = None
        if self._killed:
            return self._ended(Ending(Outcome.EXITED, False, exit_status="signal: killed"))
        if isinstance(answer, bytes):
            cold = (START_US, 0 if event.covers_init else INIT_US) if first else (0, 0)
            took_us = HANDLER_US + (INIT_US if first and event.covers_init else 0)
            answer = Ending(Outcome.OK, True, answer, None, *cold, handler_us=took_us, peak_memory_bytes=1 << 20)
        return self._ended(answer)

    async def prepare(self, sink: RunSink) -> Ending:
        assert not (self.runs or self.prepared), f"{self._id} is made ready twice"
        self.prepared = True
        self.lifecycle.move(SandboxState.INITIALIZING)
        sink.started(self._kind)
        event = preparation(self._spec)
        failure = None if self.init is None else await self.init(event, sink)
        if self._killed:
            failure = Ending(Outcome.CANCELLED, False)
        sink.initialized(failure)
        return self._ended(failure or Ending(Outcome.OK, True, init_us=INIT_US))

    def die(self) -> None:
        """End as by its own doing."""
        if self.lifecycle.end():
            asyncio.get_running_loop().call_soon(self.on_end)

    def express(self, head: bytes, payload: bytes, event: Event, sink: ExpressSink) -> bool:
        """It has no wire."""
        return False

    def kill(self) -> None:
        self._killed = True
        self._hurried.set()
        self.die()
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def close(self, grace_ms: int = 0) -> None:
        self.closes += 1
        self.on_end = nobody
        assert self.closes == 1, f"{self._id} is closed twice"
        assert not self._running, f"{self._id} is closed while it runs"
        idles = self.lifecycle.state is SandboxState.IDLE
        self.lifecycle.move(SandboxState.CLOSING)
        if idles and self.farewell is not None:
            self.farewell_ms = grace_ms
            await self._say_goodbye(self.farewell, grace_ms)
        if self.close_gate is not None:
            await self.close_gate.passed()
        self.lifecycle.move(SandboxState.DEAD)

    async def _say_goodbye(self, farewell: Gate, grace_ms: int) -> None:
        ways = [asyncio.ensure_future(way) for way in (farewell.passed(), self._hurried.wait())]
        await asyncio.wait(ways, timeout=grace_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)

    def _ended(self, ending: Ending) -> Ending:
        if not self.lifecycle.over:
            self.lifecycle.move(SandboxState.IDLE if ending.reusable else SandboxState.ENDED)
        return ending


class StubPool:
    """Implements engine.sandbox.api.Pool. `script` and `start_gate` hold for sandboxes started from then on."""

    def __init__(self, script: Script = echo, *, kind: StartKind = StartKind.FORK) -> None:
        self.script = script
        self.inits: list[Init | None] = []  # of the next sandboxes, in order; no more: the init phase does nothing
        self.kind = kind
        self.start_gate: Gate | None = None
        self.start_errors: list[Exception] = []  # raised by the next starts, in order
        self.sandboxes: list[StubSandbox] = []
        self.closed = False
        self._starts: Counter[str] = Counter()

    @property
    def alive(self) -> list[StubSandbox]:
        """Those of which something is left."""
        return [sandbox for sandbox in self.sandboxes if sandbox.lifecycle.state is not SandboxState.DEAD]

    async def start(self, spec: SandboxSpec) -> StubSandbox:
        if self.start_gate is not None:
            await self.start_gate.passed()
        if self.start_errors:
            raise self.start_errors.pop(0)
        name = spec.key[0]
        self._starts[name] += 1
        sandbox = StubSandbox(f"{name}-{self._starts[name]}", spec, self.kind, self.script)
        sandbox.init = self.inits.pop(0) if self.inits else None
        self.sandboxes.append(sandbox)
        return sandbox

    async def close(self) -> None:
        self.closed = True
