"""What the model of the scheduler consists of: calls, sandboxes, targets, functions, a clock, and what can be counted
of them. Sums are counted each time, lists are searched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

SECOND = 1_000_000_000
TICK = 1 << 20
FOREVER = 1 << 61
WARM_TRIES, FRESH_TRIES = 3, 2


class Decision(NamedTuple):
    verdict: str
    reason: str = ""
    retry_after_ms: int = 0
    warm: bool = False
    provisioned: bool = False
    covers_init: bool = False
    call: Call | None = None
    sandbox: Sandbox | None = None


class Action(NamedTuple):
    what: str
    call: Call | None = None
    sandbox: Sandbox | None = None


class No(Exception):
    """The input is refused; its word is that of native/sched/sched.h."""


@dataclass(eq=False)
class Bucket:
    """So many tokens, coming back within the period."""

    size: int
    period: int
    tokens: Fraction = Fraction(0)
    at: int = 0

    def fill(self, now: int) -> None:
        self.tokens, self.at = Fraction(self.size), now

    def refill(self, now: int) -> None:
        self.tokens = min(Fraction(self.size), self.tokens + Fraction((now - self.at) * self.size, self.period))
        self.at = now

    def wait_ms(self, otherwise: int) -> int:
        """Until there is a token, rounded up; 0 when there is one."""
        if self.tokens >= 1:
            return 0
        if self.size == 0:
            return otherwise
        wait_ns = -(-((1 - self.tokens) * self.period) // self.size)
        return -(-int(wait_ns) // 1_000_000)


@dataclass(eq=False)
class Function:
    burst: Bucket
    rate: Bucket
    reserved: int = -1
    removed: bool = False
    turns: list[Target] = field(default_factory=list)  # with waiting calls, the next first


@dataclass(eq=False)
class Target:
    function: Function
    tag: int
    provisioned: int = 0
    retired: bool = False
    failures: int = 0
    retry_tick: int | None = None
    handovers: int = 0
    queue: list[Call] = field(default_factory=list)


@dataclass(eq=False)
class Sandbox:
    target: Target
    state: str = "starting"
    call: Call | None = None
    provisioned: bool = False
    dead: bool = False
    hurried: bool = False
    idle_order: int = 0
    idle_since: int = 0
    close_order: int = 0


@dataclass(eq=False)
class Call:
    target: Target
    state: str = "new"
    sandbox: Sandbox | None = None
    warm_left: int = WARM_TRIES
    fresh_left: int = FRESH_TRIES
    warm: bool = False
    covers_init: bool = False
    paid: bool = False
    deadline_tick: int | None = None
    provisioned: bool = False


class State:
    def __init__(self, **settings: int) -> None:
        self.set = settings
        self.now = 0
        self.raw: int | None = None
        self.ticked = 0
        self.order = 0
        self.functions: list[Function] = []
        self.targets: list[Target] = []
        self.kept: list[Target] = []  # with provisioned concurrency, in the order in which they got it
        self.calls: list[Call] = []
        self.sandboxes: list[Sandbox] = []
        self.turns: list[Function] = []
        self.draining = self.killed = False
        self.actions: list[Action] = []
        self.rate = Bucket(0, SECOND)
        self.rate.size = self.rate_size(None)
        self.rate.fill(0)

    # --- What can be counted

    def in_state(self, *states: str) -> list[Sandbox]:
        return [sandbox for sandbox in self.sandboxes if sandbox.state in states]

    def of(self, target: Target, *states: str) -> list[Sandbox]:
        return [sandbox for sandbox in self.in_state(*states) if sandbox.target is target]

    def stack(self, target: Target, provisioned: bool) -> list[Sandbox]:
        """The one that idles for the shortest time first."""
        idle = [sandbox for sandbox in self.of(target, "idle") if sandbox.provisioned == provisioned]
        return sorted(idle, key=lambda sandbox: -sandbox.idle_order)

    def oldest(self) -> list[Sandbox]:
        idle = [sandbox for sandbox in self.in_state("idle") if not sandbox.provisioned]
        return sorted(idle, key=lambda sandbox: sandbox.idle_order)

    def leaving(self) -> list[Sandbox]:
        unhurried = [sandbox for sandbox in self.in_state("closing") if not sandbox.hurried]
        return sorted(unhurried, key=lambda sandbox: sandbox.close_order)

    def waiting(self) -> int:
        return sum(call.state == "waiting" for call in self.calls)

    def room(self) -> bool:
        return len(self.sandboxes) < self.set["room"]

    def of_function(self, function: Function) -> list[Target]:
        return [target for target in self.targets if target.function is function]

    def provisioned_of(self, function: Function) -> int:
        return sum(target.provisioned for target in self.of_function(function))

    def on_demand(self, function: Function) -> int:
        return sum(call.target.function is function and not call.provisioned for call in self.calls)

    def kept_of(self, target: Target) -> list[Sandbox]:
        return [sandbox for sandbox in self.of(target, "starting", "busy", "idle") if sandbox.provisioned]

    def reserved(self) -> int:
        return sum(max(function.reserved, 0) for function in self.functions)

    def provisioned_unreserved(self) -> int:
        return sum(self.provisioned_of(function) for function in self.functions if function.reserved < 0)

    def live(self, what: Function | Target) -> int:
        return sum(
            what in (sandbox.target, sandbox.target.function) for sandbox in self.in_state("starting", "busy", "idle")
        )

    def rate_size(self, function: Function | None) -> int:
        if function is not None and function.reserved >= 0:
            return self.set["rate_factor"] * function.reserved
        return self.set["rate_factor"] * max(0, self.set["account_limit"] - self.reserved())

    # --- Time

    def clock(self, now: int) -> None:
        """A clock that stepped back stood still for that moment, and one that seems to have, stands still."""
        if self.raw is not None and self.raw - 10_000_000 <= now < self.raw:
            return
        if self.raw is not None and now > self.raw:
            self.now = min(self.now + now - self.raw, FOREVER)
        self.raw = now

    def tick_of(self, at: int) -> int:
        return max(-(-at // TICK), self.ticked + 1)
