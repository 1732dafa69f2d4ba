"""The settings of asynchronous invocation: a part of engine.config.Settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.config_fields import setting
from engine.model.events import ASYNC_EVENT_LIMIT_BYTES


class EventSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How asynchronous events wait and are delivered."""

    async_event_limit_bytes: Annotated[
        int, setting("The most bytes of an asynchronous event; AWS's is 1 MB.", ge=1_024, le=33_554_432)
    ] = ASYNC_EVENT_LIMIT_BYTES
    async_concurrency: Annotated[
        int,
        setting(
            "Asynchronous events that run at a time, at most half of max_concurrency; 0: they are accepted and wait.",
            ge=0,
            le=100_000,
            reloadable=True,
        ),
    ] = 100
    async_queue_events: Annotated[
        int, setting("Asynchronous events that may wait; one more is throttled.", ge=1, le=10_000_000)
    ] = 100_000
    async_queue_mb: Annotated[
        int, setting("Megabytes (2^20 bytes) of asynchronous events that may wait.", ge=1, le=1_048_576)
    ] = 1_024
    async_retry_s: Annotated[
        float,
        setting(
            "Seconds until an asynchronous event whose function failed is run again; twice as long before the second"
            " retry.",
            ge=0,
            le=3_600,
        ),
    ] = 60
    async_backoff_s: Annotated[
        float,
        setting(
            "Seconds until an asynchronous event that was throttled is tried again; twice as long each time, up to 300"
            " times.",
            ge=0,
            le=60,
        ),
    ] = 1
