"""The engine's side of a zygote: start it, know whether it lives, fork from it, end it.

Theory of operation: a zygote is exec'ed with one SOCK_SEQPACKET socket. It answers "ready" once, and then each
request with a pidfd (native/box/forkserver.c). One fork is under way at a time (native/engine/sandbox/_turns.pxi); a
start that finds the zygote dead starts another. Sandboxes are the engine's children, not the zygote's: its death ends
none of them. One that it cloned and could not tell of before it died is found by its journal, in which the kernel notes
each clone.

Start zygotes from a thread that lives as long as the engine: the kernel sends a sandbox its parent-death signal when
the thread that started its zygote exits (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple, TypeVar

from engine.errors import SandboxFault
from engine.runtimes.interpreters import Interpreter
from engine.sandbox import box
from engine.sandbox.counts import Counts, Resource
from engine.zygote.subids import SubIds

_ENGINE = Path(__file__).resolve().parent.parent
_READY_WITHIN_S = 30
_GUEST_PID = 2
"""What each sandbox's guest has in its namespace. A library that compares process ids, as every copy of OpenSSL does,
must see that it is in another process than the zygote."""
_WORD_BYTES = 4_096
_PID = struct.Struct("=i")
ZYGOTE_STAGE = "zygote"
"""The stage of a fault that another zygote would not have."""
PRELOAD_STAGE = "preload"
"""The stage of a fault that is a module's which was to be imported ahead: every other zygote would have it too."""
# Symbols are bound here once, and not in each fork, on pages that it would have to copy.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "LC_CTYPE": "C.UTF-8", "LD_BIND_NOW": "1"}
_LIBRARY_FOLDERS = ("/var/task", "/var/task/lib", "/opt/lib")
"""Where functions' code and layers have shared libraries, as LD_LIBRARY_PATH tells those that a function starts."""
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Numeric libraries start threads when they are loaded, which no fork has."""
T = TypeVar("T")


def _library_path() -> dict[str, str]:
    """What has the dynamic loader of each fork look into those folders, which it asks for its folders only when the
    zygote starts. One that is not there then it would never look at again, unless its name is relative (fillin_rpath in
    glibc's elf/dl-load.c): so they are named from anywhere. A folder that the host has is the host's, and left out."""
    up = "../" * 16
    folders = [up + folder.lstrip("/") for folder in _LIBRARY_FOLDERS if not os.path.exists(folder)]
    return {"LD_LIBRARY_PATH": ":".join(folders)} if folders else {}


def fork_module_path() -> Path:
    """The fork server's extension, built once for every Python."""
    folder = _ENGINE / "zygote"
    for suffix in (".abi3.so", *EXTENSION_SUFFIXES):
        if (folder / f"_fork{suffix}").exists():
            return folder / f"_fork{suffix}"
    raise SandboxFault(ZYGOTE_STAGE, 0, f"there is no _fork extension in {folder}", fix="build it: pip install .")


class ZygoteKey(NamedTuple):
    """What sandboxes of one zygote have in common: the runtime, and the modules that are imported ahead, sorted."""

    runtime: str
    preload: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.runtime} with {', '.join(self.preload)}" if self.preload else self.runtime


class Zygote:
    """One warm interpreter to fork from."""

    def __init__(
        self,
        interpreter: Interpreter,
        *,
        uid_base: int,
        uid_count: int,
        counts: Counts,
        fork_module: Path | None = None,
        own_user: bool = False,
        subids: SubIds | None = None,
        name: str = "cleave",
        preload: tuple[str, ...] = (),
        packages: tuple[str, ...] = (),
        ready_within_s: float = _READY_WITHIN_S,
    ) -> None:
        """`fork_module` is another build of the fork server's extension, for a test or a bench. `own_user`: in a user
        namespace, for an engine that is not root; `subids` are its users there. `name` is what the root is called in
        which all is that it forks. `preload` are modules to import ahead, from the standard library or
        the folders `packages`."""
        self.interpreter = interpreter
        self.preload = preload
        self.preload_bytes = 0
        """What the imported modules take, once for all sandboxes; known when it is ready."""
        self.forks = 0
        self._packages = packages
        self._ready_within_s = ready_within_s
        self._fork_module = fork_module
        self._ending = threading.Lock()
        self._turns: box.Turns | None = None
        self._uid_base = uid_base
        self._uid_count = uid_count
        self._own_user = own_user
        self._subids = subids
        self._name = name
        self._counts = counts
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._said = -1  # a memory file with what it printed before it served
        self._journal = -1  # a memory file in which the kernel notes the process of each fork

    def spawn(self) -> None:
        """Start its process; `wait_ready` has to follow. On a thread that lives as long as the engine. Raises
        SandboxFault, leaving nothing."""
        try:
            self._spawn()
        except OSError as error:
            self.close()
            raise SandboxFault(
                "zygote start", error.errno or 0, f"cannot start {self.interpreter.path}: {error}"
            ) from error

    def _spawn(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._said = os.memfd_create("zygote")
            self._journal = os.memfd_create("zygote")
            os.ftruncate(self._journal, _PID.size)
            self._turns = box.Turns(self._socket.fileno(), self._journal)
            self._process = self._exec(theirs.fileno())
            if self.pid <= _GUEST_PID:  # only where the engine is process 1: the next has another
                self.end()
                self._process = self._exec(theirs.fileno())
        self._counts.made(Resource.ZYGOTES)

    def _exec(self, sock: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                self.interpreter.path,
                *("-I", "-S", "-B"),
                str(_ENGINE / "guest" / "zygote.py"),
                str(sock),
                str(self._journal),
                str(self._fork_module or fork_module_path()),
                str(_ENGINE / "guest"),
                str(self._uid_base),
                str(self._uid_count),
                "host" if not self._own_user else "mapped" if self._subids else "own",
                self._name,
                ",".join(self.preload),
                ":".join(self._packages),
                *self.interpreter.prefixes,
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            pass_fds=[sock, self._journal],
            cwd="/",
            env={**_ENVIRONMENT, **_library_path(), **(_ONE_THREAD if self.preload else {})},
            start_new_session=True,  # a Ctrl-C in the engine's terminal is the engine's to answer
        )

    def wait_ready(self) -> None:
        """Wait until it serves, some 40 ms. Raises SandboxFault with what it printed; of PRELOAD_STAGE where a module
        cannot be imported ahead."""
        if self._socket is None:
            raise SandboxFault(ZYGOTE_STAGE, 0, "it was not started")
        end = time.monotonic() + self._ready_within_s
        importing, said = "", b""
        try:
            while not (said := self._hear(end)).startswith(b"ready"):
                word, _, rest = said.decode(errors="replace").partition(" ")
                if word == "map" and self._subids is not None:
                    self._subids.give(self.pid)
                    self._socket.send(b"mapped")
                elif word == "import":
                    importing = rest
                elif word == "refused":
                    module, _, why = rest.partition(" ")
                    raise _refused(module, why)
                elif importing:
                    late = time.monotonic() >= end
                    raise _refused(importing, self._how_it_ended(late))
                else:
                    raise self._never_ready()
        except SandboxFault:
            self._kill_group()
            self.close()
            raise
        self.preload_bytes = int(said.partition(b" ")[2] or b"0")
        self._socket.settimeout(None)

    def _kill_group(self) -> None:
        """Kill what a module has started, too. Only before the first fork: sandboxes begin in the same group."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _hear(self, end: float) -> bytes:
        """Its next word; b"" where it is gone or `end` has come."""
        assert self._socket is not None
        self._socket.settimeout(max(0.001, end - time.monotonic()))
        try:
            return self._socket.recv(_WORD_BYTES)
        except OSError:
            return b""

    def _how_it_ended(self, late: bool) -> str:
        if late:
            return f"is not there within {self._ready_within_s:g} s"
        # Not reaped: its number is that of its group, which may have others in it.
        pidfd = os.pidfd_open(self.pid)
        try:
            if not select.select([pidfd], [], [], 1)[0]:
                return "closes what it did not open"
            ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        finally:
            os.close(pidfd)
        assert ended is not None
        how = f"{'status' if ended.si_code == os.CLD_EXITED else 'signal'} {ended.si_status}"
        said = self._printed().rpartition("\n")[2]
        return f"ends the interpreter with {how}{': ' + said if said else ''}"

    def _never_ready(self) -> SandboxFault:
        said = self._printed() or "it said nothing"
        text = f"{self.interpreter.path} did not become a zygote: {said}"
        return SandboxFault(ZYGOTE_STAGE, 0, text, fix="run `cleave doctor`")

    def _printed(self) -> str:
        return os.pread(self._said, 4096, 0).decode(errors="replace").strip()[-1000:]

    @property
    def pid(self) -> int:
        """Its process id; 0 if it was not started."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether it can be asked for a fork."""
        process = self._process
        return process is not None and process.poll() is None

    def fileno(self) -> int:
        """Its socket. Raises SandboxFault if it was not started or is closed."""
        if self._socket is None:
            raise SandboxFault(ZYGOTE_STAGE, 0, "it is not running")
        return self._socket.fileno()

    def ask(self, fork: Callable[[box.Turns], T]) -> T:
        """Call `fork` with what gives it its turn. If it fails with ZYGOTE_STAGE the zygote is ended, and with it a
        sandbox that it made and told nobody of. Raises what `fork` raises, and the same if it is gone."""
        turns = self._turns
        if turns is None or not self.alive:
            raise SandboxFault(ZYGOTE_STAGE, 0, "it is gone")
        try:
            self.forks += 1
            return fork(turns)
        except SandboxFault as fault:
            if fault.stage == ZYGOTE_STAGE:
                with self._ending:
                    self.end()
                    self._bury()
            raise

    def _bury(self) -> None:
        """Kill and reap what it cloned for a request that it did not answer: this process's child all the same."""
        if self._turns is None or not self._turns.unanswered or self._journal < 0:
            return
        (pid,) = _PID.unpack(os.pread(self._journal, _PID.size, 0))
        if pid > 0:
            os.pwrite(self._journal, _PID.pack(0), 0)
            os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
            os.waitpid(pid, 0)

    def kill(self) -> None:
        """Kill it. Whoever waits for it or for an answer of it learns so."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Kill it and wait for that. The socket stays open until `close`."""
        self.kill()
        process = self._process
        if process is not None:
            process.wait()

    def close(self) -> None:
        """End it and wait for that; waits for a fork under way, which uses the socket. Safe to call again."""
        if self._turns is not None:
            self._turns.close()
        with self._ending:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            if self._process is not None:
                try:
                    self._process.wait(1)
                except subprocess.TimeoutExpired:
                    self.end()
                self._bury()
                self._process = None
                self._counts.removed(Resource.ZYGOTES)
            for fd in (self._said, self._journal):
                if fd >= 0:
                    os.close(fd)
            self._said = self._journal = -1


def _refused(module: str, why: str) -> SandboxFault:
    fix = "leave it out of the function's preload; the function can import it all the same"
    return SandboxFault(PRELOAD_STAGE, 0, f"{module} {why}", fix=fix)
