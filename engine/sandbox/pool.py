"""Makes Linux sandboxes: one fork of a zygote each, built in a thread so that the event loop does not wait for it.

Keeps what sandboxes share: the engine's cgroups, a zygote for each runtime, the mounts for /tmp, user ids. A sandbox's
user id is its own among those alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.errors import EngineError, SandboxFault, Unavailable
from engine.model.function import Egress, FunctionConfig
from engine.model.host import ZygoteFound
from engine.model.outcome import StartKind
from engine.runtimes.interpreters import Interpreter
from engine.sandbox import box, parts
from engine.sandbox.api import SandboxSpec
from engine.sandbox.code_mounts import CodeMounts
from engine.sandbox.counts import Counts, Happening, Resource
from engine.sandbox.cpu import AS_LAMBDA, CpuRules
from engine.sandbox.demand import ParkSettings
from engine.sandbox.janitor import Janitor, tell
from engine.sandbox.lane import LoopLane
from engine.sandbox.leaves import LeafPool
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.means import UID_COUNT, Means, find_means
from engine.sandbox.messages import spec_frame
from engine.sandbox.network import Network, NetworkSettings
from engine.sandbox.network_pool import NetworkCounts
from engine.sandbox.parked_pool import ParkedPool
from engine.sandbox.parking import Parked, Shape, assign, assigners, specify, unassigned, wait_parked
from engine.sandbox.refills import Refills
from engine.sandbox.scratch import ScratchPool
from engine.sandbox.scratch_choice import TmpBackend
from engine.sandbox.scratch_user import choose_tmp
from engine.sandbox.strays import end_strays
from engine.sandbox.timeline import Timeline
from engine.sandbox.uids import Uids
from engine.zygote.host import ZYGOTE_STAGE, Zygote, ZygoteKey
from engine.zygote.keeper import Zygotes, ZygoteSettings

_COMMON_TMP_MB = 512
_COMMON_MEMORY_MB = 128
_ZYGOTE_TRIES = 5
_BUILDERS = 6
_TAKEN_AWAY_WITHIN_S = 5.0


@dataclass(slots=True)
class _Made:
    """What a start has made, before anybody watches it."""

    slot: int  # of its user id
    parts: parts.Parts
    kind: StartKind
    unsent: bytes  # what its guest has to have before an event
    cpu_us: int = 0  # used before it was assigned


class LinuxPool:
    """Starts sandboxes on this host. Make and use it on the event loop's thread."""

    def __init__(
        self,
        *,
        instance_id: str,
        scratch_dir: Path,
        interpreters: Mapping[str, Interpreter],
        uid_base: int,
        uid_count: int = UID_COUNT,
        tmp_pool_size: int = 8,
        tmp_backend: TmpBackend = "auto",
        leaf_pool_size: int = 8,
        tmp_encryption: bool = True,
        tmp_reserve: bool = False,
        accept_weaker: Collection[str] = (),
        janitors: int = 4,
        cpu: CpuRules = AS_LAMBDA,
        network: NetworkSettings | None = None,
        park: ParkSettings | None = None,
        zygotes: ZygoteSettings | None = None,
        own_process: bool = False,
        fork_module: Path | None = None,
    ) -> None:
        """`own_process`: the process and its main thread, which is the event loop's, are the engine's alone: it may
        change what a thread shares with others. `fork_module` is another build of what zygotes load, for a bench."""
        self._fork_module = fork_module
        self._name = f"cleave-{instance_id}"
        self._host = box.Host(self._name)
        self._find_means = partial(find_means, self._name, accept_weaker, uid_base=uid_base, uid_count=uid_count)
        self._means: Means | None = None
        self.code = CodeMounts(scratch_dir / "code")
        self._interpreters = interpreters
        self._uids = Uids(uid_base, uid_count)
        self._cpu = cpu
        self._names = itertools.count(1)  # of leaves, and so of sandboxes
        # As many as a burst keeps at work: half of what they do is waiting, for the zygote and for a loop device.
        self._builders = ThreadPoolExecutor(_BUILDERS, thread_name_prefix="cleave-build")
        # For assigning alone: each of its threads leaves the root that it shares with the others.
        self._assigners = assigners()
        self._parkers = ThreadPoolExecutor(1, thread_name_prefix="cleave-park")
        self._own_process = own_process
        self._park_settings = park or ParkSettings()
        self._parked: ParkedPool | None = None
        self._refill = Refills()
        self._counts = Counts()
        self._zygotes = Zygotes(interpreters, zygotes or ZygoteSettings(), self._counts)
        self._lane = LoopLane()
        self._leaves = LeafPool(self._make_leaf, target=leaf_pool_size, submit=self._refill.later, counts=self._counts)
        self._janitor = Janitor(self._counts, threads=janitors)
        self._tmp_pool_size = tmp_pool_size
        self._choose_tmp = partial(
            choose_tmp,
            scratch_dir,
            accept_weaker=accept_weaker,
            asked=tmp_backend,
            encrypt=tmp_encryption,
            reserve=tmp_reserve,
        )
        self._scratch: ScratchPool | None = None
        self._starts: set[asyncio.Future[_Made]] = set()
        self._network = Network(
            instance_id, network or NetworkSettings(), self._counts, self._refill.put_off, self._starts.__len__
        )
        self._closed = False

    async def open(self, runtime: str | None = None) -> int:
        """Remove what a dead predecessor left, make the engine's cgroups, start `runtime`'s zygote. Returns how many
        sandboxes were left over. Raises HostUnfit with all that this host lacks, SandboxFault on a full disk."""
        loop = asyncio.get_running_loop()
        self._means = await loop.run_in_executor(self._builders, self._find_means)
        self._host, left = self._means.host, self._means.left
        await loop.run_in_executor(self._builders, self.code.open, self._means.code_mount, self._means.merged_mount)
        if not self._host.limits:
            left = await loop.run_in_executor(self._builders, end_strays, self._name)
        backend = await loop.run_in_executor(self._builders, self._choose_tmp, self._means)
        size = self._tmp_pool_size
        self._scratch = ScratchPool(backend, target=size, submit=self._refill.later, counts=self._counts)
        opening = loop.run_in_executor(self._builders, self._network.open)
        self._zygotes.prepare_to_make(
            partial(
                Zygote,
                uid_base=self._uids.base,
                uid_count=self._uids.count,
                counts=self._counts,
                fork_module=self._fork_module,
                own_user=self._means.mounter is not None,
                subids=self._means.subids,
                name="cleave" if self._host.limits else self._name,
            )
        )
        if runtime is not None:
            await self._zygotes.get(ZygoteKey(runtime))
        await opening
        self._refill.submit(self._scratch.fill, _COMMON_TMP_MB, size)
        if runtime is not None and self._means.may_park:
            self._parked = ParkedPool(
                self._park_settings,
                Shape(runtime, _COMMON_TMP_MB),
                make=self._park,
                bury=lambda parked: self._bury(parked.slot, parked.parts),
                counts=self._counts,
                forking=self._starts.__len__,
            )
            self._parked.start()
        return left

    @property
    def alive(self) -> int:
        """Sandboxes that are not wholly gone yet."""
        return self._counts.alive(Resource.SANDBOXES)

    @property
    def counts(self) -> Counts:
        """What was made and removed, and what befell the sandboxes."""
        return self._counts

    @property
    def cgroup_directories(self) -> Mapping[str, str]:
        """The engine's directory in each cgroup hierarchy; a sandbox's leaf in it is called by its id."""
        return self._host.directories

    @property
    def network_counts(self) -> Mapping[Egress, NetworkCounts]:
        """How many network namespaces were made and removed, by kind."""
        return self._network.counts()

    def expect(self, egress: Egress, tmp_mb: int) -> None:
        """A function has this egress and so large a /tmp: make ready, in a thread, what its first sandbox would wait
        for."""
        if self._closed:
            return
        if self._scratch is not None:
            self._refill.submit(self._scratch.expect, tmp_mb)
        if egress is not Egress.NONE:
            self._refill.submit(self._network.prepare, egress)

    def refuse(self, egress: Egress) -> None:
        """Raise HostUnfit if sandboxes cannot have this egress here."""
        self._network.refuse(egress)

    @property
    def zygote_pids(self) -> Mapping[str, int]:
        """The process of each zygote that imports nothing ahead, by runtime."""
        return self._zygotes.pids()

    async def prepare(self, config: FunctionConfig) -> None:
        """Have the zygote that the function's sandboxes are forked from. Raises as `start` does."""
        await self._zygotes.get(_key(config))

    def trouble(self, config: FunctionConfig) -> str:
        """Why no sandbox of the function can be started, as far as it is known; "" if nothing is."""
        if not config.preload and config.runtime in self._interpreters:
            return ""  # asked at every invocation
        return self._zygotes.trouble(_key(config))

    def preload_bytes(self, config: FunctionConfig) -> int:
        """What the function's modules that are imported ahead take, once for all that have the same; 0: not known."""
        return self._zygotes.preload_bytes(_key(config))

    def zygote_reports(self) -> tuple[ZygoteFound, ...]:
        """All zygotes, and all that cannot be had."""
        return self._zygotes.reports()

    def interpreters_changed(self, runtimes: Collection[str]) -> None:
        """The interpreters of these runtimes are others, or gone: sandboxes that wait are made of what they were."""
        self._zygotes.interpreters_changed(runtimes)
        if self._parked is not None:
            self._parked.forget(runtimes)

    async def start(self, spec: SandboxSpec) -> LinuxSandbox:
        """Start one; see the protocol."""
        if self._closed:
            raise _stopping()
        timeline = Timeline()
        self._counts.made(Resource.SANDBOXES)
        parked = self._take(spec)
        if parked is not None:
            specify(parked, spec)
        made = None
        if parked is not None and self._own_process:
            made, parked = self._assign_here(parked, spec, timeline), None
        if made is None:
            making = asyncio.ensure_future(self._make(parked, spec, timeline))
            self._starts.add(making)
            making.add_done_callback(self._starts.discard)
            try:
                made = await asyncio.shield(making)
            except asyncio.CancelledError:
                # The thread goes on; what it makes is taken away when it is there.
                making.add_done_callback(self._abandon)
                raise
            except BaseException:
                self._counts.happened(Happening.START_FAILED)
                self._counts.removed(Resource.SANDBOXES)
                raise
        try:
            return LinuxSandbox(
                made.parts.leaf.name,
                spec,
                made.parts,
                kind=made.kind,
                unsent=made.unsent,
                timeline=timeline,
                cpu_us=made.cpu_us,
                cpu=self._cpu,
                lane=self._lane.open(),
                janitor=self._janitor,
                counts=self._counts,
                on_closed=partial(self._gone, made.slot),
            )
        except BaseException as error:
            self._counts.happened(Happening.START_FAILED)
            self._bury(made.slot, made.parts, self._counted_off)
            if isinstance(error, OSError):
                raise SandboxFault("descriptors", error.errno or 0, f"cannot watch them: {error.strerror}") from error
            raise

    async def park_one(self, runtime: str) -> None:
        """Park one of the common shape by hand; nothing where that fails, as when the pool does it by itself."""
        if self._parked is not None:
            with contextlib.suppress(EngineError):
                self._parked.add(await self._park(Shape(runtime, _COMMON_TMP_MB), _COMMON_MEMORY_MB))

    async def close(self) -> None:
        """End the zygotes, give back the mounts, remove the engine's cgroups. Starts under way fail, and are waited
        for. What the kernel does not let go of within 5 s is left to the next start."""
        self._closed = True
        loop = asyncio.get_running_loop()
        self._zygotes.stop()
        if self._parked is not None:
            await self._parked.close()
        await self._zygotes.close()
        while self._starts:
            await asyncio.wait(self._starts)
        await self._zygotes.close()
        ends: list[Callable[[], object]] = [
            *(partial(threads.shutdown, wait=True) for threads in (self._builders, self._parkers, self._assigners)),
            self._refill.close,
            *(() if self._scratch is None else (self._scratch.close,)),
            self._leaves.close,
            partial(self._janitor.close, _TAKEN_AWAY_WITHIN_S),
            self._network.close,
            self.code.close,
            *(() if self._means is None else (self._means.close,)),
            partial(self._host.sweep, True),
        ]
        for end in ends:
            await loop.run_in_executor(None, end)
        self._lane.close()

    def _make_leaf(self, memory_mb: int) -> box.Leaf:
        return parts.limited_leaf(self._host, f"{next(self._names)}", memory_mb, self._cpu)

    def _take(self, spec: SandboxSpec) -> Parked | None:
        parks = self._parked is not None and spec.egress is Egress.NONE and not spec.forked
        return self._parked.take(spec) if self._parked is not None and parks else None

    def _assign_here(self, parked: Parked, spec: SandboxSpec, timeline: Timeline) -> _Made | None:
        """Assign on this thread, some 0.1 ms: waking another and being woken by it costs more."""
        try:
            return self._assign(parked, spec, timeline)
        except EngineError as error:
            if isinstance(error, SandboxFault) and error.stage == box.STRANDED:
                os.abort()  # the engine would go on with a sandbox's view of the host's files
            self._lost(parked)
            return None

    async def _make(self, parked: Parked | None, spec: SandboxSpec, timeline: Timeline) -> _Made:
        """From one that was parked, else by a fork."""
        made = None
        if parked is not None:
            loop = asyncio.get_running_loop()
            try:
                made = await loop.run_in_executor(self._assigners, self._assign, parked, spec, timeline)
            except EngineError as error:
                self._lost(parked)
                if isinstance(error, SandboxFault) and error.stage == box.STRANDED:
                    self._assigners.shutdown(wait=False)
                    self._assigners = assigners()
        if made is None:
            slot, of = await self._fork(spec, timeline=timeline)
            kind = StartKind.EXEC if spec.own_layout else StartKind.FORK
            made = _Made(slot, of, kind, spec_frame(spec))
        return made

    def _assign(self, parked: Parked, spec: SandboxSpec, timeline: Timeline) -> _Made:
        return self._assigned(parked, assign(parked, spec, code=self.code, cpu=self._cpu, mark=timeline.add))

    def _assigned(self, parked: Parked, cpu_us: int) -> _Made:
        return _Made(parked.slot, parked.parts, StartKind.PARKED, parked.unsent, cpu_us)

    def _lost(self, parked: Parked) -> None:
        self._counts.happened(Happening.PARKED_LOST)
        self._bury(parked.slot, parked.parts)

    async def _park(self, shape: Shape, memory_mb: int) -> Parked:
        slot, made = await self._fork(unassigned(shape, memory_mb), self._parkers)
        try:
            await asyncio.get_running_loop().run_in_executor(self._parkers, wait_parked, made)
        except BaseException:
            self._bury(slot, made)
            raise
        return Parked(slot, shape, memory_mb, made)

    async def _fork(
        self, spec: SandboxSpec, builders: ThreadPoolExecutor | None = None, timeline: Timeline | None = None
    ) -> tuple[int, parts.Parts]:
        """Fork one: the slot of its user id, its parts."""
        slot, uid = self._uids.take()
        try:
            return slot, await self._build(spec, uid, builders or self._builders, timeline or Timeline())
        except BaseException:
            self._uids.give_back(slot)
            raise
        finally:
            self._refill.started()

    async def _build(
        self, spec: SandboxSpec, uid: int, builders: ThreadPoolExecutor, timeline: Timeline
    ) -> parts.Parts:
        if self._scratch is None or self._means is None:
            raise Unavailable("the sandboxes' host side is not open", fix="wait until the engine has started")
        key = ZygoteKey(spec.runtime, spec.preload)
        for tries_left in range(_ZYGOTE_TRIES - 1, -1, -1):
            try:
                async with self._zygotes.lent(key, own=spec.own_layout) as zygote:
                    timeline.add("zygote")
                    make = partial(
                        parts.build,
                        spec,
                        uid,
                        means=self._means,
                        code=self.code,
                        leaves=self._leaves,
                        cpu=self._cpu,
                        zygote=zygote,
                        scratch=self._scratch,
                        network=self._network,
                        janitor=self._janitor,
                        mark=timeline.add,
                    )
                    return await asyncio.get_running_loop().run_in_executor(builders, make)
            except SandboxFault as fault:
                # A zygote that died is replaced, also one that died before it served: what it was asked for either
                # never happened or was buried.
                if fault.stage != ZYGOTE_STAGE or not tries_left:
                    raise
        raise AssertionError("unreachable")

    def _gone(self, slot: int) -> None:
        """Nothing of a sandbox is left."""
        self._uids.give_back(slot)
        self._counted_off()

    def _counted_off(self) -> None:
        self._counts.removed(Resource.SANDBOXES)

    def _abandon(self, making: asyncio.Future[_Made]) -> None:
        if making.cancelled() or making.exception() is not None:
            self._counted_off()
        else:
            self._bury(making.result().slot, making.result().parts, self._counted_off)

    def _bury(self, slot: int, made: parts.Parts, then: Callable[[], None] = lambda: None) -> None:
        """Take one away that may be alive; its user id is free when nothing of it is left."""

        def gone(_: asyncio.Future[None]) -> None:
            self._uids.give_back(slot)
            then()

        removed = asyncio.get_running_loop().create_future()
        removed.add_done_callback(gone)
        self._janitor.take_away(made.burial(), partial(tell, asyncio.get_running_loop(), removed))


def _key(config: FunctionConfig) -> ZygoteKey:
    return ZygoteKey(config.runtime, tuple(sorted(set(config.preload))))


def _stopping() -> Unavailable:
    return Unavailable("the engine is stopping", fix="try again when it has started")
