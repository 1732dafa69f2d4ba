"""Plain requests past the HTTP server: which function URLs are plain, answers that C does not make, and requests that
go on in Python with a call that runs already.

What is plain, and how it goes to a sandbox and back, is engine.rest._http's. Guarantees that what comes this way is
answered as any other request, by the same code wherever it is more than copying a result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from engine.model.invocation import Completion, Pending, Report
from engine.model.outcome import Outcome, StartKind
from engine.registry.attached import Attached
from engine.registry.urls import Urls, host_of
from engine.rest import payload2
from engine.rest._http import Express, ExpressConnection
from engine.rest.messages import ClientGone, Response
from engine.rest.urls import failed

__all__ = ["RESUMED", "Express", "ExpressConnection", "Resumed", "express", "plain_urls", "whole_answer"]

Find = Callable[[str], tuple[bytes, bytes] | None]
RESUMED = "cleave.resumed"
"""The extension of ASGI's scope under which an application finds the Resumed that a request goes on with."""


def express(
    capsule: object, state: ServerState, attached: Attached, region: str, *, stop_on_disconnect: bool
) -> Express:
    """What the connections of a server share; `capsule`: engine.sandbox.box.Door's."""
    find = plain_urls(attached, region)
    return Express(capsule, STATUS_LINE, state, attached, find, whole_answer, stop_on_disconnect)


def plain_urls(attached: Attached, region: str) -> Find:
    """What finds the function of a URL and the name of its host, where a call of it is plain."""
    urls = Urls(attached)

    def find(url_id: str) -> tuple[bytes, bytes] | None:
        url = urls.find(url_id)
        if url is None or url.qualifier or url.settings.get("Cors") is not None:
            return None
        if url.settings.get("AuthType") != "NONE" or url.settings.get("InvokeMode") != "BUFFERED":
            return None
        return url.function_name.encode(), host_of(url_id, region).encode()

    return find


def whole_answer(result: bytes, request_id: str, fields: bytes, by_url: bool, version: str) -> bytes:
    """An answer as it goes over the wire, for a result of a function URL's or of Invoke's."""
    if not by_url:
        headers = [("content-type", "application/json"), ("x-amz-executed-version", version)]
        response = Response(200, headers, result)
    else:
        try:
            response = payload2.answer(result)
        except payload2.BadResult:
            response = failed()
    lines = [f"{name}: {value}\r\n" for name, value in response.headers]
    lines.append(f"x-amzn-requestid: {request_id}\r\n")
    if response.status != 204:
        lines.append(f"content-length: {len(response.body)}\r\n")
    head = "".join(lines).encode("latin-1")
    return b"".join([STATUS_LINE[response.status], fields, head, b"\r\n", response.body])


class Resumed:
    """A request of which the function runs already, and the end of that run."""

    def __init__(
        self, request_id: str, version: str, *, by_url: bool, leave: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.request_id = request_id
        self.by_url = by_url
        self.version = version
        self._leave = leave
        self._ended: asyncio.Future[bytes | Pending | None] = loop.create_future()

    def end(self, found: bytes | Pending | None) -> None:
        """Its result; or what stands for it from here on; or None where there was no memory for that."""
        if not self._ended.done():
            self._ended.set_result(found)

    def gone(self) -> None:
        """Its client has left, and its run was stopped for that; nothing where it has ended."""
        if not self._ended.done():
            self._ended.set_exception(ClientGone())
            self._ended.exception()  # whoever waits for it is told; there may be nobody

    async def ended(self) -> bytes | Pending | None:
        """What `end` was told. Cancelled, it kills the sandbox. Raises ClientGone."""
        try:
            return await self._ended
        except asyncio.CancelledError:
            self._leave()
            raise

    async def completion(self) -> Completion:
        """How it ends. Cancelled, it kills the sandbox. Raises ClientGone."""
        found = await self.ended()
        if found is None:
            raise MemoryError("a call could not be gone on with")
        if isinstance(found, bytes):
            return Completion(Report(self.request_id, Outcome.OK, StartKind.WARM, 0, self.version), found)
        return await found.result()
