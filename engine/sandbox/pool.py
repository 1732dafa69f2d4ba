"""Makes Linux sandboxes: one fork of a zygote each, built in a thread so that the event loop does not wait for it.

Keeps what sandboxes share: the engine's cgroups, a zygote for each runtime, the mounts for /tmp, user ids. A sandbox's
user id is its own among those alive.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from engine.errors import HostUnfit, InvalidArgument, SandboxFault, Unavailable
from engine.runtimes.interpreters import Interpreter
from engine.sandbox import box, parts
from engine.sandbox.api import SandboxSpec
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.scratch import ScratchPool
from engine.zygote.host import Zygote

_COMMON_TMP_MB = 512


class LinuxPool:
    """Starts sandboxes on this host. Make and use it on the event loop's thread."""

    def __init__(
        self,
        *,
        instance_id: str,
        scratch_dir: Path,
        interpreters: Mapping[str, Interpreter],
        uid_base: int,
        uid_count: int = 4_096,
        tmp_pool_size: int = 4,
        tmpfs: bool = False,
        init_full_cpu: bool = True,
    ) -> None:
        self._host = box.Host(f"cleave-{instance_id}")
        self._interpreters = interpreters
        self._uid_base = uid_base
        self._uid_count = uid_count
        self._free_uids: list[int] = []
        self._next_uid = itertools.count()
        self._init_full_cpu = init_full_cpu
        self._names = itertools.count(1)
        self._zygotes: dict[str, Zygote] = {}
        self._zygote_locks: dict[str, asyncio.Lock] = {}
        # Few threads: building is a chain of short kernel calls, and one zygote forks one at a time anyway.
        self._builders = ThreadPoolExecutor(2, thread_name_prefix="cleave-build")
        self._janitor = ThreadPoolExecutor(2, thread_name_prefix="cleave-janitor")
        self._tmp_pool_size = tmp_pool_size
        self._scratch = ScratchPool(scratch_dir, target=tmp_pool_size, submit=self._janitor.submit, tmpfs=tmpfs)
        self._alive = 0
        self._closed = False

    async def open(self, runtime: str | None = None) -> int:
        """Remove what a dead predecessor left, make the engine's cgroups, start `runtime`'s zygote. Returns how many
        sandboxes were left over. Raises HostUnfit where limits cannot be written."""
        loop = asyncio.get_running_loop()
        if self._host.kind == "none":
            raise HostUnfit(
                "this host has no cgroups for memory, cpu and pids, so no limit could be enforced",
                fix="mount cgroup2 on /sys/fs/cgroup, or boot with it, and see `cleave doctor`",
            )
        try:
            await loop.run_in_executor(self._builders, self._host.open)
            left = await loop.run_in_executor(self._builders, self._host.sweep)
        except SandboxFault as fault:
            raise HostUnfit(
                f"the cgroups of this host cannot be used: {fault.message}", fix="run as root, see `cleave doctor`"
            ) from fault
        if runtime is not None:
            await self._zygote(runtime)
        self._janitor.submit(self._scratch.fill, _COMMON_TMP_MB, self._tmp_pool_size)
        return left

    @property
    def alive(self) -> int:
        """Sandboxes that are not wholly gone yet."""
        return self._alive

    @property
    def cgroup_directories(self) -> Mapping[str, str]:
        """The engine's directory in each cgroup hierarchy; a sandbox's leaf in it is called by its id."""
        return self._host.directories

    @property
    def zygote_pids(self) -> Mapping[str, int]:
        """The process of each zygote, by runtime."""
        return {runtime: zygote.pid for runtime, zygote in self._zygotes.items()}

    async def start(self, spec: SandboxSpec) -> LinuxSandbox:
        """Start one; see the protocol."""
        if self._closed:
            raise Unavailable("the engine is stopping", fix="try again when it has started")
        started_ns = time.monotonic_ns()
        slot = heapq.heappop(self._free_uids) if self._free_uids else next(self._next_uid)
        if slot >= self._uid_count:
            raise SandboxFault("user ids", 0, f"all {self._uid_count} are in use", fix="lower max_sandboxes")
        self._alive += 1
        name = f"{next(self._names)}"
        building = asyncio.ensure_future(self._build(spec, name, self._uid_base + slot))
        try:
            made = await asyncio.shield(building)
        except asyncio.CancelledError:
            # The thread goes on; what it makes is taken away when it is there.
            building.add_done_callback(partial(self._abandon, slot))
            raise
        except BaseException:
            self._give_back(slot)
            raise
        return LinuxSandbox(
            name,
            spec,
            made,
            started_ns=started_ns,
            init_full_cpu=self._init_full_cpu,
            janitor=self._janitor,
            on_closed=partial(self._give_back, slot),
        )

    async def close(self) -> None:
        """End the zygotes, give back the mounts, remove the engine's cgroups."""
        self._closed = True
        loop = asyncio.get_running_loop()
        for zygote in self._zygotes.values():
            await loop.run_in_executor(None, zygote.close)
        await loop.run_in_executor(None, partial(self._builders.shutdown, wait=True))
        await loop.run_in_executor(None, partial(self._janitor.shutdown, wait=True))
        self._scratch.close()
        await loop.run_in_executor(None, partial(self._host.sweep, True))

    async def _build(self, spec: SandboxSpec, name: str, uid: int) -> parts.Parts:
        for attempt in (1, 2):
            zygote = await self._zygote(spec.runtime)
            make = partial(
                parts.build,
                spec,
                name,
                uid,
                host=self._host,
                zygote=zygote,
                scratch=self._scratch,
                init_full_cpu=self._init_full_cpu,
            )
            try:
                return await asyncio.get_running_loop().run_in_executor(self._builders, make)
            except SandboxFault as fault:
                # A zygote that died is replaced, once: the fork it was asked for never happened.
                if fault.stage != "zygote" or attempt == 2:
                    raise
                await self._drop(spec.runtime, zygote)
        raise AssertionError("unreachable")

    async def _zygote(self, runtime: str) -> Zygote:
        zygote = self._zygotes.get(runtime)
        if zygote is not None:
            return zygote
        interpreter = self._interpreters.get(runtime)
        if interpreter is None:
            raise InvalidArgument(
                f"there is no {runtime} on this host", fix=f"use one of {', '.join(sorted(self._interpreters))}"
            )
        async with self._zygote_locks.setdefault(runtime, asyncio.Lock()):
            if runtime not in self._zygotes:
                zygote = Zygote(interpreter, uid_base=self._uid_base, uid_count=self._uid_count)
                # On this thread, which outlives it: see Zygote on the parent-death signal.
                zygote.spawn()
                await asyncio.get_running_loop().run_in_executor(None, zygote.wait_ready)
                self._zygotes[runtime] = zygote
        return self._zygotes[runtime]

    async def _drop(self, runtime: str, zygote: Zygote) -> None:
        if self._zygotes.get(runtime) is zygote:
            del self._zygotes[runtime]
            await asyncio.get_running_loop().run_in_executor(None, zygote.close)

    def _give_back(self, slot: int) -> None:
        heapq.heappush(self._free_uids, slot)
        self._alive -= 1

    def _abandon(self, slot: int, building: asyncio.Future[parts.Parts]) -> None:
        if building.cancelled() or building.exception() is not None:
            self._give_back(slot)
            return
        made = building.result()

        def bury() -> None:
            box.kill(made.pidfd)
            while box.reap(made.pidfd) is None:
                time.sleep(0.001)
            made.release()

        done = asyncio.get_running_loop().run_in_executor(self._janitor, bury)
        done.add_done_callback(lambda _: self._give_back(slot))
