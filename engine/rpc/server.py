"""The gRPC server: its port, its services, and how it comes and goes.

Serves engine.v1, health (grpc.health.v1, for "" and for each service) and reflection. Guarantees that it listens on
loopback only, since there is no authentication yet; that a port in use is refused instead of shared; and that a stop
lets calls under way end within the grace, while health says NOT_SERVING and new calls are refused with UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from structlog.typing import FilteringBoundLogger

from engine.config_address import is_loopback, join_address, split_address
from engine.errors import InvalidArgument, Unavailable
from engine.events.room import Events
from engine.fabric.peers import connected
from engine.model.host import HostReport
from engine.model.invocation import EVENT_LIMIT_BYTES, Invoker
from engine.registry.api import CodeStore, Registry
from engine.registry.attached import Attached
from engine.registry.stored import Stored
from engine.registry.urls import Urls
from engine.rpc import (
    aliases,
    code,
    code_signing,
    concurrency,
    event_sources,
    events,
    function_settings,
    functions,
    host,
    invocations,
    layers,
    logs,
    metrics,
    policies,
    tags,
    timelines,
    urls,
    versions,
)
from engine.rpc.calls import Calls, Natives
from engine.rpc.fronts import AnyServer, Front, make_server
from engine.rpc.native_calls import Door, join

MESSAGE_ROOM_BYTES = 10 * 1024 * 1024
"""What gRPC itself refuses is so far over an event's limit that an event over that is answered by the engine."""
WATCHERS_GRACE_S = 0.1
"""How long connections may take to say goodbye."""
QUIET_TURNS, QUIET_TURN_S = 10, 0.01
"""Calls that a connected client sent before it could know of the stop are here by then."""
LAST_GRACE_S = 2.0
"""How long handlers that were cancelled may take to clean up."""

_ROOMS = (
    invocations,
    functions,
    code,
    versions,
    aliases,
    concurrency,
    layers,
    tags,
    urls,
    policies,
    event_sources,
    code_signing,
    function_settings,
    events,
    logs,
    host,
)


class RpcServer:
    """One gRPC server; started once, stopped once."""

    def __init__(
        self,
        registry: Registry,
        code: CodeStore,
        invoker: Invoker,
        logs: logs.Logs,
        host: Callable[[], Awaitable[HostReport]],
        attached: Attached,
        events: Events,
        *,
        region: str,
        account: str,
        log: FilteringBoundLogger | None = None,
        event_limit_bytes: int = EVENT_LIMIT_BYTES,
        preload_bytes: functions.PreloadBytes = lambda _: 0,
        observe: metrics.Observe | None = None,
        recent: timelines.Kept | None = None,
        front: Front = "auto",
        door: Door | None = None,
    ) -> None:
        """Plain calls go through `door`, if the front can. Without `observe` there is no MetricsService, without
        `recent` no TimelineService."""
        self._registry = registry
        self._code = code
        self._invoker = invoker
        self._logs = logs
        self._host = host
        self._attached = attached
        self._events = events
        self._region = region
        self._account = account
        self._message_limit_bytes = event_limit_bytes + MESSAGE_ROOM_BYTES
        self._preload_bytes = preload_bytes
        self._door = door
        self._observe = observe
        self._recent = recent
        self._front = front
        self._calls = Calls(log or structlog.get_logger("engine.rpc"))
        self._health = health.aio.HealthServicer()
        self._server: AnyServer | None = None
        self._port = 0
        self._joined: Natives | None = None

    @property
    def native_calls(self) -> tuple[int, int, int, int]:
        """How many calls the dispatch loop took from the front, answered, left to Python, and cancelled."""
        return (0, 0, 0, 0) if self._joined is None else self._joined.counts

    async def start(self, address: str) -> int:
        """Listen on "host:port" and return the port (port 0: a free one). Raises InvalidArgument for what is not a
        loopback address, Unavailable if the port is in use or may not be used."""
        bind_to = _loopback(address)
        _probe(*bind_to)
        server = make_server(self._front, self._message_limit_bytes)
        names = self._register(server)
        try:
            port = server.add_insecure_port(join_address(*bind_to))
        except RuntimeError as error:
            raise _unusable(bind_to, "cannot be opened") from error
        await server.start()
        self._server, self._port = server, port
        for name in names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, wait up to `grace_s` for those under way, then cancel them and close the port."""
        server, self._server = self._server, None
        if server is None:
            return
        await self._health.enter_graceful_shutdown()
        self._calls.drain()
        ended = await self._calls.idle(grace_s)
        if grace_s > 0 and await asyncio.to_thread(connected, self._port):
            await self._calls.quiet(QUIET_TURNS, QUIET_TURN_S, LAST_GRACE_S)
        # What can be left over after all calls have ended are watchers of health.
        await server.stop(WATCHERS_GRACE_S if ended else None)
        await self._calls.idle(LAST_GRACE_S)

    def _register(self, server: AnyServer) -> list[str]:
        """Add every service; returns the names that health knows."""
        calls = self._calls
        registry = self._registry
        place = {"region": self._region, "account": self._account}
        stored = Stored(registry, self._attached, **place)
        functions_ = functions.FunctionService(registry, self._code, preload_bytes=self._preload_bytes, **place)
        invoking = invocations.InvocationService(self._invoker, self._events)
        self._joined = join(server, self._door, calls, invoking)
        server.add_generic_rpc_handlers(
            [
                # First, since the handlers are asked in this order and this one has the hot path.
                calls.handler(invocations.SERVICE, invoking.methods()),
                calls.handler(functions.SERVICE, functions_.methods()),
                calls.handler(code.SERVICE, code.CodeService(registry, self._code).methods()),
                calls.handler(versions.SERVICE, versions.VersionService(registry, functions_.to_proto).methods()),
                calls.handler(aliases.SERVICE, aliases.AliasService(registry, **place).methods()),
                calls.handler(concurrency.SERVICE, concurrency.ConcurrencyService(registry, **place).methods()),
                calls.handler(layers.SERVICE, layers.LayerService(registry.layers, **place).methods()),
                calls.handler(tags.SERVICE, tags.TagService(stored).methods()),
                calls.handler(urls.SERVICE, urls.UrlService(registry, Urls(self._attached), **place).methods()),
                calls.handler(policies.SERVICE, policies.PolicyService(registry, stored.policies, **place).methods()),
                calls.handler(
                    event_sources.SERVICE,
                    event_sources.EventSourceService(registry, stored.mappings, **place).methods(),
                ),
                calls.handler(
                    code_signing.SERVICE, code_signing.CodeSigningService(registry, stored.signing).methods()
                ),
                calls.handler(
                    function_settings.SERVICE,
                    function_settings.FunctionSettingsService(registry, stored.settings, region=self._region).methods(),
                ),
                calls.handler(events.SERVICE, events.EventService(registry, self._events, **place).methods()),
                calls.handler(logs.SERVICE, logs.LogService(registry, self._logs, calls).methods()),
                calls.handler(host.SERVICE, host.HostService(self._host).methods(), always=True),
            ]
        )
        names = [room.SERVICE.full_name for room in _ROOMS]
        if self._observe is not None:
            watching = metrics.MetricsService(self._observe, calls).methods()
            server.add_generic_rpc_handlers([calls.handler(metrics.SERVICE, watching)])
            names.append(metrics.SERVICE.full_name)
        if self._recent is not None:
            reading = timelines.TimelineService(self._recent).methods()
            server.add_generic_rpc_handlers([calls.handler(timelines.SERVICE, reading)])
            names.append(timelines.SERVICE.full_name)
        any_server: Any = server  # the published types want grpcio's
        health_pb2_grpc.add_HealthServicer_to_server(self._health, any_server)
        reflecting = reflection.aio.ReflectionServicer([*names, health.SERVICE_NAME, reflection.SERVICE_NAME])
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflecting, any_server)  # type: ignore[no-untyped-call]
        server.add_generic_rpc_handlers([calls.unknown_handler()])
        return names


def _loopback(address: str) -> tuple[str, int]:
    try:
        name, port = split_address(address)
    except ValueError as error:
        raise InvalidArgument(
            f"the gRPC address {address!r} cannot be used: {error}",
            fix="use an address such as 127.0.0.1:50051",
            fields={"address": str(error)},
        ) from None
    if not is_loopback(name):
        raise InvalidArgument(
            f"the engine does not listen on {address}: there is no authentication yet, and who reaches the port "
            "could run code",
            fix=f"use 127.0.0.1:{port}, and a tunnel such as ssh -L to reach it from elsewhere",
            fields={"address": "must be a loopback address"},
        )
    # One address and not what a resolver says: gRPC is content when one of several could be opened.
    return ("127.0.0.1" if name == "localhost" else name), port


def _probe(name: str, port: int) -> None:
    """Open the port as gRPC will and close it: gRPC does not tell why it cannot. Raises Unavailable."""
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((name, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _unusable((name, port), "is in use by another program, perhaps another engine") from None
        raise _unusable((name, port), os.strerror(error.errno or 0)) from None


def _unusable(bind_to: tuple[str, int], why: str) -> Unavailable:
    return Unavailable(
        f"the engine cannot listen for gRPC on {join_address(*bind_to)}: {why}",
        fix="stop what uses the port (`ss -ltnp` shows it), or choose another address for gRPC",
        metadata={"address": join_address(*bind_to)},
    )
