"""A sandbox's network: which kinds this engine offers, a namespace for each sandbox, and what went through it.

`Egress.NONE` is a namespace of its own with loopback up; every host has it. `Egress.INTERNET` is one with a link to the
engine's router (engine.sandbox.network_router), where this host can have one; where it cannot, asking for it is refused
with the reason. Namespaces come from pools (engine.sandbox.network_pool).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network

from engine.errors import EngineError, HostUnfit, SandboxFault, Unavailable
from engine.model.function import Egress
from engine.sandbox import box, network_host
from engine.sandbox.counts import Counts
from engine.sandbox.network_pool import Made, NamespacePool, NetworkCounts, at_once
from engine.sandbox.network_router import Router, remove_leftovers

DEFAULT_SUBNET = IPv4Network("10.213.0.0/16")
_COUNTERS_BYTES = 8_192
LINK_RATE_PER_S = 100.0  # those with a link take the kernel's lock of all interfaces, so fewer


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What the operator decides."""

    subnet: IPv4Network = DEFAULT_SUBNET
    resolvers: tuple[str, ...] = ()  # IPv4 addresses; empty: the host's own
    pool_size: int = 16  # namespaces ready, of each kind that is offered


@dataclass(slots=True)
class SandboxNetwork:
    """The network of one sandbox. `ns` is -1 where the clone makes it. Whoever holds it calls `release` once no process
    of the sandbox is left."""

    ns: int
    _made: Made
    _pool: NamespacePool
    _released: bool = False
    _traffic: tuple[int, int] = (0, 0)

    @property
    def metered(self) -> bool:
        """Whether it has a link, whose bytes are counted."""
        return self._made.counters >= 0

    def traffic(self) -> tuple[int, int]:
        """Bytes that came in and that went out over its link, refused ones too, headers of IP and Ethernet included;
        (0, 0) where it has no link."""
        if self._made.counters >= 0 and not self._released:
            self._traffic = _eth0(os.pread(self._made.counters, _COUNTERS_BYTES, 0))
        return self._traffic

    def release(self) -> None:
        """Let it go. Safe to call again."""
        if not self._released:
            self._released = True
            self._pool.give_back(self._made)


def _eth0(table: bytes) -> tuple[int, int]:
    """The columns of proc_net_dev(5): after the name eight for what came in, then eight for what went out."""
    for line in table.splitlines():
        name, _, rest = line.partition(b":")
        if name.strip() == b"eth0":
            columns = rest.split()
            return int(columns[0]), int(columns[8])
    return 0, 0


class Network:
    """All networks of one engine. `open`, `prepare` and `close` block for some 50 ms; `take` does where no namespace is
    ready, or no router.

    The router is built when it is known that a function has egress, or with the first sandbox that needs it: an engine
    whose functions have none changes nothing of the host's network."""

    def __init__(
        self,
        instance_id: str,
        settings: NetworkSettings,
        counts: Counts,
        put_off: Callable[[Callable[[], None]], None] = at_once,
        forking: Callable[[], int] = lambda: 0,
    ) -> None:
        """`put_off` calls what takes the start's time, which took a namespace, when that is over; `forking` tells how
        many starts are under way."""
        self._id = instance_id
        self._settings = settings
        self._problem: EngineError | None = HostUnfit("egress was not set up yet", fix="try again in a moment")
        self._building = threading.Lock()
        self._router: Router | None = None
        self._closed = False
        self._closed_pool = NamespacePool(
            lambda: Made(*box.net_make()),
            counts=counts,
            target=settings.pool_size,
            put_off=put_off,
            forking=forking,
        )
        self._open_pool = NamespacePool(
            self._link,
            counts=counts,
            target=settings.pool_size,
            forget=self._forget,
            rate_per_s=LINK_RATE_PER_S,
            put_off=put_off,
        )

    def open(self) -> None:
        """Remove what a dead predecessor left, and find out what this host can offer."""
        with contextlib.suppress(SandboxFault):  # no privilege: nothing can be left, and nothing is offered
            remove_leftovers(self._id)
        self._problem = network_host.unfit(self._settings.subnet, self._settings.resolvers)
        self._closed_pool.start()

    def refuse(self, egress: Egress) -> None:
        """Raise HostUnfit if this kind is not offered here."""
        if egress is Egress.INTERNET and self._problem is not None:
            raise HostUnfit(
                f"egress {egress.value!r} cannot be had on this host: {self._problem.message}",
                fix=f"{self._problem.fix}, then restart the engine; or set egress to {Egress.NONE.value!r}",
                metadata={"field": "config.egress"},
            )

    def prepare(self, egress: Egress) -> None:
        """Make what this kind needs, ahead of the first sandbox: it has a function. What fails is told to that sandbox,
        which tries again."""
        if egress is Egress.INTERNET and self._problem is None:
            with contextlib.suppress(EngineError):
                self._build_router()

    def take(self, egress: Egress) -> SandboxNetwork:
        """A fresh one. Raises HostUnfit, SandboxFault."""
        self.refuse(egress)
        pool = self._open_pool if egress is Egress.INTERNET else self._closed_pool
        if egress is Egress.INTERNET:
            self._build_router()
        made = pool.take()
        if made is None:
            made = self._link() if egress is Egress.INTERNET else Made(-1)
            pool.made_inline(made)
        return SandboxNetwork(made.ns, made, pool)

    def counts(self) -> dict[Egress, NetworkCounts]:
        """How many were made and removed of each kind."""
        return {Egress.NONE: self._closed_pool.counts, Egress.INTERNET: self._open_pool.counts}

    def close(self) -> None:
        """Take everything away: namespaces, router, the host's interface and table."""
        with self._building:
            self._closed = True
        self._closed_pool.close()
        self._open_pool.close()
        with self._building:
            if self._router is not None:
                self._router.close()
                self._router = None

    def _build_router(self) -> None:
        if self._router is not None:
            return
        with self._building:
            if self._closed:
                raise Unavailable("the engine is stopping", fix="try again when it has started")
            if self._router is None:
                self._router = Router(self._id, self._settings.subnet, resolvers=self._settings.resolvers)
                self._open_pool.start()

    def _link(self) -> Made:
        assert self._router is not None
        number, ns, counters = self._router.make()
        return Made(ns, counters, number)

    def _forget(self, made: Made) -> None:
        if self._router is not None:
            self._router.give_back(made.number)
