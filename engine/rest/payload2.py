"""A function URL's request as the event of payload format 2.0, and a function's result as the answer.

Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html. Guarantees that nothing a function gives
breaks the framing of the answer: what cannot be one is a BadResult.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import orjson

from engine.rest.messages import Request, Response

PRELUDE_END = b"\0" * 8
PRELUDE_LIMIT_BYTES = 65_536
_TEXT = re.compile(r"(text/.*|application/(.*\+)?(json|xml)|application/javascript)\s*(;.*)?", re.IGNORECASE)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_FRAMING = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "x-amzn-requestid"}
)
"""Headers that are the connection's and not the function's."""


class BadResult(Exception):
    """A function's result that cannot be an answer."""


def event(request: Request, body: bytes, *, path: str, url_id: str, domain: str) -> bytes:
    """The event, as JSON."""
    now = datetime.now(UTC)
    headers: dict[str, str] = {}
    for name, value in request.headers:
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    port = headers.get("host", "").rpartition(":")[2]
    headers |= {
        "x-forwarded-for": request.client,
        "x-forwarded-proto": "http",
        "x-forwarded-port": port if port.isdecimal() else "80",
    }
    query = request.query_string.decode("latin-1")
    document: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": url_id,
            "domainName": domain,
            "domainPrefix": url_id,
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.client,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request.id,
            "routeKey": "$default",
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1_000),
        },
        "isBase64Encoded": False,
    }
    if "cookie" in headers:
        document["cookies"] = [part.strip() for part in headers["cookie"].split(";")]
    if query:
        document["queryStringParameters"] = _parameters(query)
    if body:
        document |= _body(body, headers.get("content-type", ""))
    return orjson.dumps(document)


def answer(payload: bytes) -> Response:
    """The answer for a whole result. Raises BadResult."""
    try:
        result = orjson.loads(payload or b"null")
    except orjson.JSONDecodeError as error:
        raise BadResult(str(error)) from None
    if not isinstance(result, dict) or "statusCode" not in result:
        whole = result.encode() if isinstance(result, str) else b"" if result is None else orjson.dumps(result)
        return Response(200, [("content-type", "application/json")], whole)
    status, headers = head(result)
    body = result.get("body")
    if body is None:
        content = b""
    elif not isinstance(body, str):
        raise BadResult("the body is no string")
    elif result.get("isBase64Encoded"):
        try:
            content = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            raise BadResult("the body is no Base64") from None
    else:
        content = body.encode()
    return Response(status, headers, b"" if status in (204, 304) else content)


def head(result: Mapping[str, Any]) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers of an answer. Raises BadResult."""
    status = result.get("statusCode", 200)
    if isinstance(status, str) and status.isdecimal() and status.isascii():
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise BadResult("the status is none")
    given, cookies = result.get("headers") or {}, result.get("cookies") or []
    if not isinstance(given, dict) or not isinstance(cookies, list):
        raise BadResult("the headers or the cookies are none")
    pairs = [(str(name).lower(), _text(value)) for name, value in given.items()]
    pairs += [("set-cookie", _text(cookie)) for cookie in cookies]
    for name, value in pairs:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadResult(f"the header {name!a} is none")
    headers = [(name, value) for name, value in pairs if name not in _FRAMING]
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    return status, headers


def may_be_prelude(first: bytes) -> bool:
    """Whether these bytes may be the beginning of a prelude of which the end is still to come."""
    text, _, _ = first.partition(b"\0")
    if PRELUDE_END in first or len(first) > PRELUDE_LIMIT_BYTES or first[len(text) :].strip(b"\0"):
        return False
    return _prelude(text) is not None


def prelude(first: bytes) -> tuple[Mapping[str, Any] | None, bytes]:
    """What is in front of a streamed answer, an object of a status, headers and cookies; and the bytes behind it."""
    text, end, rest = first.partition(PRELUDE_END)
    found = _prelude(text) if end and len(text) <= PRELUDE_LIMIT_BYTES else None
    return (None, first) if found is None else (found, rest)


def _prelude(text: bytes) -> Mapping[str, Any] | None:
    if not text.startswith(b"{"):
        return None
    try:
        found: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if found.keys() <= {"statusCode", "headers", "cookies"} else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise BadResult("a header's value is no text")
    return str(value)


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _body(body: bytes, content_type: str) -> dict[str, Any]:
    if not content_type or _TEXT.fullmatch(content_type):
        try:
            return {"body": body.decode()}
        except UnicodeDecodeError:
            pass
    return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
