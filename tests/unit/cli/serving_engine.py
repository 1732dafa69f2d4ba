"""Run as a program: `cleave serve` with a service that notes what it is told, one JSON line a call."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from engine.cli import serve
from engine.cli.main import main
from engine.config import Settings
from engine.errors import StoreUnusable


class NotingService:
    """Behaves as STUB_BEHAVIOUR says: well, "refuse": fails to start, "hang": stops with the next
    reload, "hang at start"."""

    grpc_port = 11
    http_port = 22

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._behaviour = os.environ.get("STUB_BEHAVIOUR", "")
        self._reloaded = asyncio.Event()

    def _note(self, call: str, **facts: object) -> None:
        with Path(os.environ["STUB_CALLS"]).open("a") as file:
            file.write(json.dumps({"call": call, **facts}) + "\n")

    async def start(self) -> None:
        self._note("start", max_concurrency=self._settings.max_concurrency)
        if self._behaviour == "refuse":
            raise StoreUnusable("the data directory is held by another engine", fix="cleave serve --data-dir ELSEWHERE")
        if self._behaviour == "hang at start":
            print("starting", file=sys.stderr, flush=True)
            await asyncio.Event().wait()

    async def stop(self) -> None:
        self._note("stop")
        if self._behaviour == "hang":
            await self._reloaded.wait()

    def reload(self, settings: Settings) -> None:
        self._note("reload", max_concurrency=settings.max_concurrency, region=settings.region)
        self._reloaded.set()


if __name__ == "__main__":
    serve.make_service = NotingService
    sys.exit(main())
