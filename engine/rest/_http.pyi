"""Plain HTTP requests past the HTTP server: native/http over the door (native/sched/door.h).

An ExpressConnection is the lower half of a connection, whose upper half is an HTTP server's protocol. What comes while
nothing is under way is looked at once: a plain request of a function that has something warm is submitted, everything
else is fed to the server, byte for byte and in its order. So is what is under way when something else happens to it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

class Express:
    """What the connections of a server share."""

    def __init__(
        self,
        capsule: object,
        status_lines: Mapping[int, bytes],
        state: Any,
        attached: Any,
        find: Callable[[str], tuple[bytes, bytes] | None],
        slow: Callable[[bytes, str, bytes, bool, str], bytes],
        stops: bool,
    ) -> None:
        """The door's capsule; an uvicorn.server.ServerState; what has another `revision` after each change of a URL;
        what finds the function of a URL and the name of its host, where a call of it is plain; what makes an answer of
        a result where C does not; whether a call ends with its client."""

    @property
    def taken(self) -> int:
        """How many requests were submitted, and below: were told of, and were handed over."""

    @property
    def told(self) -> int: ...
    @property
    def handed(self) -> int: ...
    @property
    def stops(self) -> bool: ...
    forget: Callable[[str], None] | None
    """Where it is not known here how calls that are handed over go on: told of one for which nobody waits."""

class ExpressConnection:
    """Half a connection. Of the other half it asks `feed(data)`, the server's own way; `resume(request_id, by_url,
    version)`, which makes what is fed next go on with a call that runs, and returns what is to be told of its end (its
    result, or the Call that stands for it, or None where there was no memory for one); `unheard()`, the same for a
    client who has left; `failed(error)`; `time_out()`, the first answer was sent; and to unset the server's timer."""

    resting: bool
    """The server has nothing under way, not even the beginning of a request. To be kept true by the other half."""
    timed: bool
    timed_by_server: bool
    """The server has set a timer for its idle connection."""

    def join(self, express: Express | None, transport: Any, client: str) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def adopt(self) -> None: ...
    def leave(self) -> None: ...
    def lost(self) -> None: ...
    @property
    def under_way(self) -> bool: ...
    @property
    def held(self) -> bytes | None:
        """The beginning of a request, of which the body is still to come."""

    def take_held(self) -> bytes: ...
    @property
    def active_ns(self) -> int: ...

def recognise(data: bytes) -> Any: ...
def event(data: bytes, client: str, domain: str, request_id: str, wall_ns: int, room: int = ...) -> bytes | None: ...
def answer(
    result: bytes,
    request_id: str,
    status_lines: Mapping[int, bytes],
    fields: Iterable[tuple[bytes, bytes]],
    version: str | None = ...,
    room: int = ...,
) -> bytes | None: ...
