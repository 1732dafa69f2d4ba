"""Accepts asynchronous events and delivers them until it is killed: the victim of test_events_kill.

    python -m tests.faults.events_victim <data_dir> <step> <function fails: 0 or 1>

Kills itself, by SIGKILL, at the step that is named; at "any" it goes on until somebody else does. Says on stdout, a
line each: "accepted <request id>" and "ran <request id>". `main` with no step delivers what is there, and returns.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.config import Settings
from engine.events.room import Events
from engine.fabric.sqlite import Sqlite
from engine.model.invocation import Completion, FunctionError, InvokeRequest, Pending, Report, Sink
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome, StartKind
from engine.registry.api import ConfigChange
from engine.registry.attached import STORE_FILE as ATTACHED_FILE
from engine.registry.attached import Attached
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.registry.schema import MIGRATIONS, STORE_FILE
from tests.doors import RUNTIME, zip_of

STEPS = ("before the write", "after the write", "during the run", "after the run", "after it is forgotten")
ANY = "any"
FAILED = "after a failed run is written"


def say(line: str) -> None:
    """One line, at once."""
    os.write(1, f"{line}\n".encode())


class Victim:
    """The function, and the knife."""

    def __init__(self, step: str, fails: bool, say: Callable[[str], None]) -> None:
        self._step = step
        self._fails = fails
        self._say = say

    def at(self, step: str) -> None:
        """Die here, if it is here."""
        if step == self._step:
            os.kill(os.getpid(), signal.SIGKILL)

    def express(self, function_name: str, payload: bytes, request_id: str = "") -> Pending | None:
        return None

    async def invoke(self, request: InvokeRequest, sink: Sink | None = None) -> Completion:
        self.at("during the run")
        self._say(f"ran {request.request_id}")
        report = Report(request.request_id, Outcome.OK, StartKind.WARM, 128)
        self.at("after the run")
        return Completion(report, b"{}", FunctionError("Any", b"{}") if self._fails else None)


async def main(folder: Path, step: str, fails: bool, say: Callable[[str], None] = say) -> None:
    """One life of the room."""
    victim = Victim(step, fails, say)
    store = await Sqlite.open(folder / STORE_FILE, MIGRATIONS)
    code = await LocalCodeStore.open(folder / "code")
    registry = await FunctionRegistry.open(store, code, runtimes=[RUNTIME])
    if not registry.list(limit=1)[0]:
        blob = await code.add(_once(zip_of("def handler(event, context): pass")))
        await registry.create("f", ConfigChange(runtime=RUNTIME, handler="app.handler"), blob.sha256)
    attached = await Attached.open(folder / ATTACHED_FILE, registry)
    settings = Settings(data_dir=str(folder), async_retry_s=0)
    events = await Events.open(folder, registry, attached, victim, lambda: settings)
    _cut(events, victim)
    events.begin()

    async def send() -> None:
        request_id = await events.enqueue(InvokeRequest(FunctionRef("f"), b"{}"))
        say(f"accepted {request_id}")

    async def send_on() -> None:
        while True:
            await send()

    if step == ANY:
        await asyncio.gather(*(send_on() for _ in range(16)))
    elif step:
        await send()
    while events.queued(limit=1)[0]:
        await asyncio.sleep(0.001)
    for part in (events, attached, code, store):
        await part.close()


def _cut(events: Events, victim: Victim) -> None:
    """Put the knife beside each write."""
    store: Any = events._store
    add, forget, failed = store.add, store.forget, store.failed

    async def adding(event: Any) -> int:
        victim.at("before the write")
        found: int = await add(event)
        victim.at("after the write")
        return found

    async def forgetting(id: int) -> None:
        await forget(id)
        victim.at("after it is forgotten")

    async def failing(*known: Any) -> None:
        await failed(*known)
        victim.at(FAILED)

    store.add, store.forget, store.failed = adding, forgetting, failing


async def _once(data: bytes) -> Any:
    yield data


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1"))
