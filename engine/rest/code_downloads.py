"""Stored zips for whoever has a link to one: `Code.Location` of GetFunction and `Content.Location` of a layer.

    /code/<sha256>.zip?Expires=<seconds since the epoch>&Signature=<hex>

Signing is engine.registry.code_links'. Guarantees that nothing is looked up that no signature names, so that a path
leads to a zip of the store or nowhere, and that a zip of any size takes one piece of memory.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from urllib.parse import urlencode

from engine.errors import PermissionDenied
from engine.registry.api import CodeStore
from engine.registry.code_links import Signed
from engine.rest.messages import Request, StreamedResponse

_PATH = re.compile(r"/code/([0-9a-f]{64})\.zip")


def location(request: Request, code: CodeStore, sha256: str) -> str:
    """A link to a zip by the name under which the client reached the engine."""
    signed = code.links.sign(sha256)
    query = urlencode({"Expires": signed.expires, "Signature": signed.signature})
    return f"http://{request.header('host')}/code/{sha256}.zip?{query}"


def asked_for(request: Request) -> str:
    """The SHA-256 of the zip that a request's path names; "" for any other path."""
    found = _PATH.fullmatch(request.path)
    return found[1] if found else ""


def download(request: Request, code: CodeStore, sha256: str) -> StreamedResponse:
    """The zip, piece by piece; it ends where the client leaves. Raises PermissionDenied, NotFound."""
    query = request.query()
    given = dict(query)
    if len(query) != 2 or set(given) != {"Expires", "Signature"}:
        raise PermissionDenied("A zip is read by a signed link", fix="take the one that GetFunction gives")
    code.links.check(sha256, Signed(given["Expires"], given["Signature"]))
    size = code.get(sha256).size_bytes
    headers = [("content-type", "application/zip"), ("content-length", str(size))]
    body = code.read_zip(sha256) if request.method == "GET" else _nothing()
    return StreamedResponse(200, headers, body, ends_with_client=True)


async def _nothing() -> AsyncGenerator[bytes]:
    yield b""
