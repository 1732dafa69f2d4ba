"""Function URLs as they are called: by Host, `<id>.lambda-url.<region>.<domain>`, and for those without DNS by path,
`/lambda-url/<id>/…`.

What a request and a result look like is engine.rest.payload2's. Guarantees: a URL's id is all that lets anybody in, as
on AWS with AuthType NONE; one that asks for signatures lets nobody in, as nothing here checks them; a streamed answer
is held in constant memory, and one that its function does not finish is cut off, so that no client takes it for whole.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from typing import NamedTuple

import orjson

from engine.errors import NotFound
from engine.model.function import LATEST
from engine.model.invocation import EVENT_LIMIT_BYTES, Completion, InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome
from engine.registry.urls import FunctionUrl, host_of
from engine.registry.urls import Urls as UrlRoom
from engine.rest import cors, payload2
from engine.rest.answers import Answer, pieces
from engine.rest.guard import check_host
from engine.rest.invocations import not_run
from engine.rest.messages import Request, Response, StreamedResponse
from engine.rest.table import Rooms
from engine.sandbox.outlet import Outlet

_BY_HOST = re.compile(r"(?P<id>[a-z0-9]{32})\.lambda-url\.(?P<rest>[a-z0-9.-]+?)(:\d+)?", re.IGNORECASE)
_BY_PATH = re.compile(r"/lambda-url/(?P<id>[a-z0-9]{32})(?P<path>/.*)?")
_FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)
_UNSIGNED = (
    "Forbidden. This URL asks for signed requests (AuthType AWS_IAM), which this release does not check; use NONE"
)
_UNDECLARED = "application/octet-stream"


class Unfinished(Exception):
    """A function failed in the middle of an answer that a client has the beginning of."""


class Call(NamedTuple):
    """A request to a function URL. `url` is that URL, None if there is none."""

    url_id: str
    path: str
    domain: str
    url: FunctionUrl | None


class Urls:
    """Answers calls of function URLs."""

    def __init__(self, rooms: Rooms, event_limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self._invoker = rooms.invoker
        self._urls = UrlRoom(rooms.attached)
        self._region = rooms.documents.region
        self._stop_on_disconnect = rooms.stop_on_disconnect
        self._event_limit_bytes = event_limit_bytes

    def match(self, request: Request) -> Call | None:
        """The call that a request is, None if it is none. Raises PermissionDenied for the path form under a name that
        is not this machine's."""
        hosts = request.header_values("host")
        by_host = _BY_HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if by_host is not None:
            url_id = by_host["id"].lower()
            return Call(url_id, request.path, hosts[0].partition(":")[0], self._urls.find(url_id))
        by_path = _BY_PATH.fullmatch(request.path)
        if by_path is None:
            return None
        check_host(request)
        domain = host_of(by_path["id"], self._region)
        return Call(by_path["id"], by_path["path"] or "/", domain, self._urls.find(by_path["id"]))

    async def answer(self, call: Call, request: Request) -> Response | StreamedResponse:
        """Run the function. Raises EngineError for what is refused before it runs."""
        if call.url is None:
            return _refusal(None)
        settings = call.url.settings
        rules = settings.get("Cors")
        asked = cors.preflight(rules, request)
        if asked is not None:
            return asked
        if settings["AuthType"] != "NONE":
            return _refusal(_UNSIGNED)
        body = await request.body.read(self._event_limit_bytes, "InvokeFunction")
        event = payload2.event(request, body, path=call.path, url_id=call.url_id, domain=call.domain)
        streamed = settings["InvokeMode"] == "RESPONSE_STREAM"
        invocation = InvokeRequest(
            FunctionRef(call.url.function_name, call.url.qualifier or LATEST),
            event,
            request_id=request.id,
            outlet=Outlet() if streamed else None,
        )
        try:
            if streamed:
                response = await self._streamed(invocation)
            else:
                response = await self._buffered(invocation, request)
        except NotFound:
            return _refusal(_FORBIDDEN)  # its alias is gone
        return replace(response, headers=cors.with_headers(rules, request, response.headers))

    async def _buffered(self, call: InvokeRequest, request: Request) -> Response:
        running = self._invoker.invoke(call)
        return answer_of(await (request.body.unless_gone(running) if self._stop_on_disconnect else running))

    async def _streamed(self, call: InvokeRequest) -> Response | StreamedResponse:
        answer = await Answer.begin(self._invoker, call)
        chunks = answer.chunks()
        try:
            first = await anext(chunks, None)
            if first is None:
                completion = answer.completion()
                if completion.error is not None:
                    return failed()
                if completion.report.outcome is not Outcome.OK:
                    raise not_run(completion.report.outcome)
                first = b""
            status, headers = 200, [("content-type", _UNDECLARED)]
            while payload2.may_be_prelude(first) and (more := await anext(chunks, None)) is not None:
                first += more
            found, rest = payload2.prelude(first)
            if found is not None:
                status, headers = payload2.head(found)
            return StreamedResponse(status, headers, _rest(rest, chunks, answer), carried=answer)
        except payload2.BadResult:
            await chunks.aclose()
            return failed()
        except BaseException:
            await chunks.aclose()
            raise


async def _rest(first: bytes, chunks: AsyncGenerator[bytes], answer: Answer) -> AsyncGenerator[bytes]:
    try:
        if first:
            yield first
        async for chunk in chunks:
            yield chunk
        completion = answer.completion()
        if completion.error is not None or completion.report.outcome is not Outcome.OK:
            raise Unfinished
        for piece in pieces(completion.payload):
            yield piece
    finally:
        await chunks.aclose()


def _refusal(message: str | None) -> Response:
    headers: Iterable[tuple[str, str]] = [
        ("content-type", "application/json"),
        ("x-amzn-errortype", "AccessDeniedException"),
    ]
    return Response(403, headers, orjson.dumps({"Message": message}))


def answer_of(completion: Completion) -> Response:
    """The answer for a whole run."""
    if completion.error is not None:
        return failed()
    if completion.report.outcome is not Outcome.OK:
        raise not_run(completion.report.outcome)
    try:
        return payload2.answer(completion.payload)
    except payload2.BadResult:
        return failed()


def failed() -> Response:
    """AWS's whole answer for a function that failed."""
    return Response(502, [("content-type", "application/json")], b"Internal Server Error")
