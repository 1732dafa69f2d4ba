"""The answer to GET /metrics, made in a thread: it takes longer than an event loop should be held up.

What it says is engine.rest.exposition's, which is imported with the first answer: a twentieth of a second that the
start of an engine does without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from engine.model.metrics import Metrics
from engine.rest.messages import Request, Response

Observe = Callable[[], Awaitable[Metrics]]
"""Tells what is counted, as it is now."""


async def metrics_response(observe: Observe, request: Request) -> Response:
    """The counters now, in the format that the request accepts."""
    accept = ",".join(request.header_values("accept"))
    content_type, body = await asyncio.to_thread(_exposition, await observe(), accept)
    return Response(200, [("content-type", content_type)], body)


def _exposition(metrics: Metrics, accept: str) -> tuple[str, bytes]:
    from engine.rest.exposition import exposition

    return exposition(metrics, accept)
