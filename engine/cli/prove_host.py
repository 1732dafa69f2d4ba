"""The host's side of `cleave doctor --prove`: what a sandbox must not see or reach, and what of it the host sees.

Listens on loopback only, on ports of its own and for the time of a question. Leaves nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil

from engine.cli.holder import own_folder
from engine.cli.prove_probes import HOST_PATHS

_LOOK_EVERY_S = 0.02
_GONE_WITHIN_S = 1.0
METADATA = "169.254.169.254"
PRIVATE = "10.255.255.254"
PUBLIC_6 = "2001:db8::1"
"""For documentation (RFC 3849): nothing is sent to it, since nothing has a way there."""


@dataclass
class Reachable:
    """What answers on the host while it listens."""

    addresses: list[tuple[str, int]]
    abstract: str
    met: int = 0  # connections that came

    def event(self) -> dict[str, Any]:
        """For the handler."""
        return {"addresses": self.addresses, "abstract": self.abstract}


@dataclass
class Host:
    """This machine, as the command sees it."""

    paths: list[str] = field(default_factory=list)
    pid: int = field(default_factory=os.getpid)

    @property
    def sees_all(self) -> bool:
        """Whether other users' processes are shown to this one: proc(5), hidepid."""
        return _name_of("1") != ""

    @contextlib.contextmanager
    def secret(self) -> Iterator[None]:
        """A file that everybody on the host can read is there, and among the `paths`."""
        with own_folder("cleave-prove-") as folder:
            folder.chmod(0o755)
            (folder / "secret").write_text("secret")
            self.paths = [path for path in (*HOST_PATHS, str(folder)) if os.path.lexists(path)]
            yield

    @contextlib.contextmanager
    def idle(self) -> Iterator[list[float]]:
        """How much of the CPUs' time nobody used, from 0 to 1, in the list when the body is done."""
        before = psutil.cpu_times()
        result: list[float] = []
        try:
            yield result
        finally:
            after = psutil.cpu_times()
            spent = sum(after) - sum(before)
            result.append((after.idle - before.idle) / spent if spent > 0 else 1.0)

    def watch(self, mark: str, done: Callable[[], bool]) -> int:
        """Wait for `done`; returns the most processes of that name that were seen at a time."""
        most = 0
        while not done():
            most = max(most, _count(mark))
            time.sleep(_LOOK_EVERY_S)
        return most

    def outlived(self, mark: str) -> int:
        """How many are there still. The kernel gets a moment to take their names away."""
        until = time.monotonic() + _GONE_WITHIN_S
        while (count := _count(mark)) and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)
        return count

    @contextlib.contextmanager
    def listening(self) -> Iterator[Reachable]:
        """Listen on loopback and on an abstract socket, and name the host's other addresses."""
        stop = threading.Event()
        with contextlib.ExitStack() as stack:
            name = f"cleave-prove-{secrets.token_hex(8)}"
            abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
            abstract.bind("\0" + name)
            servers = [abstract]
            addresses = []
            for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                with contextlib.suppress(OSError):  # a host without IPv6
                    server = stack.enter_context(socket.socket(family))
                    server.bind((address, 0))
                    servers.append(server)
                    addresses.append((address, int(server.getsockname()[1])))
            addresses += [(address, 22) for address in _own_addresses()]
            addresses += [(METADATA, 80), (PRIVATE, 80), (PUBLIC_6, 80)]
            reachable = Reachable(addresses, name)
            threads = []
            for server in servers:
                server.listen()
                server.settimeout(_LOOK_EVERY_S)
                threads.append(threading.Thread(target=_meet, args=(server, reachable, stop), daemon=True))
                threads[-1].start()
            try:
                yield reachable
            finally:
                stop.set()
                for thread in threads:
                    thread.join()


def _meet(server: socket.socket, reachable: Reachable, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            server.accept()[0].close()
            reachable.met += 1


def _own_addresses() -> list[str]:
    """The host's IPv4 addresses beyond loopback."""
    return [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family is socket.AF_INET and not entry.address.startswith("127.")
    ]


def _count(mark: str) -> int:
    return sum(_name_of(entry) == mark for entry in os.listdir("/proc") if entry.isdigit())


def _name_of(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""
