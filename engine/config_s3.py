"""The settings of the store that code is fetched from: a part of engine.config.Settings, on top of that of events,
since a struct has one base.

Who asks there is no setting: the engine's own AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their siblings say it, so
that no secret stands in a settings file or on a command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from engine.config_events import EventSettings
from engine.config_fields import setting

USUAL_VARIABLES: Mapping[str, str] = {
    "AWS_ENDPOINT_URL_S3": "s3_endpoint",
    "AWS_DEFAULT_REGION": "s3_region",
    "AWS_REGION": "s3_region",
}
"""Variables that AWS's own tools read, later ones first; the CLEAVE_… ones go before them."""


class S3Settings(EventSettings, frozen=True, kw_only=True):
    """Where objects in S3 are."""

    s3_endpoint: Annotated[
        str,
        setting(
            "The S3-compatible store that code is fetched from, also by AWS_ENDPOINT_URL_S3; empty: none.",
            values="a URL such as http://127.0.0.1:9090 or https://s3.eu-west-1.amazonaws.com",
            pattern=r"^(https?://[^\s/?#@]+/?)?$",
        ),
    ] = ""
    s3_region: Annotated[
        str,
        setting(
            "The region that requests to it are signed for, also by AWS_REGION; empty: `region`.",
            values="a region's name, such as us-east-1",
            pattern=r"^[a-z0-9-]*$",
        ),
    ] = ""
    s3_timeout_s: Annotated[float, setting("Seconds that fetching code from it may take.", ge=1, le=3_600)] = 300
