"""What the host can enforce, limit by limit, and how busy the engine is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """Whether one limit holds on this host, by which mechanism, and what to do if it does not."""

    limit: str  # "memory", "cpu", "pids", "tmp", "seccomp", …
    enforced: bool
    mechanism: str  # such as "cgroup v1 memory"; "" when there is none
    detail: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class HostReport:
    """What `cleave doctor` shows."""

    checks: tuple[Check, ...]
    engine_version: str
    runtimes: tuple[str, ...]
    sandboxes: int = 0
    idle_sandboxes: int = 0
    concurrency: int = 0
