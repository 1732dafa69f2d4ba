"""A front over stub rooms, and raw bytes to and from its port."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson
import pytest

from tests.compat.conftest import front, rooms
from tests.compat.stub_rooms import Front

__all__ = ["front", "rooms"]

WAIT_S = 20


@dataclass(frozen=True)
class Answer:
    """One HTTP answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return self.headers.get("x-amzn-errortype", "")

    @property
    def message(self) -> str:
        document = orjson.loads(self.body)
        return str(document.get("message") or document["Message"])


@dataclass
class Wire:
    """A connection to a front. Reads answers that have a Content-Length."""

    port: int
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        self._reader = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, host: str = "127.0.0.1", headers: str = ""
    ) -> Answer:
        """One request with a Content-Length, and its answer. `headers` end in line ends."""
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        self.send(
            f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}{headers}\r\n".encode("latin-1") + (body or b"")
        )
        return self.answer(head_only=method == "HEAD")

    def answer(self, *, head_only: bool = False) -> Answer:
        status_line = self._reader.readline()
        assert status_line.startswith(b"HTTP/1.1 "), status_line
        headers: dict[str, str] = {}
        while (line := self._reader.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        length = 0 if head_only else int(headers.get("content-length", "0"))
        return Answer(int(status_line.split()[1]), headers, self._reader.read(length))

    def is_closed(self) -> bool:
        """Wait until the other side closes, and say whether it did so without another byte."""
        try:
            return self._reader.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self._reader.close()
        self.socket.close()


@pytest.fixture
def connect(front: Front, rooms: object) -> Iterator[Callable[[], Wire]]:
    wires: list[Wire] = []

    def connect() -> Wire:
        wires.append(Wire(front.port))
        return wires[-1]

    yield connect
    for wire in wires:
        wire.close()


@pytest.fixture
def wire(connect: Callable[[], Wire]) -> Wire:
    return connect()
