"""The native scheduler and the model side by side: each input goes to both, and whatever they decide is compared.

`Pair` also keeps what an owner of the scheduler would: which sandboxes it was told to start or to close. So a history
is made of choices among what there is, and its inputs are those that can come, with a stale one now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.scheduler import core as native
from tests.native.sched.model import Model
from tests.native.sched.state import SECOND, Action, Call, Decision, Function, No, Sandbox, Target

VERDICTS = ("nothing", "run", "start", "wait", "throttled", "refused", "failed")
REASONS = ("", "concurrency", "reserved_concurrency", "rate", "reserved_rate", "burst")
ACTIONS = ("", "run", "start", "close", "hurry", "kill", "refuse", "deadline")
ERRORS = {
    native.OK: "",
    native.STALE: "stale",
    native.STATE: "state",
    native.UNRESERVED: "unreserved",
    native.PROVISIONED: "provisioned",
}
WHY = {"dead": native.WHY_DEAD, "refused": native.WHY_REFUSED, "init": native.WHY_INIT}
UNORDERED = ("deadline", "kill")  # several of them are due at once, or are told at once

SETTINGS = {
    "account_limit": 12,
    "min_unreserved": 3,
    "room": 8,
    "rate_factor": 0,
    "burst": 0,
    "burst_ns": 10 * SECOND,
    "keep_alive_ns": 600 * SECOND,
    "retry_after_ms": 1_000,
    "provisioned_starts": 2,
    "provisioned_retry_ns": SECOND,
    "provisioned_retry_most_ns": 8 * SECOND,
}

USER = 77  # of claimed calls

Choice = tuple[str, int, int]


class Pair:
    def __init__(self, **settings: int) -> None:
        settings = SETTINGS | settings
        self.core = native.Core(functions=64, targets=256, aliases=8, calls=64, sandboxes=64, **settings)
        self.model = Model(**settings)
        self.now = 1_000_000_000_000
        self.ids: dict[object, int] = {}  # of the model's functions, targets, calls and sandboxes
        self.starting: list[Sandbox] = []  # what the owner was told to start, and has not yet
        self.closing: list[Sandbox] = []
        self.gone: list[int] = []
        self.claimed: set[Call] = set()  # those that wait

    # --- One input

    def both(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[bool, Any, Any]:
        """Whether it was taken, and what each returned."""
        before = self.core.counts()
        try:
            expected, refusal = theirs(), ""
        except No as no:
            expected, refusal = None, str(no)
        try:
            got = ours()
            code = native.OK
        except native.Rejected as rejected:
            got, code = None, rejected.code
        assert ERRORS[code] == refusal
        if refusal:
            assert self.core.counts() == before
        return not refusal, got, expected

    def decided(self, verdict: int, expected: Decision) -> Decision:
        """What the native one decided is what the model did."""
        core = self.core
        got = (VERDICTS[verdict], REASONS[core.reason], core.retry_after_ms, core.warm, core.provisioned)
        assert got == expected[:5]
        assert core.covers_init == expected.covers_init
        for theirs, identity in ((expected.call, core.call), (expected.sandbox, core.sandbox)):
            if theirs is None:
                assert identity == 0
            else:
                assert self.ids.setdefault(theirs, identity) == identity
        if expected.verdict == "start":
            assert expected.sandbox is not None
            self.starting.append(expected.sandbox)
        return expected

    def act(self) -> list[Action]:
        """Read the actions of both, compare them, and do what an owner does."""
        every, self.model.actions = self.model.actions, []
        expected = [one for one in every if not self.is_claimed(one)]
        got: list[tuple[str, int, int, int]] = []
        while (action := self.core.next()) is not None:
            got.append((ACTIONS[action[0]], *action[1:]))
        for theirs, (what, call, sandbox, target) in zip(expected, got, strict=False):
            if theirs.what in UNORDERED:
                continue
            assert what == theirs.what
            assert call == (0 if theirs.call is None else self.ids[theirs.call])
            if theirs.sandbox is not None:
                assert self.ids.setdefault(theirs.sandbox, sandbox) == sandbox
                assert target == self.ids[theirs.sandbox.target]
            if what == "start":
                assert theirs.sandbox is not None
                self.starting.append(theirs.sandbox)
            if what == "close":
                assert theirs.sandbox is not None
                self.closing.append(theirs.sandbox)
        for kind in UNORDERED:
            mine = sorted(call for what, call, *_ in got if what == kind)
            assert mine == sorted(self.ids[one.call] for one in expected if one.what == kind)
        assert len(got) == len(expected)
        self.act_claimed([one for one in every if one not in expected])
        assert not self.core.pending
        return every

    def is_claimed(self, action: Action) -> bool:
        return action.call in self.claimed and action.what in ("run", "start", "refuse")

    def act_claimed(self, expected: list[Action]) -> None:
        """The same of what is told apart."""
        for theirs in expected:
            assert theirs.call is not None
            self.claimed.remove(theirs.call)
            found = self.told(theirs.call)
            assert found is not None
            what, call, sandbox, _, user = found
            assert (ACTIONS[what], call, user) == (theirs.what, self.ids[theirs.call], USER)
            if theirs.sandbox is not None:
                assert self.ids.setdefault(theirs.sandbox, sandbox) == sandbox
            if theirs.what == "start":
                assert theirs.sandbox is not None
                self.starting.append(theirs.sandbox)
        assert self.core.next_claimed() is None

    def told(self, call: Call) -> tuple[int, int, int, int, int] | None:
        """How a claimed call goes on."""
        return self.core.next_claimed()

    def check(self) -> None:
        """Both are in the same state, and the native one's adds up."""
        assert self.core.check() == ""
        model, counts = self.model, self.core.counts()
        assert counts["concurrency"] == len(model.calls)
        assert counts["waiting"] == model.waiting()
        assert counts["sandboxes"] == len(model.sandboxes)
        assert counts["reserved"] == model.reserved()
        assert counts["provisioned"] == model.provisioned_unreserved()
        for state in ("starting", "idle", "busy", "closing"):
            assert counts[state] == len(model.in_state(state))
        for target in model.targets:
            kept = model.kept_of(target)
            starting = sum(sandbox.state == "starting" for sandbox in kept)
            assert self.core.allocation(self.ids[target]) == {
                "requested": target.provisioned,
                "allocated": len(kept) - starting,
                "available": sum(sandbox.state == "idle" for sandbox in kept),
                "starting": starting,
                "failures": target.failures,
            }
        for function in model.functions:
            seen = self.core.function_counts(self.ids[function])
            assert seen["on_demand"] == model.on_demand(function)
            assert seen["reserved"] == function.reserved

    # --- The inputs

    def function(self) -> Function:
        function = self.model.function_add()
        self.ids[function] = self.core.function_add()
        return function

    def target(self, function: Function, tag: int = 0) -> Target | None:
        _, got, expected = self.both(
            lambda: self.core.target_add(self.ids[function], tag), lambda: self.model.target_add(function, tag)
        )
        if expected is not None:
            self.ids[expected] = got
        assert isinstance(expected, Target | None)
        return expected

    def submit(self, target: Target) -> Decision | None:
        taken, got, expected = self.both(
            lambda: self.core.submit(self.ids[target], self.now), lambda: self.model.submit(target, self.now)
        )
        return self.after(self.decided(got, expected) if taken else None)

    def submit_claimed(self, target: Target) -> Decision | None:
        taken, got, expected = self.both(
            lambda: self.core.submit_claimed(self.ids[target], self.now, USER),
            lambda: self.model.submit_claimed(target, self.now),
        )
        if taken and expected.verdict == "wait":
            self.claimed.add(expected.call)
        return self.after(self.decided(got, expected) if taken else None)

    def started(self, sandbox: Sandbox) -> Decision | None:
        taken, got, expected = self.both(
            lambda: self.core.started(self.ids[sandbox], self.now, self.seat_of(sandbox)),
            lambda: self.model.started(sandbox, self.now),
        )
        self.starting.remove(sandbox)
        return self.after(self.decided(got, expected) if taken else None)

    def seat_of(self, sandbox: Sandbox) -> int:
        """What the native one is told of it."""
        return 0

    def again(self, call: Call, why: str) -> Decision | None:
        taken, got, expected = self.both(
            lambda: self.core.again(self.ids[call], WHY[why], self.now), lambda: self.model.again(call, why, self.now)
        )
        return self.after(self.decided(got, expected) if taken else None)

    def start_failed(self, sandbox: Sandbox) -> None:
        self.starting.remove(sandbox)
        self.plain("start_failed", sandbox)

    def closed(self, sandbox: Sandbox) -> None:
        self.closing.remove(sandbox)
        self.plain("closed", sandbox)

    def plain(self, name: str, what: object, *values: Any) -> bool:
        """An input that decides nothing at once: `name(what, *values, now)`."""
        taken, _, _ = self.both(
            lambda: getattr(self.core, name)(self.ids[what], *values, self.now),
            lambda: getattr(self.model, name)(what, *values, self.now),
        )
        self.after(None)
        return taken

    def timed(self, name: str, **settings: int) -> list[Action]:
        """tick, drain, kill or configure."""
        getattr(self.core, name)(self.now, **settings)
        getattr(self.model, name)(self.now, **settings)
        return self.act()

    def after(self, decision: Decision | None) -> Decision | None:
        self.act()
        return decision

    def stale(self) -> None:
        """An id of something that is gone, or was never there, changes nothing."""
        before = self.core.counts()
        known = {self.ids[one] for one in (*self.model.calls, *self.model.sandboxes, *self.model.targets)}
        known |= {self.ids[function] for function in self.model.functions}
        core, now = self.core, self.now
        for identity in [0, 1, 1 << 63, (1 << 64) - 1, *(set(self.ids.values()) - known)]:
            inputs: list[Callable[[], object]] = []
            if all(self.ids[call] != identity for call in self.model.calls):
                inputs += [lambda i=identity: core.finished(i, True, now), lambda i=identity: core.cancel(i, now)]  # type: ignore[misc]
            if all(self.ids[sandbox] != identity for sandbox in self.model.sandboxes):
                inputs += [lambda i=identity: core.started(i, now), lambda i=identity: core.closed(i, now)]  # type: ignore[misc]
            if all(self.ids[target] != identity for target in self.model.targets):
                inputs += [lambda i=identity: core.submit(i, now)]  # type: ignore[misc]
            for send in inputs:
                with pytest.raises(native.Rejected, check=lambda error: error.code == native.STALE):
                    send()
        self.model.clock(now)
        assert core.counts() == before


def play(pair: Pair, choices: list[Choice], *, check: bool = True) -> None:
    """A history: each choice is an input and two numbers that pick among what there is."""
    model = pair.model
    for what, first, second in choices:

        def pick(among: list[Any], number: int = first) -> Any:
            return among[number % len(among)] if among else None

        running = [call for call in model.calls if call.state == "running"]
        match what:
            case "submit" if target := pick(model.targets):
                pair.submit(target)
            case "submit_claimed" if target := pick(model.targets):
                pair.submit_claimed(target)
            case "started" if sandbox := pick(pair.starting):
                pair.started(sandbox)
            case "start_failed" if sandbox := pick(pair.starting):
                pair.start_failed(sandbox)
            case "closed" if sandbox := pick(pair.closing):
                pair.closed(sandbox)
            case "finished" if call := pick(running):
                pair.plain("finished", call, second % 4 > 0)
            case "early" if call := pick([one for one in model.calls if one not in running]):
                assert not pair.plain("finished", call, True)
            case "again" if call := pick(running):
                pair.again(call, ("dead", "refused", "init")[second % 3])
            case "cancel" if call := pick(model.calls):
                pair.plain("cancel", call)
            case "died" if sandbox := pick(model.sandboxes):
                pair.plain("died", sandbox)
            case "deadline" if call := pick(model.calls):
                pair.plain("set_deadline", call, (second % 40 - 2) * 100_000_000)
            case "function" if len(model.functions) < 6:
                pair.target(pair.function(), second % 3)
            case "target" if (function := pick(model.functions)) and len(model.targets) < 12:
                pair.target(function, second % 3)
            case "retire" if function := pick(model.functions):
                pair.plain("retire", function, None if second % 4 == 3 else second % 4)
            case "target_retire" if target := pick(model.targets):
                pair.plain("target_retire", target)
            case "function_remove" if function := pick(model.functions):
                pair.plain("function_remove", function)
            case "reserve" if function := pick(model.functions):
                pair.plain("set_reserved", function, second % 20 if second % 20 < 7 else -1)
            case "provision" if target := pick(model.targets):
                pair.plain("set_provisioned", target, second % 5)
            case "configure":
                pair.timed(
                    "configure",
                    **{_CHANGES[first % len(_CHANGES)][0]: pick(_CHANGES[first % len(_CHANGES)][1], second)},
                )
            case "forward":
                pair.now += (1, 700, 500_000, 30_000_000, SECOND, 11 * SECOND, 700 * SECOND)[first % 7] * (second % 5)
                pair.timed("tick")
            case "back":
                pair.now -= (1, 1_000_000, 10_000_000, SECOND, 3_600 * SECOND, 2_000_000 * SECOND)[first % 6]
                pair.timed("tick")
            case "drain":
                pair.timed("drain")
            case "kill":
                pair.timed("kill")
            case "stale":
                pair.stale()
        if check:
            pair.check()


_CHANGES: list[tuple[str, list[int]]] = [
    ("account_limit", [0, 1, 6, 12, 40]),
    ("room", [1, 4, 8, 12]),
    ("rate_factor", [0, 1, 10]),
    ("burst", [0, 1, 5]),
    ("keep_alive_ns", [0, SECOND, 600 * SECOND]),
    ("min_unreserved", [0, 3]),
    ("provisioned_starts", [1, 4]),
]
