"""A process that speaks HTTP for an engine: `python -m engine.rest.worker LISTENER LINK PLAIN REGION stops|goes-on`,
of which the first three are descriptors. Plain requests (engine.rest.express) go over PLAIN, unless there is no region;
all others, and plain ones of which the engine says so, over LINK.

It has no rights beyond the descriptors: where the engine is root, this is nobody, with no new rights to get. What is
imported later would have to be readable for that user, so all is imported before. It ends when the engine is gone, and
ignores the signals that are sent to whole process groups: the engine says when it is to leave.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys

import uvicorn.lifespan.off  # noqa: F401 (uvicorn imports it by name once it serves)
import uvloop
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from engine.fabric.process import raise_open_files
from engine.model.function import LATEST
from engine.registry.urls import host_of
from engine.rest.express import Express, whole_answer
from engine.rest.forward import Forward
from engine.rest.listening import HttpServer
from engine.rest.relay import Far

NOBODY = 65_534
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until told to leave."""
    listener, link, plain = (socket.socket(fileno=int(number)) for number in sys.argv[1:4])
    region, stops = sys.argv[4], sys.argv[5] == "stops"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise_open_files()
    _give_up_rights()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(listener, link, plain, region, stops))


class _AnyUrl:
    """Whose a URL is, the engine knows, and finds out at each call: nothing is kept here that could be out of date."""

    @property
    def revision(self) -> object:
        """Another each time."""
        return object()


async def _serve(listener: socket.socket, link: socket.socket, plain: socket.socket, region: str, stops: bool) -> None:
    leaving: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def leave(grace_s: float) -> None:
        if not leaving.done():
            leaving.set_result(grace_s)

    # With the engine gone there is nobody to answer for: what is open is closed by the end of this process.
    forward = Forward(leave, lambda: os._exit(0))
    for end in (listener, link, plain):
        end.setblocking(False)
    await forward.connect(link)
    server = HttpServer(forward)
    far = Far(plain.fileno(), LATEST, None, lambda: None, asyncio.get_running_loop())
    if region:

        def find(url_id: str) -> tuple[bytes, bytes]:
            return b"\0" + url_id.encode(), host_of(url_id, region).encode()

        lane = Express(far.capsule(), STATUS_LINE, server.server_state, _AnyUrl(), find, whole_answer, stops)
        lane.forget = forward.forget
        server.open_lane(lane)
    await server.begin(listener)
    forward.ready()
    await server.end(await leaving)
    far.close()


def _give_up_rights() -> None:
    prctl = ctypes.CDLL(None).prctl
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # which a change of user clears


if __name__ == "__main__":
    main()
