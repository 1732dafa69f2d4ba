"""What a sandbox is told that is made ready ahead of any event, and how that failed where it did.

Such a sandbox runs its init phase as a run of its own: the same frames but for the first, and the same CPU and ways to
end (engine.sandbox.linux), by a longer clock. Leaves to others: when one is made ready, and tried again
(native/sched/provision.c).
Source: docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html and provisioned-concurrency.html.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from engine.errors import SandboxFault
from engine.model.outcome import Outcome
from engine.sandbox.api import Ending, Event, RunSink, SandboxSpec

TYPE_VARIABLE = "AWS_LAMBDA_INITIALIZATION_TYPE"
PROVISIONED = "provisioned-concurrency"

_ERROR_TYPES: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.TIMEOUT: "Sandbox.Timedout",
        Outcome.EXITED: "Runtime.ExitError",
        Outcome.OUT_OF_MEMORY: "Runtime.OutOfMemory",
    }
)
"""Of endings that have no error document."""
_TEXT_LIMIT_CHARS = 128


def nobody() -> None:
    """Who is told of the end of a sandbox that nobody watches."""


def preparation(spec: SandboxSpec) -> Event:
    """What takes the place of the first event."""
    return Event("", b"", spec.ahead_timeout_ms, "", ahead=True)


async def run_ahead(
    run: Callable[[Event, RunSink], Awaitable[Ending]],
    spec: SandboxSpec,
    sink: RunSink,
    slow_down: Callable[[], None],
    fail: Callable[[BaseException], None],
) -> Ending:
    """Run the init phase. What takes longer than one on demand may has no more CPU than was bought from then on:
    `slow_down` sees to that, and `fail` hears where it cannot."""

    def no_longer_init_cpu() -> None:
        try:
            slow_down()
        except SandboxFault as fault:
            fail(fault)

    timer = asyncio.get_running_loop().call_later(spec.init_timeout_ms / 1000, no_longer_init_cpu)
    try:
        return await run(preparation(spec), sink)
    finally:
        timer.cancel()


def provisioned(spec: SandboxSpec, ahead_timeout_ms: int) -> SandboxSpec:
    """The same sandbox, as one of a provisioned configuration's. Its variables say so."""
    environment = {**spec.environment, TYPE_VARIABLE: PROVISIONED}
    return replace(spec, environment=environment, ahead_timeout_ms=ahead_timeout_ms)


def why_not(ending: Ending) -> str:
    """The reason that a provisioned configuration's status gives for an init phase that ended like that: AWS's code,
    then the error's type, or how the process ended."""
    named = _ERROR_TYPES.get(ending.outcome, ending.outcome.value) if ending.error is None else ending.error.type
    # A function may name its errors as it likes.
    said = " ".join(named.split())[:_TEXT_LIMIT_CHARS]
    how = f" ({ending.exit_status})" if ending.exit_status else ""
    return f"FUNCTION_ERROR_INIT_FAILURE: {said}{how}"
