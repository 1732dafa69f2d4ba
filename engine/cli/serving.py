"""Runs a service from its start to its end: signals, reloads, and telling others where it listens.

    start ──▶ serving ──SIGTERM, SIGINT──▶ draining ──▶ exit 0
                │  ▲                          └─ another, 1 s later or more ──▶ exit 1, at once
                └──┘ SIGHUP: reload

Knows nothing of what the service does. While it serves, <data_dir>/ports.json holds the ports, also those that were
chosen for port 0: {"grpc_port": 50051, "http_port": 9000, "pid": 4711}.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import orjson
import uvloop

from engine.cli.notify import notify
from engine.cli.priority import come_first
from engine.cli.problems import ExitCode
from engine.config import Settings, changed, reloaded
from engine.config_address import join_address, split_address
from engine.errors import EngineError
from engine.observe import oplog

PORTS_FILE = "ports.json"
_LAST_CHANCE_S = 2.0
_SAME_REQUEST_S = 1.0
"""Signals this close together are one request to stop: a dying parent of several threads sends its PR_SET_PDEATHSIG
once for each of them (prctl(2)), timeout(1) signals the process and then its group."""


class Serviceable(Protocol):
    """What run() needs of engine.service.Service."""

    async def start(self) -> None:
        """Return when it serves."""

    async def stop(self) -> None:
        """Drain; return when nothing is left."""

    def reload(self, settings: Settings) -> None:
        """Take what can change while it runs."""

    @property
    def grpc_port(self) -> int:
        """The port bound."""

    @property
    def http_port(self) -> int:
        """The port bound."""


def run(
    settings: Settings,
    read_settings: Callable[[], Settings],
    make_service: Callable[[Settings], Serviceable],
    announce: Callable[[str, str], None],
) -> ExitCode:
    """Serve until told to stop. `read_settings` is asked again on SIGHUP; `announce` gets the two addresses once they
    are bound. Raises what the start raises."""
    oplog.configure(settings.log_level, settings.log_format)
    come_first()
    # asyncio's own loop is a good part of a warm call: what it does in Python, uvloop does in C.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Run(settings, read_settings, make_service, announce).run())


class _Run:
    def __init__(
        self,
        settings: Settings,
        read_settings: Callable[[], Settings],
        make_service: Callable[[Settings], Serviceable],
        announce: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._read_settings = read_settings
        self._service = make_service(settings)
        self._announce = announce
        self._log = oplog.logger()
        self._told_to_stop = asyncio.Event()
        self._told_twice = asyncio.Event()
        self._told_at = 0.0

    async def run(self) -> ExitCode:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        starting = asyncio.ensure_future(self._service.start())
        await self._first_of(starting, self._told_to_stop)
        if not starting.done():
            starting.cancel()
            await self._within_reason(starting)
            return await self._end()
        try:
            starting.result()
        except BaseException:
            await self._within_reason(asyncio.ensure_future(self._service.stop()))
            raise
        with self._ports_file():
            self._tell()
            await self._told_to_stop.wait()
        return await self._end()

    def _tell(self) -> None:
        service, addresses = self._service, []
        for address, port in (
            (self._settings.grpc_address, service.grpc_port),
            (self._settings.http_address, service.http_port),
        ):
            addresses.append(join_address(split_address(address)[0], port))
        self._log.info(
            "serving",
            grpc_port=service.grpc_port,
            http_port=service.http_port,
            data_dir=self._settings.data_dir,
            pid=os.getpid(),
        )
        self._announce(*addresses)
        notify("READY=1")

    async def _end(self) -> ExitCode:
        notify("STOPPING=1")
        self._log.info("draining", drain_s=self._settings.drain_s)
        stopping = asyncio.ensure_future(self._service.stop())
        await self._first_of(stopping, self._told_twice)
        if stopping.done():
            stopping.result()
            self._log.info("stopped")
            return ExitCode.OK
        self._log.warning("ended_at_once")
        stopping.cancel()
        await self._within_reason(stopping)
        # What is left may be a thread that waits for ever, and the interpreter would wait for it.
        os._exit(ExitCode.FAILED)

    def _stop_signal(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if not self._told_to_stop.is_set():
            self._told_at = now
            self._told_to_stop.set()
        elif now - self._told_at > _SAME_REQUEST_S:
            self._told_twice.set()
        self._log.info("stop_signal", signal=number.name)

    def _reload(self) -> None:
        try:
            wanted = self._read_settings()
        except EngineError as error:
            self._log.error("reload_refused", why=error.message, fix=error.fix)
            return
        taken, left = changed(self._settings, wanted)
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            settings = reloaded(self._settings, wanted)
            if taken:
                self._service.reload(settings)
            self._settings = settings
            oplog.set_level(settings.log_level)
            self._log.info("reloaded", changed={name: getattr(settings, name) for name in taken}, needs_restart=left)
        except EngineError as error:
            self._log.error("reload_refused", why=error.message, fix=error.fix)
        finally:
            notify("READY=1")

    async def _first_of(self, task: asyncio.Future[None], event: asyncio.Event) -> None:
        waiting = asyncio.ensure_future(event.wait())
        both: set[asyncio.Future[Any]] = {task, waiting}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def _within_reason(self, task: asyncio.Future[None]) -> None:
        await asyncio.wait({task}, timeout=_LAST_CHANCE_S)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            self._log.warning("stop_failed", why=str(error))

    @contextlib.contextmanager
    def _ports_file(self) -> Iterator[None]:
        path = Path(self._settings.data_dir) / PORTS_FILE
        ports = {"grpc_port": self._service.grpc_port, "http_port": self._service.http_port, "pid": os.getpid()}
        whole = path.with_name(f"{PORTS_FILE}.new")  # always the same: one that a killed engine left is written over
        whole.write_bytes(orjson.dumps(ports))
        whole.chmod(0o644)
        os.replace(whole, path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
