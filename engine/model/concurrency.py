"""Reserved and provisioned concurrency as data, and what an account may and does use.

Sources: docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html and gettingstarted-limits.html.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

KEPT_UNRESERVED = 100
"""What reservations leave to the functions that have none."""
CODE_LIMIT_BYTES = 80_530_636_800
"""75 GB of code in an account."""
UNPACKED_LIMIT_BYTES = 262_144_000
ZIP_LIMIT_BYTES = 52_428_800


class ProvisionedStatus(enum.Enum):
    """How far the environments of a configuration are. The values are AWS's."""

    IN_PROGRESS = "IN_PROGRESS"  # some are still being prepared
    READY = "READY"  # as many as were asked for
    FAILED = "FAILED"  # they cannot be had; the reason says why


@dataclass(frozen=True, slots=True)
class ProvisionedConfig:
    """What a user asked for, of one version or alias."""

    function_name: str
    qualifier: str  # a version's number, or an alias
    requested: int  # environments, at least 1
    update_time: datetime  # aware, UTC


@dataclass(frozen=True, slots=True)
class Allocation:
    """What there is of a configuration at this moment."""

    status: ProvisionedStatus
    allocated: int = 0  # environments that exist, busy or not
    available: int = 0  # environments that wait for an event
    reason: str = ""  # of FAILED


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A configuration and what there is of it."""

    config: ProvisionedConfig
    allocation: Allocation


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """The limits of the account, and what of them is used."""

    concurrency: int  # invocations at once
    unreserved: int  # of them, what no function has for itself
    functions: int
    code_bytes: int  # of the zips of all functions and versions
    code_limit_bytes: int = CODE_LIMIT_BYTES
    unpacked_limit_bytes: int = UNPACKED_LIMIT_BYTES
    zip_limit_bytes: int = ZIP_LIMIT_BYTES
