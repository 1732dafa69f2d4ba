"""The composition root: the one place where the rooms are wired to each other.

Starts in the order of need and stops in the reverse; whatever fails on the way up, what was started is stopped. Knows
nothing of what the parts do.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.config import Settings
from engine.config_address import split_address
from engine.errors import EngineError
from engine.events.room import Events
from engine.fabric import process
from engine.fabric.datadir import DataDir
from engine.fabric.sqlite import Sqlite
from engine.host_report import network_settings, report
from engine.invoke.bytecode import BytecodeCompiler
from engine.invoke.capacity import Capacity
from engine.invoke.pace import PaceLimits
from engine.invoke.pipeline import Pipeline
from engine.model.function import LATEST, Function
from engine.model.host import HostReport
from engine.model.invocation import Invoker
from engine.observe import oplog
from engine.observe.function_logs import FunctionLogs
from engine.observe.invocations import Counted, Invocations
from engine.observe.metrics import Observer
from engine.observe.recent import RecentInvocations
from engine.observe.starts import Starts
from engine.registry.attached import STORE_FILE as ATTACHED_FILE
from engine.registry.attached import Attached
from engine.registry.code import LocalCodeStore
from engine.registry.code_s3 import store_of
from engine.registry.functions import FunctionRegistry
from engine.registry.schema import MIGRATIONS, STORE_FILE
from engine.runtimes.live import Added, Runtimes
from engine.sandbox import uids
from engine.sandbox.cpu import CpuRules
from engine.sandbox.demand import ParkSettings
from engine.sandbox.pool import LinuxPool
from engine.scheduler.dispatch import LocalScheduler
from engine.zygote.host import fork_module_path
from engine.zygote.keeper import ZygoteSettings

if TYPE_CHECKING:
    from engine.rest.server import RestServer
    from engine.rpc.server import RpcServer

SWEEP_EVERY_S = 600.0
"""How often code that no function has any more is removed."""
UNUSED_FOR_S = 3_600.0
"""How long an upload may wait for its function."""
RUNTIMES_EVERY_S = 5.0
"""How often it is looked whether an interpreter was added, changed or removed: a few stats."""
LAST_ANSWERS_S = 2.0
"""How much longer than what runs the fronts get, so that those whose function was killed at the end are told so."""


class Parts(NamedTuple):
    """What is behind the doors."""

    registry: FunctionRegistry
    code: LocalCodeStore
    invoker: Invoker
    pipeline: Pipeline
    logs: FunctionLogs
    observe: Observer
    attached: Attached
    events: Events


class Service:
    """One engine: everything between its data directory and its ports."""

    def __init__(self, settings: Settings, *, own_process: bool = False, doors: bool = True) -> None:
        """`own_process`: nothing but this engine runs in the process. `doors`: open the ports; else it is reached by
        its parts, and gRPC is not imported."""
        self._doors = doors
        self._settings = settings
        self._own_process = own_process
        self._log = oplog.logger()
        self._undo = contextlib.AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: LinuxPool | None = None
        self._scheduler: LocalScheduler | None = None
        self._capacity: Capacity | None = None
        self._registry: FunctionRegistry | None = None
        self._events: Events | None = None
        self._runtimes = runtimes_of(settings)
        self._starts = Starts()
        self._fronts: tuple[RpcServer, RestServer] | None = None
        self._ports = (0, 0)

    @property
    def grpc_port(self) -> int:
        """The port bound; 0 before start."""
        return self._ports[0]

    @property
    def http_port(self) -> int:
        """The port bound; 0 before start."""
        return self._ports[1]

    async def start(self) -> None:
        """Return when both ports answer. Raises StoreUnusable, HostUnfit, Unavailable (a port in use); then nothing of
        it is left."""
        async with contextlib.AsyncExitStack() as undo:
            await self._start(undo)
            self._undo = undo.pop_all()

    async def _start(self, undo: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        loop = self._loop = asyncio.get_running_loop()
        process.raise_open_files()
        process.keep_memory()
        data = DataDir.open(settings.data_dir)
        undo.callback(data.close)
        store = await Sqlite.open(data.path / STORE_FILE, MIGRATIONS)
        undo.push_async_callback(store.close)
        code = await LocalCodeStore.open(data.path / "code", s3=store_of(settings, os.environ))
        undo.push_async_callback(code.close)
        runtimes = self._runtimes
        await loop.run_in_executor(None, runtimes.refresh)
        default_runtime = next(iter(runtimes), "")
        pool = LinuxPool(
            instance_id=data.instance_id,
            scratch_dir=data.path / "scratch",
            interpreters=runtimes,
            uid_base=settings.uid_base or uids.base_of(data.instance_id, settings.uid_count),
            uid_count=settings.uid_count,
            tmp_pool_size=settings.tmp_pool_size,
            tmp_backend=settings.tmp_backend,
            leaf_pool_size=settings.leaf_pool_size,
            tmp_encryption=settings.tmp_encryption,
            tmp_reserve=settings.tmp_reserve,
            accept_weaker=settings.accept_weaker,
            janitors=settings.janitors,
            cpu=CpuRules(settings.init_cpu, settings.cpu_burst),
            network=network_settings(settings),
            own_process=self._own_process,
            zygotes=ZygoteSettings(
                max_age_s=settings.zygote_max_age_s,
                max_forks=settings.zygote_max_forks,
                limit=settings.zygote_limit,
                preload_timeout_s=settings.init_timeout_ms / 1_000,
            ),
            park=ParkSettings(
                floor=settings.parked_floor,
                ceiling=settings.parked_ceiling,
                memory_mb=settings.parked_memory_mb,
                free_mb=settings.parked_free_mb,
                rate_per_s=settings.parked_rate,
            ),
        )
        registry = self._registry = await FunctionRegistry.open(
            store,
            code,
            runtimes=runtimes,
            default_runtime=default_runtime,
            refuse_egress=pool.refuse,
            prepare=pool.prepare,
            trouble=pool.trouble,
            account_concurrency=lambda: min(self._settings.max_concurrency, self._settings.max_sandboxes),
        )
        undo.push_async_callback(registry.close)
        logs = await _open_logs(settings, data, registry)
        undo.push_async_callback(logs.close)

        undo.push_async_callback(pool.close)
        self._pool = pool
        code.subscribe(pool.code.forget)
        runtimes.on_change = self._runtimes_changed
        left = await pool.open(default_runtime or None)
        if left:
            self._log.warning("removed_leftovers", sandboxes=left)
        _expect_functions(registry, pool)

        scheduler = self._scheduler = LocalScheduler(
            pool,
            max_concurrency=settings.max_concurrency,
            max_sandboxes=settings.max_sandboxes,
            keep_alive_s=settings.keep_alive_s,
            shutdown_grace_ms=settings.shutdown_grace_ms,
            requests_per_concurrency=settings.requests_per_concurrency,
            burst=settings.burst_sandboxes,
        )
        undo.push_async_callback(scheduler.drain, 0)
        region, account = settings.region, settings.account
        if settings.compile_ahead:
            compiler = BytecodeCompiler(pool, code, registry, python_versions=runtimes.versions, log=self._log)
            undo.push_async_callback(compiler.close)
        recent = RecentInvocations(settings.recent_mb << 20)
        invocations = Invocations(registry, self._starts, recent, limit=settings.metrics_functions)
        pipeline = Pipeline(
            registry,
            code,
            scheduler,
            logs,
            region=region,
            account=account,
            init_timeout_ms=settings.init_timeout_ms,
            provisioned_init_timeout_ms=settings.provisioned_init_timeout_ms,
            python_versions=runtimes.versions,
            event_limit_bytes=settings.event_limit_bytes,
            result_limit_bytes=settings.result_limit_bytes,
            stream_limit_bytes=settings.stream_limit_mb << 20,
            stream_pace=PaceLimits(settings.stream_mb_per_s * 2**20),
            record=invocations,
            lost=invocations.lost,
            tally=invocations,
        )
        logs.listen(pipeline.settle)
        recent.listen(pipeline.settle)
        self._capacity = Capacity(registry, scheduler, pipeline.spec_ahead, pipeline.follow_init)
        self._capacity.open([function.name for function in registry.everything() if function.version == LATEST])
        sweeping = loop.create_task(_sweep_code(code, registry))
        undo.callback(sweeping.cancel)
        watching = loop.create_task(self._watch_runtimes())
        undo.callback(watching.cancel)

        invoker = Counted(pipeline, invocations)
        attached = await Attached.open(data.path / ATTACHED_FILE, registry)
        undo.push_async_callback(attached.close)
        events = self._events = await Events.open(data.path, registry, attached, invoker, lambda: self._settings)
        undo.push_async_callback(events.close)
        counts, settle = (logs.counts, events.counts), pipeline.settle
        observe = Observer(self._starts, invocations, scheduler, pool, *counts, settle=settle)
        self.parts = Parts(registry, code, invoker, pipeline, logs, observe, attached, events)
        if not self._doors:
            events.begin()
            return

        from engine.rest.server import RestServer
        from engine.rpc.server import RpcServer

        rpc = RpcServer(
            registry,
            code,
            invoker,
            logs,
            self.host,
            attached,
            events,
            log=self._log,
            region=region,
            account=account,
            event_limit_bytes=settings.event_limit_bytes,
            preload_bytes=pool.preload_bytes,
            observe=observe,
            recent=recent,
            front=settings.grpc_front,
            door=pipeline.door,
        )
        undo.push_async_callback(rpc.stop, 0)
        rest = RestServer(
            registry,
            code,
            invoker,
            attached,
            events,
            region=region,
            account=account,
            stop_on_disconnect=settings.stop_on_disconnect,
            event_limit_bytes=settings.event_limit_bytes,
            observe=observe,
            logs=logs,
            door=pipeline.door,
            workers=settings.http_workers,
        )
        undo.push_async_callback(rest.stop, 0)
        self._ports = (await rpc.start(settings.grpc_address), await rest.start(*split_address(settings.http_address)))
        self._fronts = (rpc, rest)
        events.begin()
        # What lives from here on is the engine itself: the collector need not walk it again at every call's turn.
        gc.collect()
        gc.freeze()
        if self._own_process:
            gc.enable()
        gc.set_threshold(50_000)  # a call leaves no cycles; by default the collector would look at every sixth call

    async def stop(self) -> None:
        """Refuse what is new, let what runs end within drain_s, and leave nothing. Safe to call again."""
        grace = self._settings.drain_s
        if self._events is not None:
            self._events.pause()
        if self._fronts is not None and self._scheduler is not None:
            rpc, rest = self._fronts
            self._fronts = None
            answers = grace + LAST_ANSWERS_S
            await asyncio.gather(self._scheduler.drain(grace), rpc.stop(answers), rest.stop(answers))
        elif self._scheduler is not None:
            await self._scheduler.drain(grace)
        await self._undo.aclose()

    def reload(self, settings: Settings) -> None:
        """Take what can change while it runs."""
        self._settings = settings
        if self._scheduler is not None:
            self._scheduler.reload(
                max_concurrency=settings.max_concurrency,
                keep_alive_s=settings.keep_alive_s,
                requests_per_concurrency=settings.requests_per_concurrency,
                burst=settings.burst_sandboxes,
            )
        if self._events is not None:
            self._events.reload()

    async def host(self) -> HostReport:
        """What this host enforces, and how busy the engine is."""
        folder = Path(self._settings.data_dir)
        await self._look_for_runtimes()
        found = await report(self._settings, self._runtimes, folder)
        if self._scheduler is None or self._pool is None:
            return found
        counts = self._scheduler.counts()
        if self.parts is not None:
            self.parts.pipeline.settle()
        return HostReport(
            checks=found.checks,
            engine_version=found.engine_version,
            runtimes=found.runtimes,
            interpreters=found.interpreters,
            zygotes=self._pool.zygote_reports(),
            sandboxes=counts.sandboxes,
            idle_sandboxes=counts.idle,
            concurrency=counts.concurrency,
            resources=self._pool.counts.resources(),
            events=self._pool.counts.events(),
            starts=self._starts.stats(),
        )

    def _runtimes_changed(self, changed: frozenset[str]) -> None:
        """Called on another thread."""
        self._log.warning("runtimes_changed", runtimes=sorted(changed), there=sorted(self._runtimes))
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the engine has stopped
                self._loop.call_soon_threadsafe(self._leave_interpreters, changed)

    def _leave_interpreters(self, runtimes: frozenset[str]) -> None:
        """No sandbox that was forked from one that is another or gone serves again."""
        if self._pool is None or self._scheduler is None or self._registry is None:
            return
        self._pool.interpreters_changed(runtimes)
        for function in self._registry.everything():
            if function.config.runtime in runtimes:
                self._scheduler.retire(function.name, None, function.version)
                if self._capacity is not None:
                    self._capacity.renew(function.name)

    async def _watch_runtimes(self) -> None:
        while True:
            await asyncio.sleep(RUNTIMES_EVERY_S)
            await self._look_for_runtimes()

    async def _look_for_runtimes(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._runtimes.refresh_if_stale)
        except EngineError as error:
            self._log.error("runtimes_unread", why=error.message, fix=error.fix)


async def probe_host(settings: Settings) -> HostReport:
    """What this host could enforce, without an engine."""
    runtimes = runtimes_of(settings)
    await asyncio.get_running_loop().run_in_executor(None, runtimes.refresh)
    with tempfile.TemporaryDirectory(prefix="cleave-probe-", dir=_near(Path(settings.data_dir))) as folder:
        return await report(settings, runtimes, Path(folder))


def added_runtimes(settings: Settings) -> Added:
    """The interpreters that were added to the data directory, for whoever may write there. Raises SandboxFault where
    the engine is not built."""
    return Added(Path(settings.data_dir), fork_module_path())


def runtimes_of(settings: Settings) -> Runtimes:
    """Those of an engine with these settings; none before the first `refresh`."""
    return Runtimes(added_runtimes(settings), settings.interpreters, os.environ, fork_module=fork_module_path())


async def _open_logs(settings: Settings, data: DataDir, registry: FunctionRegistry) -> FunctionLogs:
    functions, _ = registry.list(limit=sys.maxsize)
    return await FunctionLogs.open(
        data.path / "logs",
        {function.name for function in functions},
        keep_days=settings.function_log_days,
        keep_mb=settings.function_log_mb,
        total_mb=settings.function_logs_mb,
        mb_per_s=settings.function_log_mb_per_s,
    )


def _near(folder: Path) -> Path | None:
    """What there is of a path and can be written to: on the disk where it would be. None: nothing."""
    return next((path for path in (folder, *folder.parents) if os.access(path, os.W_OK | os.X_OK)), None)


def _expect_functions(registry: FunctionRegistry, pool: LinuxPool) -> None:
    """Have what the first sandbox of each function needs made when the function is, and not when it is invoked."""
    for egress, tmp_mb in {(one.config.egress, one.config.tmp_mb) for one in registry.everything()}:
        pool.expect(egress, tmp_mb)

    def changed(_: str, function: Function | None) -> None:
        if function is not None:
            pool.expect(function.config.egress, function.config.tmp_mb)

    registry.subscribe(changed)


async def _sweep_code(code: LocalCodeStore, registry: FunctionRegistry) -> None:
    while True:
        await code.sweep(registry.referenced_code(), UNUSED_FOR_S)
        await asyncio.sleep(SWEEP_EVERY_S)
