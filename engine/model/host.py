"""What the host can enforce, limit by limit, and how busy the engine is."""

from __future__ import annotations

from dataclasses import dataclass

from engine.model.outcome import Outcome, StartKind


@dataclass(frozen=True, slots=True)
class Check:
    """Whether one limit holds on this host, by which mechanism, and what to do if it does not."""

    limit: str  # "memory", "cpu", "pids", "tmp", "seccomp", …
    enforced: bool
    mechanism: str  # such as "cgroup v1 memory"; "" when there is none
    detail: str = ""
    fix: str = ""
    weaker: str = ""  # in accept_weaker: the weaker form that is in force, or that would be if it were accepted


@dataclass(frozen=True, slots=True)
class ResourceCount:
    """How many of one kind of thing the engine made on its host since it started, and took away again."""

    kind: str  # "sandboxes", "leaves", "tmp_mounts", "zygotes", …
    made: int
    removed: int


@dataclass(frozen=True, slots=True)
class EventCount:
    """How often something befell a sandbox, or its removal, since the engine started."""

    kind: str  # "out_of_memory", "timeouts", …
    count: int


@dataclass(frozen=True, slots=True)
class RuntimeFound:
    """A runtime and the interpreter that it is."""

    runtime: str  # such as "python3.11"
    version: str  # such as "3.11.2"
    path: str  # of the executable


@dataclass(frozen=True, slots=True)
class Distribution:
    """Times in microseconds. `buckets` are (the longest time of it, how many), only those that have any."""

    count: int
    sum_us: int
    p50_us: int
    p99_us: int
    max_us: int
    buckets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One step of starts of one kind, in microseconds."""

    step: str  # what was done at its end, as in a timeline
    count: int
    sum_us: int
    max_us: int


@dataclass(frozen=True, slots=True)
class StartStats:
    """The invocations of one kind of start since the engine started; `start`, `init` and `steps` are empty where it is
    warm."""

    kind: StartKind
    outcomes: tuple[tuple[Outcome, int], ...]
    queue: Distribution
    start: Distribution
    init: Distribution
    handler: Distribution
    total: Distribution
    steps: tuple[StepTimes, ...] = ()  # the engine's own, up to the end of the init phase


@dataclass(frozen=True, slots=True)
class ZygoteFound:
    """A warm interpreter that sandboxes are forked from, or why there is none."""

    runtime: str
    preload: tuple[str, ...]  # modules that it has imported ahead
    pid: int = 0  # 0 where there is none
    age_ms: int = 0
    forks: int = 0
    preload_memory_bytes: int = 0  # what the modules take, once for all sandboxes
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class HostReport:
    """What `cleave doctor` shows."""

    checks: tuple[Check, ...]
    engine_version: str
    runtimes: tuple[str, ...]
    sandboxes: int = 0
    idle_sandboxes: int = 0
    concurrency: int = 0
    resources: tuple[ResourceCount, ...] = ()  # empty where no engine runs
    events: tuple[EventCount, ...] = ()
    interpreters: tuple[RuntimeFound, ...] = ()  # what each of `runtimes` is
    starts: tuple[StartStats, ...] = ()
    zygotes: tuple[ZygoteFound, ...] = ()
