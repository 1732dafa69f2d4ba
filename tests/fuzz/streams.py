"""Hostile byte streams for the wire between engine and guest: valid ones, broken in the ways that break readers.

Everything comes from one seed, so that a failure is found again by its number.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from engine.guest import wire

KINDS = (*range(24), 255)
LENGTHS = (0, 1, 7, 8, 9, 255, 256, 65_535, 65_536, 65_537, 262_144, 262_145, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)
ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 1e308, "", "x", "\0", "\ud800", "a" * 5_000, [], {}, [[]], {"": None}, "=", "app.bye",
)  # fmt: skip
ODD_TEXTS = (
    b"", b"{", b"[" * 5_000, b'{"a":' * 2_000, b"nul", b"NaN", b"1" * 5_000, b'"\xff"', b'"\\ud800"', b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"), b"{}{}", b'{"errorType":1}', b'{"errorType":"\\ud800"}', b'{"errorType":"E","errorType":[]}',
    b'["errorType"]', b'"errorType"', b"\0" * 64,
)  # fmt: skip


class Streams:
    """An endless row of streams."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def mutate(self, frames: Sequence[bytes]) -> bytes:
        """The frames, whole or broken, as one stream."""
        made = [bytearray(frame) for frame in frames]
        for _ in range(self.chance.choice((0, 1, 1, 1, 2, 5))):
            self._break(made)
        stream = bytearray(b"".join(made))
        if stream and self.chance.random() < 0.3:
            del stream[self.chance.randrange(len(stream)) :]
        if stream and self.chance.random() < 0.2:
            for _ in range(self.chance.randint(1, 8)):
                stream[self.chance.randrange(len(stream))] = self.chance.randrange(256)
        return bytes(stream)

    def _break(self, frames: list[bytearray]) -> None:
        where = self.chance.randrange(len(frames) + 1)
        chosen = frames[where] if where < len(frames) and len(frames[where]) >= wire.HEADER.size else None
        match self.chance.randrange(8):
            case 0:
                frames.insert(where, bytearray(self.frame()))
            case 1 if chosen is not None:
                frames.insert(where, bytearray(chosen))
            case 2 if chosen is not None:
                frames.pop(where)
            case 3 if chosen is not None:
                struct.pack_into("<I", chosen, 0, self.chance.choice((*LENGTHS, max(0, len(chosen) - 9), len(chosen))))
            case 4 if chosen is not None:
                chosen[4] = self.chance.choice(KINDS)
            case 5 if chosen is not None:
                chosen[5:8] = self.chance.randbytes(3)
            case 6:
                self.chance.shuffle(frames)
            case _:
                frames.insert(where, bytearray(self.chance.randbytes(self.chance.randrange(40))))

    def frame(self) -> bytes:
        """Any frame: its length true, its body perhaps not what it should be."""
        body = self.chance.choice((b"", self.text(), self.chance.randbytes(self.chance.randrange(200))))
        return wire.frame(self.chance.choice(KINDS), body)

    def text(self) -> bytes:
        """What should be JSON and an object."""
        return self.chance.choice(ODD_TEXTS)

    def odd(self, document: dict[str, Any]) -> bytes:
        """A document as JSON, with some of its values replaced or gone, or something else."""
        return json.dumps(self.replaced(document)).encode() if self.chance.random() < 0.9 else self.text()

    def replaced(self, document: dict[str, Any]) -> dict[str, Any]:
        """A document with some of its values replaced or gone."""
        made = dict(document)
        for _ in range(self.chance.choice((0, 0, 1, 1, 2))):
            name = self.chance.choice([*made, "more"])
            if self.chance.random() < 0.3:
                made.pop(name, None)
            else:
                made[name] = self.chance.choice(ODD_VALUES)
        return made

    def pieces(self, stream: bytes) -> Iterator[bytes]:
        """The stream cut where it likes."""
        at = 0
        while at < len(stream):
            size = self.chance.choice((1, 3, 7, 8, 9, 64, 4_096, 65_536, len(stream)))
            yield stream[at : at + size]
            at += size


def parse(stream: bytes, limits: dict[int, int]) -> tuple[list[tuple[int, bytes]], bool]:
    """What a reader with these limits has to make of a stream: the frames up to its end or to the first that is over a
    limit, and whether it ended between two frames."""
    frames: list[tuple[int, bytes]] = []
    at = 0
    while len(stream) - at >= wire.HEADER.size:
        length, kind = wire.HEADER.unpack_from(stream, at)
        if length > limits.get(kind, -1):
            return frames, False
        end = at + wire.HEADER.size + length
        if end > len(stream):
            return frames, False
        frames.append((kind, stream[at + wire.HEADER.size : end]))
        at = end
    return frames, at == len(stream)
