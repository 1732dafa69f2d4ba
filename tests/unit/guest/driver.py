"""Runs the guest for real: a fresh interpreter, the control stream on descriptor 3, one pipe for its log.

The zygote's fork is left out: the interpreter is started for one guest, imports the package as a zygote does, and calls
runtime.run(). All is driven from one thread, so that what is in the pipe when a frame arrives is known.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.guest import wire

LIMIT_S = 20.0
RESULT_LIMIT_BYTES = 6_291_556

IMPORT = """
import sys
sys.path.insert(0, {home!r})
import cleave_guest.runtime
sys.path.pop(0)
"""

BOOT = (
    IMPORT
    + """
import os
os.dup2(int(sys.argv[1]), 3)
os.dup2(3, 4)
os.closerange(5, 64)
{before}
cleave_guest.runtime.run()
"""
)


@cache
def pythons() -> tuple[str, ...]:
    """The interpreter that runs the tests, the oldest and the newest of this host from 3.9 on; all in a full run."""
    found = {sys.version_info[:2]: sys.executable}
    managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(9, 20):
        on_path = shutil.which(f"python3.{minor}")
        candidates = [*sorted(managed.glob(f"3.{minor}.*/bin/python")), *([Path(on_path)] if on_path else [])]
        for candidate in candidates:
            if (3, minor) not in found and _answers(str(candidate), minor):
                found[3, minor] = str(candidate)
    if os.environ.get("CLEAVE_COUNTS") != "full":
        found = {release: found[release] for release in {sys.version_info[:2], min(found), max(found)}}
    return tuple(found[release] for release in sorted(found))


def _answers(python: str, minor: int) -> bool:
    asked = subprocess.run(
        [python, "-I", "-S", "-c", "import sys; print(sys.version_info[1])"], capture_output=True, check=False
    )
    return asked.returncode == 0 and asked.stdout.strip() == str(minor).encode()


def name_of(python: str) -> str:
    """A short name of an interpreter for test ids."""
    parts = Path(python).parts
    return "own" if python == sys.executable else next(part for part in reversed(parts) if part[-1].isdigit())


def home(tmp_path: Path) -> str:
    """A folder from which the guest can be imported under its name inside a sandbox."""
    folder = tmp_path / "home"
    if not folder.exists():
        folder.mkdir()
        (folder / "cleave_guest").symlink_to(Path(wire.__file__).parent)
    return str(folder)


def program(tmp_path: Path, code: str) -> str:
    """A file with this code: from 3.13 on, `-c` itself imports linecache and with it re."""
    path = tmp_path / "boot.py"
    path.write_text(code)
    return str(path)


class Guest:
    """A guest of its own process. Use as a context manager: leaving it kills what is left of the process."""

    def __init__(self, tmp_path: Path, *, python: str = sys.executable, before: str = "") -> None:
        self.python = python
        self.task_root = tmp_path / "task"
        self.task_root.mkdir(exist_ok=True)
        self.log = b""
        self.farewells = 0
        ours, theirs = socket.socketpair()
        log_out, log_in = os.pipe()
        boot = program(tmp_path, BOOT.format(home=home(tmp_path), before=before))
        with theirs:
            self.process = subprocess.Popen(
                [python, "-I", "-S", "-B", boot, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log_in,
                stderr=log_in,
                pass_fds=[theirs.fileno()],
                env={"INHERITED": "1"},
            )
        os.close(log_in)
        os.set_blocking(log_out, False)
        self._log_out = log_out
        self._socket = ours
        self._socket.setblocking(False)
        self._received = b""

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._socket.close()
        os.close(self._log_out)

    def code(self, source: str | bytes, name: str = "app.py") -> None:
        """Write a file into the task root."""
        path = self.task_root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())

    def specify(
        self, handler: str = "app.handler", *, environment: dict[str, str] | None = None, **changes: Any
    ) -> None:
        """Send the SPEC frame."""
        spec = {
            "handler": handler,
            "environment": {"LAMBDA_TASK_ROOT": str(self.task_root), "TZ": ":UTC", **(environment or {})},
            "memory_mb": 256,
            "function_name": "f",
            "function_version": "$LATEST",
            "log_group_name": "/aws/lambda/f",
            "log_stream_name": "stream",
            "result_limit_bytes": RESULT_LIMIT_BYTES,
            "log_format": "Text",
            **changes,
        }
        self.send(wire.frame(wire.SPEC, json.dumps(spec).encode()))

    def event(self, payload: Any = None, *, raw: bytes | None = None, **meta: Any) -> None:
        """Send an EVENT frame: `payload` as JSON, or `raw` as it is."""
        full = {
            "request_id": "r1",
            "deadline_ms": int(time.time() * 1000) + 30_000,
            "timeout_ms": 30_000,
            "function_arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
            **meta,
        }
        head = json.dumps(full).encode()
        body = json.dumps(payload).encode() if raw is None else raw
        self.send(wire.frame(wire.EVENT, wire.META.pack(len(head)) + head + body))

    def send(self, data: bytes) -> None:
        """Send bytes as they are, reading the log meanwhile."""
        rest = memoryview(data)
        for _ in self._turns(writing=True):
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            if not rest:
                return

    def frame(self) -> tuple[int, bytes]:
        """The next frame, `log` holding all that was in the pipe when it had come; (0, b"") at the stream's end. Those
        that say that the function wants to hear of its end are only counted."""
        kind = wire.FAREWELL
        while kind == wire.FAREWELL:
            kind, body = self._frame()
            self.farewells += kind == wire.FAREWELL
        return kind, body

    def _frame(self) -> tuple[int, bytes]:
        for _ in self._turns():
            ended = self._receive()
            if len(self._received) >= wire.HEADER.size:
                length, kind = wire.HEADER.unpack_from(self._received)
                end = wire.HEADER.size + length
                if len(self._received) >= end:
                    body = self._received[wire.HEADER.size : end]
                    self._received = self._received[end:]
                    self._read_log()
                    return kind, body
            if ended:
                self._read_log()
                return 0, b""
        raise AssertionError("unreachable")

    def _receive(self) -> bool:
        """Take what has come; True at the end of the stream."""
        try:
            while piece := self._socket.recv(1_048_576):
                self._received += piece
        except BlockingIOError:
            return False
        except ConnectionResetError:
            pass
        return True

    def garbage(self, size: int) -> bytes:
        """The next bytes as they are, for a guest that breaks the protocol."""
        for _ in self._turns():
            self._receive()
            if len(self._received) >= size:
                return self._received[:size]
        raise AssertionError("unreachable")

    def written(self, text: bytes) -> None:
        """Wait until this is in the log, without reading a frame; what was written on that line has come too."""
        until = time.monotonic() + LIMIT_S
        while text not in self.log or (not self.log.split(text)[1] and not text.endswith(b"\n")):
            assert time.monotonic() < until, f"the log lacks {text!r}: {self.log!r}"
            select.select([self._log_out], [], [], LIMIT_S)
            self._read_log()

    def _turns(self, writing: bool = False) -> Iterator[None]:
        """One turn for each time that there is something to do, for LIMIT_S seconds at most."""
        until = time.monotonic() + LIMIT_S
        yield
        while time.monotonic() < until:
            watched: list[socket.socket | int] = [self._socket, self._log_out]
            select.select(watched, [self._socket] if writing else [], [], LIMIT_S)
            self._read_log()
            yield
        raise AssertionError(f"the guest does not answer; its log: {self.log!r}")

    def _read_log(self) -> None:
        try:
            while piece := os.read(self._log_out, 1_048_576):
                self.log = (self.log + piece).replace(wire.INIT_END, b"")
        except BlockingIOError:
            pass

    def start(self, source: str | None = None, payload: Any = None, **changes: Any) -> None:
        """Bring it to the point where the first answer is due: code, SPEC, EVENT, READY."""
        if source is not None:
            self.code(source)
        self.specify(**changes)
        self.event(payload)
        assert self.frame() == (wire.READY, b""), self.log

    def call(self, payload: Any = None, **meta: Any) -> Any:
        """One event and the value of its RESULT."""
        self.event(payload, **meta)
        return self.result()

    def result(self) -> Any:
        """The value of the RESULT frame that is due."""
        kind, body = self.frame()
        assert kind == wire.RESULT, (kind, body, self.log)
        return json.loads(body)

    def error(self, kind: int = wire.ERROR) -> dict[str, Any]:
        """The document of the ERROR frame that is due."""
        received, body = self.frame()
        assert received == kind, (received, body[:2000], self.log[:2000])
        assert len(body) <= wire.ERROR_LIMIT_BYTES
        document = json.loads(body)
        assert set(document) == {"errorMessage", "errorType", "requestId", "stackTrace"}
        return dict(document)

    def init_error(self, source: str | bytes | None, handler: str = "app.handler", **changes: Any) -> dict[str, Any]:
        """The document of a failed init phase; the guest has ended with status 1."""
        if source is not None:
            self.code(source)
        self.specify(handler, **changes)
        self.event()
        document = self.error(wire.INIT_ERROR)
        assert self.ended() == 1
        assert document["requestId"] == ""
        return document

    def ended(self) -> int:
        """The exit status of a guest that ends without a further frame; negative for a signal."""
        assert self.frame() == (0, b"")
        status = self.process.wait(LIMIT_S)
        self._read_log()
        return status

    def end(self) -> int:
        """End the stream, as the engine does when it has no use for the guest any more."""
        self.half_close()
        return self.ended()

    def half_close(self) -> None:
        """End the stream, whatever the guest does."""
        self._socket.shutdown(socket.SHUT_WR)
