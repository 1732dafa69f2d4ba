"""The door to the dispatch loop for a front in another process: native/relay on an asyncio loop.

The engine has a Near for each such process, which has a Far: a door to its own front, whose calls are submitted by the
Near to the engine's. What a Near cannot say in a few bytes it does not: a call that goes on in Python, or was not
begun, is the far front's request to make anew, and names its request id.
"""

import asyncio
from collections.abc import Callable
from typing import Any

class Far:
    """`fd` is a stream socket, not blocking, and stays the caller's. `standing` is what a front gets for a call that is
    to be asked for anew; `on_lost` is called when the engine is gone, after every call was handed so."""

    def __init__(
        self, fd: int, version: str, standing: Any, on_lost: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None: ...
    @property
    def under_way(self) -> int: ...
    def capsule(self) -> object:
        """A door as of native/sched/door.h. This has to be kept for as long as that."""

    def close(self) -> None: ...

class Near:
    """`capsule` is the engine's door. `function_of` says whose a URL is, by its id, at that moment: a function's name,
    or None; `on_lost` is called when the far end is gone or out of step, with why."""

    standing: dict[str, Any]
    """What goes on in Python, by request id: engine.sandbox.box.Call. Whoever asks for one takes it out."""

    def __init__(
        self,
        capsule: object,
        fd: int,
        function_of: Callable[[bytes], bytes | None],
        on_lost: Callable[[str], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None: ...
    @property
    def under_way(self) -> int: ...
    @property
    def told(self) -> int:
        """How many calls had a whole answer until now; and below: went on in Python."""

    @property
    def left(self) -> int: ...
    def forget(self, request_id: str) -> None:
        """Nobody will ask for this one."""

    def abandon(self) -> None:
        """Calls under way are cancelled, and are the far end's to ask for anew."""

    def leave(self, cancel: bool) -> None:
        """The descriptor is not used any more; calls under way are cancelled, or run to their end unheard."""

class Caller:
    """For tests: a native front that makes one call at a time."""

    def __init__(self, capsule: object) -> None: ...
    def submit(self, name: bytes, payload: bytes, future: asyncio.Future[Any]) -> str | None:
        """The request id; None where it is not taken. The future gets the answer, or what stands for the call."""

    def cancel(self) -> None: ...
