"""Request ids: random UUIDs, cut from blocks of the kernel's randomness so that most need no system call."""

from __future__ import annotations

import os
from collections.abc import Callable

_UUID_BYTES = 16
_BLOCK_UUIDS = 256


class RequestIds:
    """Makes version 4 UUIDs in their usual form (RFC 9562). Not for forked processes: two would make the same."""

    __slots__ = ("_at", "_block", "_random")

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._block = b""
        self._at = 0

    def __call__(self) -> str:
        """The next one."""
        at = self._at
        if at == len(self._block):
            self._block = self._random(_UUID_BYTES * _BLOCK_UUIDS)
            at = 0
        self._at = at + _UUID_BYTES
        digits = self._block[at : self._at].hex()
        variant = "89ab"[int(digits[16], 16) & 3]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
