"""Links to stored zips that whoever has one may follow for ten minutes, and that only this engine can make.

Where a link leads, and who answers there, are the fronts' to say. Guarantees that a signature fits one zip and one end
of time alone, that it is compared in constant time, and that the key, made once, is the engine's alone: links survive a
restart, and end with the data directory.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from engine.errors import PermissionDenied
from engine.fabric.files import write_atomic

LINK_S = 600
"""How long a link leads somewhere: docs.aws.amazon.com/lambda/latest/api/API_FunctionCodeLocation.html."""
KEY_BYTES = 32
_AGAIN = "ask GetFunction for another: each is good for 10 minutes"


@dataclass(frozen=True, slots=True)
class Signed:
    """What a link carries beside the zip's SHA-256."""

    expires: str  # seconds since the epoch, as digits
    signature: str  # hex


class CodeLinks:
    """Signs links and checks them. Make one with `open`."""

    def __init__(self, key: bytes, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now

    @classmethod
    def open(cls, file: Path, now: Callable[[], float] = time.time) -> Self:
        """With the key in `file`; it is made where there is none, and where it is damaged. Blocks. Raises OSError."""
        key = file.read_bytes() if file.exists() else b""
        if len(key) != KEY_BYTES:
            key = secrets.token_bytes(KEY_BYTES)
            write_atomic(file, key)
        return cls(key, now)

    def sign(self, sha256: str) -> Signed:
        """For the zip with this SHA-256, from now on."""
        expires = str(int(self._now()) + LINK_S)
        return Signed(expires, self._signature(sha256, expires))

    def check(self, sha256: str, signed: Signed) -> None:
        """Raise PermissionDenied unless this engine made the link and its time is not over."""
        if not hmac.compare_digest(self._signature(sha256, signed.expires).encode(), signed.signature.encode()):
            raise PermissionDenied("The link's signature is not the engine's", fix=_AGAIN)
        if self._now() >= int(signed.expires):
            raise PermissionDenied("Request has expired", fix=_AGAIN)

    def _signature(self, sha256: str, expires: str) -> str:
        return hmac.digest(self._key, f"{sha256}\n{expires}".encode(), hashlib.sha256).hex()
