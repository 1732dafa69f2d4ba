"""How a front ends an invocation that nobody reads any more."""

from __future__ import annotations

import asyncio
from typing import Any


async def stop(running: asyncio.Future[Any]) -> None:
    """Cancel the invocation if it still runs, and return when it has ended, however that was."""
    if not running.done():
        running.cancel()
        await asyncio.wait({running})
    if not running.cancelled():
        running.exception()  # asked for, so that asyncio does not report it as never retrieved
