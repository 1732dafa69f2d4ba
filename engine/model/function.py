"""What a function is: its settings, its code and the state it is in. Checking values is engine.registry's work."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from engine.model.layer import LayerUse

LATEST = "$LATEST"

MEMORY_MB_PER_VCPU = 1769
"""The tier that is worth one full vCPU: docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html."""


class FunctionState(enum.Enum):
    """Whether a function can be invoked."""

    PENDING = "pending"
    ACTIVE = "active"
    INACTIVE = "inactive"
    FAILED = "failed"


class Egress(enum.Enum):
    """Where a function may connect to."""

    NONE = "none"  # its own loopback
    INTERNET = "internet"  # public addresses, by NAT


class LogFormat(enum.Enum):
    """How a function's log looks. The values are AWS's."""

    TEXT = "Text"
    JSON = "JSON"


class LogLevel(enum.Enum):
    """How much a line of a log in JSON matters, from least to most. The values are AWS's."""

    TRACE = "TRACE"
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"
    FATAL = "FATAL"


@dataclass(frozen=True, slots=True)
class FunctionConfig:
    """What a user decides about a function. MB is 2^20 bytes."""

    runtime: str
    handler: str
    memory_mb: int = 128
    timeout_ms: int = 3_000
    tmp_mb: int = 512
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    description: str = ""
    role: str = ""
    egress: Egress = Egress.NONE
    log_format: LogFormat = LogFormat.TEXT
    log_level: LogLevel = LogLevel.INFO  # the least of the function's own lines that is kept, in JSON
    system_log_level: LogLevel = LogLevel.INFO  # the least of the engine's lines about it, in JSON
    preload: tuple[str, ...] = ()  # modules of the interpreter that are imported ahead
    own_layout: bool = False  # each sandbox an interpreter of its own, with its own address-space layout
    layers: tuple[LayerUse, ...] = ()  # merged under /opt, lowest first
    aws_settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What clients of AWS's API set and read back, by AWS's names and as JSON has it: see KEPT in
    engine.rest.configuration. Of it only LogGroup changes what a function sees."""

    @property
    def log_group(self) -> str:
        """The log group that the function is told of; "" for /aws/lambda/{function}."""
        return str(self.aws_settings.get("LogGroup", ""))

    @property
    def dead_letter_arn(self) -> str:
        """The queue or the topic for events that failed for good; "": none."""
        return str(self.aws_settings.get("DeadLetterConfig", {}).get("TargetArn", ""))

    @property
    def kms_key_arn(self) -> str:
        """The key of its environment; "": none."""
        return str(self.aws_settings.get("KMSKeyArn", ""))

    @property
    def tracing(self) -> bool:
        """Whether calls are traced without being asked to be."""
        return bool(self.aws_settings.get("TracingConfig", {}).get("Mode") == "Active")

    @property
    def snap_start(self) -> bool:
        """Whether published versions start from a snapshot."""
        return bool(self.aws_settings.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions")


@dataclass(frozen=True, slots=True)
class Function:
    """A function as stored. `etag` changes with every write; AWS calls it RevisionId. Hash and equality by value."""

    name: str
    config: FunctionConfig
    code_sha256: str  # hex, of the zip
    code_size_bytes: int
    etag: str  # a UUID
    create_time: datetime  # aware, UTC
    update_time: datetime
    version: str = LATEST
    state: FunctionState = FunctionState.ACTIVE
    state_reason: str = ""


@dataclass(frozen=True, slots=True)
class CodeBlob:
    """Code in the store: `path` is the read-only folder that is mounted at /var/task."""

    sha256: str  # hex, of the zip
    size_bytes: int
    unpacked_bytes: int
    path: str
