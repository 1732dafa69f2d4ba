"""The rules of native/sched/sched.h once more, slowly: lists that are searched and sums that are counted each time.

Written from what the header promises, to be compared with the native scheduler decision by decision. Nothing is shared
with it but the names of verdicts, reasons and actions.
"""

from __future__ import annotations

from tests.native.sched.placing import Placing
from tests.native.sched.state import (
    FOREVER,
    FRESH_TRIES,
    SECOND,
    TICK,
    WARM_TRIES,
    Action,
    Bucket,
    Call,
    Decision,
    Function,
    No,
    Sandbox,
    Target,
)


class Model(Placing):
    # --- Time

    def tick(self, now: int) -> None:
        self.clock(now)
        self.ticked = self.now // TICK
        for call in self.calls:
            if call.deadline_tick is not None and call.deadline_tick <= self.ticked:
                call.deadline_tick = None
                self.actions.append(Action("deadline", call))
        for target in self.targets:
            if target.retry_tick is not None and target.retry_tick <= self.ticked:
                target.retry_tick = None
        for sandbox in self.oldest():
            if self.now - sandbox.idle_since >= self.set["keep_alive_ns"]:
                self.close(sandbox)
        self.settle()

    def set_deadline(self, call: Call, after: int, now: int) -> None:
        self.clock(now)
        call.deadline_tick = None if after < 0 else self.tick_of(self.now + min(after, FOREVER))

    # --- What there is

    def configure(self, now: int, **settings: int) -> None:
        self.clock(now)
        before = dict(self.set)
        self.rate.refill(self.now)
        for function in self.functions:
            function.rate.refill(self.now)
            function.burst.refill(self.now)
        self.set.update(settings)
        for function in self.functions:
            function.rate.size = self.rate_size(function)
            function.burst.size, function.burst.period = self.set["burst"], self.set["burst_ns"]
            if (before["burst"], before["burst_ns"]) != (self.set["burst"], self.set["burst_ns"]):
                function.burst.fill(self.now)
        self.rate.size = self.rate_size(None)
        if any(before[name] != self.set[name] for name in ("rate_factor", "account_limit")):
            for bucket in (self.rate, *(function.rate for function in self.functions)):
                bucket.fill(self.now)
        self.settle()

    def function_add(self) -> Function:
        function = Function(Bucket(self.set["burst"], self.set["burst_ns"]), Bucket(0, SECOND))
        function.burst.fill(self.now)
        self.functions.append(function)
        return function

    def function_remove(self, function: Function, now: int) -> None:
        if function.removed:
            raise No("stale")
        self.retire(function, None, now)
        self.set_reserved(function, -1, now)
        function.removed = True
        self.forget()

    def set_reserved(self, function: Function, reserved: int, now: int) -> None:
        if function.removed:
            raise No("stale")
        provisioned = self.provisioned_of(function)
        if 0 <= reserved < provisioned:
            raise No("provisioned")
        before = function.reserved if function.reserved >= 0 else provisioned
        after = reserved if reserved >= 0 else provisioned
        left = self.set["account_limit"] - self.reserved() - self.provisioned_unreserved() + before - after
        if after > before and left < self.set["min_unreserved"]:
            raise No("unreserved")
        self.clock(now)
        self.rate.refill(self.now)
        function.rate.refill(self.now)
        fresh = function.reserved < 0
        function.reserved = reserved
        function.rate.size, self.rate.size = self.rate_size(function), self.rate_size(None)
        if fresh:
            function.rate.fill(self.now)
        function.rate.refill(self.now)
        self.rate.refill(self.now)

    def target_add(self, function: Function, tag: int) -> Target:
        if function.removed:
            raise No("stale")
        target = Target(function, tag)
        self.targets.append(target)
        return target

    def set_provisioned(self, target: Target, provisioned: int, now: int) -> None:
        if target.retired:
            raise No("stale")
        function = target.function
        more = max(0, provisioned - target.provisioned)
        if more and 0 <= function.reserved < self.provisioned_of(function) + more:
            raise No("provisioned")
        left = self.set["account_limit"] - self.reserved() - self.provisioned_unreserved() - more
        if more and function.reserved < 0 and left < self.set["min_unreserved"]:
            raise No("unreserved")
        self.clock(now)
        if target.provisioned == 0 and provisioned:
            self.kept.append(target)
        if target.provisioned and not provisioned:
            self.kept.remove(target)
        target.provisioned = provisioned
        target.retry_tick, target.failures = None, 0
        while len(self.kept_of(target)) > provisioned and self.stack(target, True):
            self.on_demand_from_here(self.stack(target, True)[0])
        self.settle()

    def target_retire(self, target: Target, now: int) -> None:
        self.clock(now)
        self.retire_one(target)
        self.settle()

    def retire(self, function: Function, keep: int | None, now: int) -> None:
        self.clock(now)
        for target in self.of_function(function):
            if keep is None or target.tag != keep:
                self.retire_one(target)
        self.settle()

    def retire_one(self, target: Target) -> None:
        if target in self.kept:
            self.kept.remove(target)
        target.provisioned, target.retired = 0, True
        for sandbox in self.stack(target, True) + self.stack(target, False):
            self.close(sandbox)
        self.forget()

    # --- Calls

    def admit(self, target: Target) -> tuple[str, int]:
        function = target.function
        ready, idle = self.stack(target, True), self.stack(target, False)
        limit, pause = self.set["account_limit"], self.set["retry_after_ms"]
        taken = self.on_demand(function)
        if not ready and function.reserved >= 0 and taken >= function.reserved - self.provisioned_of(function):
            return "reserved_concurrency", pause
        if len(self.calls) >= limit:
            return "concurrency", pause
        if not ready and function.reserved < 0:
            taken = sum(self.on_demand(other) for other in self.functions if other.reserved < 0)
            if taken >= limit - self.reserved() - self.provisioned_unreserved():
                return "concurrency", pause
        rate = function.rate if function.reserved >= 0 else self.rate
        if self.set["rate_factor"]:
            rate.refill(self.now)
            if wait := rate.wait_ms(pause):
                return ("reserved_rate" if function.reserved >= 0 else "rate"), wait
        if self.set["burst"] and not ready and not idle:
            function.burst.refill(self.now)
            if wait := function.burst.wait_ms(pause):
                return "burst", wait
            function.burst.tokens -= 1
        if self.set["rate_factor"]:
            rate.tokens -= 1
        return "", 0

    def submit(self, target: Target, now: int) -> Decision:
        if target.retired:
            raise No("stale")
        self.clock(now)
        if self.draining:
            return Decision("refused")
        return self.admitted(target)

    def submit_claimed(self, target: Target, now: int) -> Decision:
        if target.retired:
            raise No("stale")
        self.clock(now)
        if self.draining or (not self.of(target, "idle") and self.room()):
            return Decision("nothing")
        decision = self.admitted(target)
        return decision if decision.verdict in ("run", "wait") else Decision("nothing")

    def admitted(self, target: Target) -> Decision:
        starts = bool(self.set["burst"]) and not self.of(target, "idle")
        reason, wait = self.admit(target)
        if reason:
            return Decision("throttled", reason, wait)
        call = Call(target, paid=starts)
        self.calls.append(call)
        decision = self.place(call)
        self.settle()
        return decision

    def finished(self, call: Call, keep: bool, now: int) -> None:
        self.clock(now)
        if call.state != "running":
            raise No("state")
        sandbox = call.sandbox
        assert sandbox is not None
        self.end(call)
        if keep and not (sandbox.dead or self.killed or sandbox.target.retired):
            self.release(sandbox)
        else:
            self.close(sandbox)
        self.settle()

    def again(self, call: Call, why: str, now: int) -> Decision:
        self.clock(now)
        if call.state != "running":
            raise No("state")
        assert call.sandbox is not None
        self.close(call.sandbox)
        failed = False
        if why == "dead" and call.warm:
            call.warm_left = min(call.warm_left + 1, WARM_TRIES)
            call.fresh_left = max(call.fresh_left, 1)
        if why == "init":
            failed = call.covers_init
            call.covers_init = True
            call.warm_left, call.fresh_left = WARM_TRIES, FRESH_TRIES
        if failed or call.fresh_left == 0:
            self.end(call)
            self.settle()
            return Decision("failed", call=call)
        if self.killed:
            self.end(call)
            self.settle()
            return Decision("refused", call=call)
        burst = call.target.function.burst
        burst.refill(self.now)
        if self.set["burst"] and burst.tokens >= 1 and not (call.warm_left and self.of(call.target, "idle")):
            burst.tokens -= 1
            call.paid = True
        decision = self.place(call)
        self.settle()
        return decision

    def cancel(self, call: Call, now: int) -> None:
        self.clock(now)
        if call.state == "running":
            assert call.sandbox is not None
            self.close(call.sandbox)
        elif call.state == "starting":
            assert call.sandbox is not None
            call.sandbox.call = None
        self.end(call)
        self.forget()
        self.settle()

    # --- Sandboxes

    def started(self, sandbox: Sandbox, now: int) -> Decision:
        self.clock(now)
        if sandbox.state != "starting":
            raise No("state")
        call = sandbox.call
        if sandbox.provisioned:
            sandbox.target.failures = 0
        decision = Decision("nothing", sandbox=sandbox)
        if call and not self.killed:
            self.run(call, sandbox)
            decision = Decision("run", covers_init=call.covers_init, call=call, sandbox=sandbox)
        elif call:
            self.end(call)
            self.close(sandbox)
            decision = Decision("refused", call=call, sandbox=sandbox)
        elif self.killed or sandbox.target.retired:
            self.close(sandbox)
        else:
            self.release(sandbox)
        self.settle()
        return decision

    def start_failed(self, sandbox: Sandbox, now: int) -> None:
        self.clock(now)
        if sandbox.state != "starting":
            raise No("state")
        if sandbox.provisioned:
            self.pause(sandbox.target, failed=True)
        if sandbox.call:
            self.end(sandbox.call)
        self.sandboxes.remove(sandbox)
        sandbox.state = "gone"
        self.forget()
        self.settle()

    def died(self, sandbox: Sandbox, now: int) -> None:
        self.clock(now)
        if sandbox.state == "starting":
            raise No("state")
        if sandbox.state == "busy":
            sandbox.dead = True
        elif sandbox.state == "idle":
            if sandbox.provisioned:
                self.pause(sandbox.target, failed=False)
            self.close(sandbox)
            self.settle()

    def closed(self, sandbox: Sandbox, now: int) -> None:
        self.clock(now)
        if sandbox.state != "closing":
            raise No("state")
        self.sandboxes.remove(sandbox)
        sandbox.state = "gone"
        self.forget()
        self.settle()

    # --- The end

    def drain(self, now: int) -> None:
        self.clock(now)
        self.draining = True
        for target in self.kept:
            for sandbox in self.stack(target, True):
                self.close(sandbox)
        for sandbox in self.oldest():
            self.close(sandbox)
        self.settle()

    def kill(self, now: int) -> None:
        self.drain(now)
        if self.killed:
            return
        self.killed = True
        while self.turns:
            call = self.turns[0].turns[0].queue[0]
            self.end(call)
            self.actions.append(Action("refuse", call))
        for sandbox in self.leaving():
            self.hurry(sandbox)
        for sandbox in self.in_state("busy"):
            self.actions.append(Action("kill", sandbox.call, sandbox))
        self.forget()
        self.settle()
