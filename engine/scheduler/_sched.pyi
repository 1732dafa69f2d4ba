from collections.abc import Iterable
from typing import Final, TypedDict

OK: Final[int]
STALE: Final[int]
STATE: Final[int]
FULL: Final[int]
UNRESERVED: Final[int]
PROVISIONED: Final[int]
WEIGHTS: Final[int]
VALUE: Final[int]

NOTHING: Final[int]
RUN: Final[int]
START: Final[int]
WAIT: Final[int]
THROTTLED: Final[int]
REFUSED: Final[int]
FAILED: Final[int]

NO_REASON: Final[int]
CONCURRENCY: Final[int]
RESERVED_CONCURRENCY: Final[int]
RATE: Final[int]
RESERVED_RATE: Final[int]
BURST: Final[int]
REASON_NAMES: Final[tuple[str, ...]]

WHY_DEAD: Final[int]
WHY_REFUSED: Final[int]
WHY_INIT: Final[int]

DO_RUN: Final[int]
DO_START: Final[int]
DO_CLOSE: Final[int]
DO_HURRY: Final[int]
DO_KILL: Final[int]
DO_REFUSE: Final[int]
DO_DEADLINE: Final[int]

WEIGHT: Final[int]

class Rejected(Exception):
    code: int
    def __init__(self, code: int) -> None: ...

class Settings(TypedDict):
    account_limit: int
    min_unreserved: int
    room: int
    rate_factor: int
    burst: int
    burst_ns: int
    keep_alive_ns: int
    retry_after_ms: int
    provisioned_starts: int
    provisioned_retry_ns: int
    provisioned_retry_most_ns: int

class CoreCounts(TypedDict):
    limit: int
    reserved: int
    provisioned: int
    concurrency: int
    unreserved_in_use: int
    waiting: int
    sandboxes: int
    starting: int
    idle: int
    busy: int
    closing: int
    peak_sandboxes: int
    peak_concurrency: int
    submitted: int
    cold: int
    warm: int
    provisioned_runs: int
    waited: int
    throttled: tuple[int, ...]

class FunctionCounts(TypedDict):
    reserved: int
    provisioned: int
    concurrency: int
    on_demand: int
    waiting: int
    sandboxes: int
    throttled: int

class AllocationCounts(TypedDict):
    requested: int
    allocated: int
    available: int
    starting: int
    failures: int

class Core:
    def __init__(
        self,
        *,
        functions: int = 65536,
        targets: int = 131072,
        aliases: int = 65536,
        calls: int = 65536,
        sandboxes: int = 65536,
        **settings: int,
    ) -> None: ...
    def capsule(self) -> object: ...
    def configure(self, now: int, **settings: int) -> None: ...
    @property
    def settings(self) -> Settings: ...
    def function_add(self) -> int: ...
    def function_remove(self, function: int, now: int) -> None: ...
    def set_reserved(self, function: int, reserved: int, now: int) -> None: ...
    def target_add(self, function: int, tag: int = 0, user: int = 0) -> int: ...
    def set_provisioned(self, target: int, provisioned: int, now: int) -> None: ...
    def target_retire(self, target: int, now: int) -> None: ...
    def retire(self, function: int, keep: int | None, now: int) -> None: ...
    def alias_set(self, alias: int, routes: Iterable[tuple[int, int]]) -> int: ...
    def alias_remove(self, alias: int) -> None: ...
    def route(self, alias: int, random: int) -> int: ...
    @property
    def call(self) -> int: ...
    @property
    def sandbox(self) -> int: ...
    @property
    def user(self) -> int: ...
    @property
    def reason(self) -> int: ...
    @property
    def retry_after_ms(self) -> int: ...
    @property
    def warm(self) -> bool: ...
    @property
    def provisioned(self) -> bool: ...
    @property
    def covers_init(self) -> bool: ...
    def submit(self, target: int, now: int, user: int = 0) -> int: ...
    def submit_claimed(self, target: int, now: int, user: int = 0) -> int: ...
    def finished(self, call: int, keep: bool, now: int) -> None: ...
    def again(self, call: int, why: int, now: int) -> int: ...
    def cancel(self, call: int, now: int) -> None: ...
    def set_deadline(self, call: int, after: int, now: int) -> None: ...
    def started(self, sandbox: int, now: int, user: int = 0) -> int: ...
    def set_user(self, sandbox: int, user: int) -> None: ...
    def start_failed(self, sandbox: int, now: int) -> None: ...
    def died(self, sandbox: int, now: int) -> None: ...
    def closed(self, sandbox: int, now: int) -> None: ...
    @property
    def pending(self) -> bool: ...
    def next(self) -> tuple[int, int, int, int] | None: ...
    def next_claimed(self) -> tuple[int, int, int, int, int] | None: ...
    def tick(self, now: int) -> None: ...
    @property
    def due(self) -> int: ...
    def drain(self, now: int) -> None: ...
    def kill(self, now: int) -> None: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def idle(self) -> int: ...
    def counts(self) -> CoreCounts: ...
    def function_counts(self, function: int) -> FunctionCounts: ...
    def busy(self, sandbox: int) -> int: ...
    def allocation(self, target: int) -> AllocationCounts: ...
    def check(self) -> str: ...
