"""How fast a long answer comes over HTTP, beside uvicorn sending the same chunks: `python -m bench.url_streams`.

Theory of operation: a turn is one stream of each kind: through a function URL, by InvokeWithResponseStream, and from a
bare server (bench/asgi_server.py); their order rotates. All are read by the same client, which opens a connection,
sends one request, takes the chunked coding apart and keeps nothing. A ratio is that of the medians.

Guarantees that each stream had all of its bytes and its end; one that had not ends the run.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.asgi_server import STREAM, asgi_server
from bench.web import CHUNK_BYTES, CODE, MEMORY_MB, code
from engine.cli.benching.bed import Bed, test_beds
from engine.cli.problems import Problem
from engine.cli.render import print_table
from engine.config_address import split_address

URL, INVOKE = "url-stream-1769", "invoke-stream-1769"
ENGINE = "long-streams"
"""Of engine.cli.benching.bed.ENGINES."""
TURNS = 4
HEAD = ("A LONG ANSWER OVER HTTP", "MB", "TURNS", "MB/S", "BARE UVICORN, MB/S", "OF THE BARE ONE'S")
_WORDS = {URL: "function URL", INVOKE: "InvokeWithResponseStream"}
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Place:
    """What is asked for, and where."""

    address: str
    head: bytes
    body: bytes = b""
    framed: bool = False  # as an event stream: there are more bytes than the function's


def measure(bed: Bed, mb: int, turns: int = TURNS) -> list[dict[str, Any]]:
    """A row for a function URL and one for InvokeWithResponseStream. Raises Problem."""
    name = bed.function(MEMORY_MB, "stream", CODE)
    host = bed.url(name, streamed=True)
    path = f"/2021-11-15/functions/{name.removeprefix('functions/')}/response-streaming-invocations"
    took_s: dict[str, list[float]] = {URL: [], INVOKE: [], "bare": []}
    with asgi_server() as bare:
        for turn in range(-1, turns):
            size = mb if turn >= 0 else 1  # the first one is for starts
            event = b'{"mb": %d}' % size
            places = {
                URL: Place(bed.http_address, _head("GET", f"/?mb={size}", host)),
                INVOKE: Place(bed.http_address, _head("POST", path, bed.http_address, len(event)), event, framed=True),
                "bare": Place(bare, _head("GET", f"{STREAM}{size}", bare)),
            }
            order = list(places)
            for kind in (*order[turn % len(order) :], *order[: turn % len(order)]):
                begun = time.perf_counter()
                received = read_stream(places[kind])
                if turn >= 0:
                    took_s[kind].append(time.perf_counter() - begun)
                missing = size * (1 << 20) - received
                if missing > 0 or (missing and not places[kind].framed):
                    raise Problem("cannot measure", f"a stream of {size} MB came with {received} bytes", "cleave logs")
    speed = {kind: mb / statistics.median(took) for kind, took in took_s.items()}
    return [
        {
            "name": kind,
            "stream_mb": mb,
            "chunk_bytes": CHUNK_BYTES,
            "turns": turns,
            "http_mb_per_s": {"engine": round(speed[kind], 1), "bare": round(speed["bare"], 1)},
            "ratio": round(speed[kind] / speed["bare"], 3),
        }
        for kind in (URL, INVOKE)
    ]


def table(rows: Sequence[dict[str, Any]]) -> list[Sequence[str]]:
    """A line each, where it was measured."""
    return [
        (
            _WORDS[row["name"]],
            str(row["stream_mb"]),
            str(row["turns"]),
            *(f"{row['http_mb_per_s'][side]:,.0f}" for side in ("engine", "bare")),
            f"{row['ratio']:.2f}",
        )
        for row in rows
        if "http_mb_per_s" in row
    ]


def read_stream(place: Place) -> int:
    """Ask for it and read to its end; returns how many bytes its body had. Raises Problem."""
    with socket.create_connection(split_address(place.address)) as connection:
        connection.sendall(place.head + place.body)
        buffer = memoryview(bytearray(_READ_BYTES))
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(_READ_BYTES)
            if not piece:
                raise Problem("cannot measure", f"a stream has no head: {head[:200]!r}", "cleave logs")
            head += piece
        head, _, rest = head.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0] or b"transfer-encoding: chunked" not in head:
            raise Problem("cannot measure", f"a stream was refused: {(head + rest)[:500]!r}", "cleave logs")
        chunked = Chunked()
        chunked.feed(memoryview(rest))
        while not chunked.ended:
            count = connection.recv_into(buffer)
            if not count:
                raise Problem("cannot measure", f"a stream was cut off after {chunked.received} bytes", "cleave logs")
            chunked.feed(buffer[:count])
        return chunked.received


class Chunked:
    """HTTP's chunked coding, of which only the length is kept: RFC 9112 section 7.1, without extensions or trailers."""

    def __init__(self) -> None:
        self.received = 0
        self.ended = False
        self._left = 0  # of a chunk and the line's end behind it
        self._line = b""

    def feed(self, data: memoryview) -> None:
        """The next bytes."""
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            # A chunk's size has eight digits at most.
            line = self._line + bytes(data[at : at + 16])
            size, end, _ = line.partition(b"\r\n")
            if not end:
                at += len(line) - len(self._line)
                self._line = line
                continue
            at += len(size) + 2 - len(self._line)
            self._line = b""
            count = int(size, 16)
            self.received += count
            self._left = count + 2
            self.ended = not count


def _head(method: str, path: str, host: str, length: int | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.url_streams", description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=256, help="of each stream (default: 256)")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"(default: {TURNS})")
    asked = parser.parse_args(arguments)
    try:
        with test_beds({CODE: code}) as beds:
            rows = measure(beds.bed(ENGINE), asked.mb, asked.turns)
    except Problem as problem:
        print(problem.text(), file=sys.stderr)
        return int(problem.exit_code)
    print_table(HEAD, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
