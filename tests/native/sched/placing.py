"""Where the model's calls run and whose sandbox goes: what belongs to a move, and who is next."""

from __future__ import annotations

from fractions import Fraction

from tests.native.sched.state import Action, Call, Decision, Function, Sandbox, State, Target

QUANTUM = 16


class Placing(State):
    # --- Moves

    def place(self, call: Call) -> Decision:
        target = call.target
        warm = self.stack(target, True) or self.stack(target, False)
        if call.warm_left and warm:
            call.warm_left -= 1
            call.warm, call.paid = True, False
            self.run(call, warm[0])
            return Decision(
                "run",
                warm=True,
                provisioned=warm[0].provisioned,
                covers_init=call.covers_init,
                call=call,
                sandbox=warm[0],
            )
        call.fresh_left -= 1
        call.warm = call.provisioned = False
        call.sandbox = None
        if self.room():
            sandbox = self.start(call)
            return Decision("start", covers_init=call.covers_init, call=call, sandbox=sandbox)
        call.state = "waiting"
        target.queue.append(call)
        if target not in target.function.turns:
            target.function.turns.append(target)
        if target.function not in self.turns:
            self.turns.append(target.function)
        return Decision("wait", covers_init=call.covers_init, call=call)

    def start(self, call: Call) -> Sandbox:
        sandbox = Sandbox(call.target, call=call)
        self.sandboxes.append(sandbox)
        call.state, call.sandbox, call.paid = "starting", sandbox, False
        return sandbox

    def run(self, call: Call, sandbox: Sandbox) -> None:
        sandbox.state, sandbox.call = "busy", call
        call.state, call.sandbox = "running", sandbox
        call.provisioned = sandbox.provisioned

    def unwait(self, call: Call) -> None:
        """It leaves the queue; what it paid for a start that is not made comes back."""
        target, function = call.target, call.target.function
        target.queue.remove(call)
        if not target.queue:
            function.turns.remove(target)
            target.handovers = 0
        if not function.turns:
            self.turns.remove(function)
        if call.paid:
            function.burst.refill(self.now)
            function.burst.tokens = min(Fraction(function.burst.size), function.burst.tokens + 1)
            call.paid = False

    def end(self, call: Call) -> None:
        if call.state == "waiting":
            self.unwait(call)
        call.state = "ended"
        self.calls.remove(call)

    def pause(self, target: Target, *, failed: bool) -> None:
        if target.retry_tick is not None or not target.provisioned:
            return
        pause = self.set["provisioned_retry_ns"]
        if failed:
            pause = min(pause << target.failures, self.set["provisioned_retry_most_ns"])
            target.failures += 1
        target.retry_tick = self.tick_of(self.now + pause)

    def close(self, sandbox: Sandbox) -> None:
        self.order += 1
        sandbox.state, sandbox.call, sandbox.provisioned, sandbox.close_order = "closing", None, False, self.order
        self.actions.append(Action("close", None, sandbox))

    def idle(self, sandbox: Sandbox) -> None:
        self.order += 1
        sandbox.state, sandbox.call = "idle", None
        sandbox.idle_order, sandbox.idle_since = self.order, self.now

    def on_demand_from_here(self, sandbox: Sandbox) -> None:
        sandbox.provisioned = False
        if sandbox.state == "idle":
            self.idle(sandbox)

    def forget(self) -> None:
        """What is retired or removed goes with the last thing that it holds."""
        held = [sandbox.target for sandbox in self.sandboxes] + [call.target for call in self.calls]
        self.targets = [target for target in self.targets if not target.retired or target in held]
        self.functions = [one for one in self.functions if not one.removed or self.of_function(one)]

    # --- Who is next

    def release(self, sandbox: Sandbox) -> None:
        """It may serve on: the next of its target, unless others have a smaller share; or idle."""
        target = sandbox.target
        if sandbox.provisioned and len(self.kept_of(target)) > target.provisioned:
            sandbox.provisioned = False
        if target.queue:
            if not sandbox.provisioned and self.yields(target):
                target.handovers = 0
                self.close(sandbox)
                return
            target.handovers += 1
            call = target.queue[0]
            self.unwait(call)
            call.state, call.warm = "waiting", True
            self.run(call, sandbox)
            self.actions.append(Action("run", call, sandbox))
            return
        self.idle(sandbox)
        if self.draining:
            self.close(sandbox)

    def yields(self, target: Target) -> bool:
        others = self.waiting() - len(target.queue)
        if others <= len(self.in_state("closing")):
            target.handovers = 0
            return False
        function = target.function
        rings: list[tuple[list[Function] | list[Target], Function | Target]] = [
            (self.turns, function),
            (function.turns, target),
        ]
        for ring, mine in rings:
            rival = next((one for one in ring if one is not mine), None)
            if rival is None:
                continue
            theirs = self.live(rival)
            if self.live(mine) > theirs + 1 or (theirs == 0 and target.handovers >= QUANTUM):
                if ring[0] is mine:
                    ring.append(ring.pop(0))  # type: ignore[arg-type]
                return True
        return False

    def settle(self) -> None:
        while self.turns and self.room():
            function = self.turns[0]
            target = function.turns[0]
            self.turns.append(self.turns.pop(0))
            function.turns.append(function.turns.pop(0))
            call = target.queue[0]
            call.paid = False
            self.unwait(call)
            self.actions.append(Action("start", call, self.start(call)))
        hungry = 0
        for target in [] if self.draining else self.kept:
            starting = [sandbox for sandbox in self.of(target, "starting") if sandbox.provisioned]
            allowed = self.set["provisioned_starts"] - len(starting)
            missing = target.provisioned - len(self.kept_of(target))
            for _ in range(min(allowed, missing) if target.retry_tick is None else 0):
                if not self.room():
                    hungry += 1
                    continue
                sandbox = Sandbox(target, provisioned=True)
                self.sandboxes.append(sandbox)
                self.actions.append(Action("start", None, sandbox))
        while len(self.in_state("closing")) < self.waiting() + hungry and self.oldest():
            self.close(self.oldest()[0])
        while sum(one.hurried for one in self.sandboxes) < self.waiting() and self.leaving():
            self.hurry(self.leaving()[0])

    def hurry(self, sandbox: Sandbox) -> None:
        sandbox.hurried = True
        self.actions.append(Action("hurry", None, sandbox))
