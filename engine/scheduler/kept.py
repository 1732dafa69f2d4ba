"""What is kept ready for one target: its sandboxes until their init phase is over, and what went wrong.

Leaves to others: how many there are, when a failed one is tried again (native/sched/provision.c), when one goes.
Guarantees: of a start that failed nothing is left, and why is known; what nobody wants any longer is killed in its init
phase.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.errors import EngineError, SandboxFault
from engine.sandbox.api import Ending, Pool, RunSink, Sandbox, SandboxSpec
from engine.sandbox.ready import why_not

Follow = Callable[[], RunSink]
"""Makes what follows one init phase."""


class Nobody:
    """Follows an init phase for nobody."""

    def started(self, kind: object) -> None: ...
    def initialized(self, failure: Ending | None) -> None: ...
    def output(self, data: bytes) -> None: ...
    def chunk(self, data: bytes) -> None: ...


class NotReady(EngineError):
    """An init phase ahead of any event failed by the function's own doing."""


class Kept:
    """Of one target."""

    def __init__(self, spec: SandboxSpec, follow: Follow = Nobody) -> None:
        self.spec = spec
        self.follow = follow
        self.trouble = ""  # why the last start failed
        self._initializing: set[Sandbox] = set()
        self._dropped = False

    async def ready(self, pool: Pool, end: Callable[[Sandbox], Awaitable[None]]) -> Sandbox:
        """One that idles, its init phase over. Raises NotReady, SandboxFault, HostUnfit; `end` has closed it then."""
        try:
            sandbox = await pool.start(self.spec)
            try:
                await self._prepare(sandbox)
            except BaseException:
                await end(sandbox)
                raise
        except Exception as error:
            self.trouble = str(error)
            raise
        self.trouble = ""
        return sandbox

    async def _prepare(self, sandbox: Sandbox) -> None:
        if self._dropped:
            raise SandboxFault("init", 0, "it is not wanted any longer")
        self._initializing.add(sandbox)
        try:
            ending = await sandbox.prepare(self.follow())
        finally:
            self._initializing.discard(sandbox)
        if not ending.reusable:
            raise NotReady(why_not(ending))
        if sandbox.dead:
            raise NotReady("FUNCTION_ERROR_INIT_FAILURE: it ended after its init phase")

    def drop(self) -> None:
        """None are wanted: end those in their init phase, which may take minutes."""
        self._dropped = True
        for sandbox in list(self._initializing):
            sandbox.kill()
