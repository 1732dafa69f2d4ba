"""CORS of function URLs: what a browser is told about a page's request, by the URL's own settings.

Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html#urls-cors and the Fetch standard. A
function's own CORS headers are replaced where the URL has settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.rest.messages import Request, Response

PREFIX = "access-control-"


def preflight(cors: Mapping[str, Any] | None, request: Request) -> Response | None:
    """The answer to a browser's question before a request; None if it is no such question, or the function's to
    answer."""
    if cors is None or request.method != "OPTIONS":
        return None
    if not request.header("origin") or not request.header("access-control-request-method"):
        return None
    headers = _allowed(cors, request)
    if headers:
        wanted = (("AllowMethods", "allow-methods"), ("AllowHeaders", "allow-headers"))
        headers += [(PREFIX + name, ",".join(cors[member])) for member, name in wanted if cors.get(member)]
        if cors.get("MaxAge") is not None:
            headers.append((f"{PREFIX}max-age", str(cors["MaxAge"])))
    return Response(200, headers)


def with_headers(
    cors: Mapping[str, Any] | None, request: Request, headers: Iterable[tuple[str, str]]
) -> list[tuple[str, str]]:
    """An answer's headers with those that the URL's settings call for."""
    if cors is None:
        return list(headers)
    kept = [(name, value) for name, value in headers if not name.startswith(PREFIX)]
    allowed = _allowed(cors, request)
    if allowed and cors.get("ExposeHeaders"):
        allowed.append((f"{PREFIX}expose-headers", ",".join(cors["ExposeHeaders"])))
    return kept + allowed


def _allowed(cors: Mapping[str, Any], request: Request) -> list[tuple[str, str]]:
    """The headers that let a page in; none if it is not let in."""
    origin = request.header("origin")
    origins = cors.get("AllowOrigins") or []
    if origin is None or not ("*" in origins or origin in origins):
        return []
    credentials = bool(cors.get("AllowCredentials"))
    everybody = "*" in origins and not credentials
    headers = [(f"{PREFIX}allow-origin", "*" if everybody else origin)]
    if not everybody:
        headers.append(("vary", "Origin"))
    if credentials:
        headers.append((f"{PREFIX}allow-credentials", "true"))
    return headers
