"""Pages of a list as https://google.aip.dev/158 has them: a bounded size, and a token that only its maker reads.

A token is URL-safe Base64 of a checksum and the name to go on after. The checksum finds what was cut, mistyped or made
up; it is no secret, for a token gives no access that a list does not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from bisect import bisect_right
from collections.abc import Sequence

from engine.errors import InvalidArgument

DEFAULT_SIZE = 50
LARGEST_SIZE = 1_000
_CHECK_BYTES = 6
_KIND = b"cleave page token 1\0"


def page_limit(page_size: int) -> int:
    """How many to list: 0 means the default and what is over the largest means the largest. Raises InvalidArgument
    for a negative size."""
    if page_size < 0:
        raise InvalidArgument(
            f"a page of {page_size} cannot be listed",
            fix=f"use 1 to {LARGEST_SIZE:,}, or 0 for {DEFAULT_SIZE}",
            fields={"page_size": "must not be negative"},
        )
    return min(page_size or DEFAULT_SIZE, LARGEST_SIZE)


def page_of(keys: Sequence[str], page_size: int, token: str) -> tuple[Sequence[str], str]:
    """Those of sorted keys that a request asks for, and the token of the next page. Raises InvalidArgument."""
    limit = page_limit(page_size)
    start = bisect_right(keys, page_start(token)) if token else 0
    here = keys[start : start + limit]
    return here, page_token(here[-1] if start + limit < len(keys) else "")


def page_token(after: str) -> str:
    """The token of the page that starts after a name; "" (the last page) stays ""."""
    if not after:
        return ""
    name = after.encode()
    return base64.urlsafe_b64encode(_checksum(name) + name).decode().rstrip("=")


def page_start(token: str) -> str:
    """The name that a token goes on after; "" stays "". Raises InvalidArgument for what page_token did not make."""
    if not token:
        return ""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        after = raw[_CHECK_BYTES:].decode()
        if after and page_token(after) == token:
            return after
    except (binascii.Error, ValueError):  # not ASCII, not Base64, not UTF-8
        pass
    raise InvalidArgument(
        "the page token is not one that this list gave out",
        fix="send next_page_token of the page before as it is, or nothing for the first page",
        fields={"page_token": "must be a next_page_token"},
    )


def _checksum(name: bytes) -> bytes:
    return hashlib.sha256(_KIND + name).digest()[:_CHECK_BYTES]
