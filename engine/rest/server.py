"""Listens on loopback and serves AWS's Lambda API with uvicorn, inside the event loop that runs already.

What is answered is engine.rest.app's work. Guarantees that no signal handler is installed and no logging configured:
both are the engine's; and that after `stop` no task, connection or socket of the front is left.
"""

from __future__ import annotations

import platform
import time
import uuid
from collections.abc import Callable

from engine.events.room import Events
from engine.model.invocation import EVENT_LIMIT_BYTES, Invoker
from engine.observe import oplog
from engine.registry.api import CodeStore, Registry
from engine.registry.attached import Attached
from engine.rest.app import FaultLogger, LambdaApi
from engine.rest.configuration import Documents
from engine.rest.express import Express, express, plain_urls
from engine.rest.guard import check_listen_host
from engine.rest.listening import HttpServer, listen, listen_often
from engine.rest.logs_api import LogsApi
from engine.rest.logs_groups import Logs
from engine.rest.metrics import Observe
from engine.rest.model import load_model
from engine.rest.relay import Near
from engine.rest.workers import HttpWorkers, Lane
from engine.sandbox.box import Door

_ARCHITECTURES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


class RestServer:
    """The HTTP front. `start` once, `stop` once."""

    def __init__(
        self,
        registry: Registry,
        code: CodeStore,
        invoker: Invoker,
        attached: Attached,
        events: Events,
        *,
        region: str,
        account: str,
        logger: FaultLogger | None = None,
        new_uuid: Callable[[], uuid.UUID] = uuid.uuid4,
        stop_on_disconnect: bool = False,
        event_limit_bytes: int = EVENT_LIMIT_BYTES,
        observe: Observe | None = None,
        logs: Logs | None = None,
        door: Door | None = None,
        workers: int = 0,
    ) -> None:
        """With `workers`, so many processes speak HTTP beside this one, which then only answers what they read. Without
        `door` there is no lane for plain requests."""
        self._door = door
        self.express: Express | None = None
        self._registry = registry
        self._code = code
        self._invoker = invoker
        self._attached = attached
        self._events = events
        machine = platform.machine()
        self._documents = Documents(region=region, account=account, architecture=_ARCHITECTURES.get(machine, machine))
        self._logger = logger or oplog.logger()
        self._new_uuid = new_uuid
        self._stop_on_disconnect = stop_on_disconnect
        self._event_limit_bytes = event_limit_bytes
        self._observe = observe
        self._logs = logs
        self._server: HttpServer | HttpWorkers | None = None
        self._workers = workers

    @property
    def relays(self) -> list[Near]:
        """The ways of plain requests from those."""
        return self._server.ways if isinstance(self._server, HttpWorkers) else []

    @property
    def worker_pids(self) -> list[int]:
        """The processes that speak HTTP beside this one."""
        return self._server.pids if isinstance(self._server, HttpWorkers) else []

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port bound (`port` 0 takes a free one). Raises EngineError for an address beyond
        loopback, a port in use or one that this user may not bind."""
        check_listen_host(host)
        host = "127.0.0.1" if host == "localhost" else host
        listeners = listen_often(host, port, self._workers) if self._workers else [listen(host, port)]
        logs = None
        if self._logs is not None:
            described = (self._registry, self._attached, self._documents)
            logs = LogsApi(self._logs, *described, wall_ms=lambda: time.time_ns() // 1_000_000)
        api = LambdaApi(
            load_model(),
            self._registry,
            self._code,
            self._invoker,
            self._attached,
            self._events,
            self._documents,
            logger=self._logger,
            new_uuid=self._new_uuid,
            stop_on_disconnect=self._stop_on_disconnect,
            event_limit_bytes=self._event_limit_bytes,
            observe=self._observe,
            logs=logs,
        )
        bound: int = listeners[0].getsockname()[1]
        if self._workers:
            self._server = HttpWorkers(api, listeners, lane=self._lane(), logger=self._logger)
            await self._server.begin()
            return bound
        self._server = HttpServer(api)
        if self._door is not None:
            rooms = (self._server.server_state, self._attached, self._documents.region)
            self.express = express(self._door.capsule(), *rooms, stop_on_disconnect=self._stop_on_disconnect)
            self._server.open_lane(self.express)
        await self._server.begin(listeners[0])
        return bound

    def _lane(self) -> Lane | None:
        """That of workers."""
        if self._door is None:
            return None
        region = self._documents.region
        find = plain_urls(self._attached, region)

        def function_of(url_id: bytes) -> bytes | None:
            found = find(url_id.decode("ascii", "replace"))
            return None if found is None else found[0]

        return Lane(self._door.capsule(), function_of, region, self._stop_on_disconnect)

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, let requests under way end for up to `grace_s` seconds, then cancel them."""
        if self._server is not None:
            await self._server.end(grace_s)
            self._server = None
