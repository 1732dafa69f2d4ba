"""The settings of the HTTP front beside its address: a part of engine.config.Settings, on top of those of S3, since a
struct has one base."""

from __future__ import annotations

from typing import Annotated

from engine.config_fields import setting
from engine.config_s3 import S3Settings


class HttpSettings(S3Settings, frozen=True, kw_only=True):
    """How HTTP is spoken."""

    http_workers: Annotated[
        int,
        setting("Processes that speak HTTP beside the engine's own; 0: the engine does it itself.", ge=0, le=64),
    ] = 0
    stop_on_disconnect: Annotated[
        bool,
        setting("Stop a function whose HTTP client leaves; AWS lets it run to its end. gRPC clients always stop it."),
    ] = False
