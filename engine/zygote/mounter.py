"""The engine's side of its mounter: a process in a user namespace that mounts for an engine that may not.

An engine that is not root cannot mount, and would have to leave the host's user namespace to be allowed. It stays where
it is instead, without a capability, and asks this process, which has them over what it makes and over nothing of the
host (engine.zygote.mounts). What comes back is a descriptor, as an engine that is root makes it itself.

Guarantees: one request at a time; a mounter that died is replaced by the next request; it ends with its engine.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from engine.errors import SandboxFault
from engine.zygote.host import fork_module_path
from engine.zygote.subids import SubIds

_PROGRAM = Path(__file__).resolve().parent / "mounts.py"
_STAGE = "user namespace"
_ANSWERS_WITHIN_S = 30
_ANSWER_BYTES = 1_024


class Mounter:
    """Thread-safe. Nothing runs before `open` or the first request."""

    def __init__(self, subids: SubIds | None = None) -> None:
        """`subids`: what its namespace has beside the engine's own ids."""
        self._subids = subids
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start it, some 30 ms, and see whether a sandbox can be had in a user namespace. Raises SandboxFault, with
        nothing left running."""
        try:
            self._ask(b"try", n_fds=0)
        except BaseException:
            self.close()
            raise

    def code(self, path: bytes, nothing: bytes | None = None) -> int:
        """The folder, read-only, as a detached mount: see box.code_mount."""
        return self._ask(b"\0".join(filter(None, (b"code", path, nothing))))[0]

    def merged(self, paths: Sequence[bytes], nothing: bytes) -> int:
        """Folders as one, the first on top: see box.merged_mount."""
        return self._ask(b"\0".join((b"merged", nothing, *paths)))[0]

    def tmpfs(self, size_bytes: int, files: int) -> int:
        """An empty /tmp in memory, as a detached mount."""
        return self._ask(b"tmpfs\0%d\0%d" % (size_bytes, files))[0]

    def close(self) -> None:
        """End it. Safe to call again."""
        with self._lock:
            self._end()

    def _ask(self, request: bytes, *, n_fds: int = 1) -> list[int]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._start()
            assert self._socket is not None
            try:
                self._socket.send(request)
                return self._answer(n_fds)
            except OSError as error:
                self._end()
                raise SandboxFault(_STAGE, error.errno or 0, f"the mounter does not answer: {error}") from error

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_ANSWERS_WITHIN_S)
        with theirs:
            program = [sys.executable, "-I", "-S", "-B", str(_PROGRAM), str(theirs.fileno()), str(fork_module_path())]
            program.append("mapped" if self._subids else "own")
            try:
                self._process = subprocess.Popen(
                    program,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    cwd="/",
                    env={"LC_CTYPE": "C.UTF-8"},
                    start_new_session=True,
                )
            except OSError as error:
                self._end()
                raise SandboxFault(_STAGE, error.errno or 0, f"cannot start {sys.executable}: {error}") from error
        try:
            if self._subids is not None:
                self._map(self._subids)
            self._answer(0)
        except OSError as error:
            self._end()
            raise SandboxFault(_STAGE, error.errno or 0, f"the mounter did not start: {error}") from error
        except SandboxFault:
            self._end()
            raise

    def _map(self, subids: SubIds) -> None:
        assert self._socket is not None
        assert self._process is not None
        said = self._socket.recv(_ANSWER_BYTES)
        if said != b"map":
            raise BrokenPipeError(said.decode(errors="replace") or "it is gone")
        subids.give(self._process.pid)
        self._socket.send(b"mapped")

    def _answer(self, n_fds: int) -> list[int]:
        """Raises SandboxFault with what the kernel said, OSError where the mounter is gone."""
        assert self._socket is not None
        data, fds, _, _ = socket.recv_fds(self._socket, _ANSWER_BYTES, 1)
        for fd in fds:
            os.set_inheritable(fd, False)
        if data == b"ok" and len(fds) == n_fds:
            return fds
        for fd in fds:
            os.close(fd)
        number, _, text = data.partition(b"\0")
        if not number.isdigit():
            raise BrokenPipeError("it is gone")
        stage, _, what = text.decode(errors="replace").partition(": ")
        raise SandboxFault(stage, int(number), what)

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
