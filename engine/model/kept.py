"""The settings of a function that are kept as AWS's documents, by the short names that gRPC, the command and the
clients have for them. What AWS's API sets is kept as it came: engine.rest.configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

SETTINGS: Mapping[str, tuple[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "log_group": ("LogGroup", lambda name: name),
        "dead_letter_arn": ("DeadLetterConfig", lambda arn: {"TargetArn": arn}),
        "kms_key_arn": ("KMSKeyArn", lambda arn: arn),
        "tracing": ("TracingConfig", lambda _: {"Mode": "Active"}),
        "snap_start": ("SnapStart", lambda _: {"ApplyOn": "PublishedVersions"}),
    }
)
"""By the name of a field: AWS's name, and what makes AWS's value of one that is not empty."""


def by_awss_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of SETTINGS that are given and not None; one that is empty has None, which takes the setting away."""
    found: dict[str, Any] = {}
    for name, (member, made) in SETTINGS.items():
        value = given.get(name)
        if value is not None:
            found[member] = made(value) if value else None
    return found
