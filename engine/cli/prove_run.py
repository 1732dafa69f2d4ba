"""The questions of `cleave doctor --prove`, asked one after another: each limit's answer is a Finding.

Leaves the functions to engine.cli.prove_calls. Guarantees: an answer that cannot be read is a limit that does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import grpc
import orjson

from engine.cli import prove_handlers as handlers
from engine.cli import prove_probes as probes
from engine.cli.prove_calls import Answer, Calls, Invocation, outcome, peak_bytes, refusal, said
from engine.cli.prove_host import Host
from engine.cli.prove_probes import MB, Found, Probe
from engine.v1 import invocations_pb2, resources_pb2

TIMEOUT_S = 1.0
INIT_WITHIN_S = 15.0
"""An init_timeout_ms beyond this is not waited for."""
_CPU_SECONDS = 2.0
_TOLERANCE = 0.05
_IDLE_HOST = 0.5
_LATE_S = 2.0
_SHOWN_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one limit. `held` is None where it was not asked; `found` says then why."""

    limit: str
    check: str
    asked: str
    found: str
    held: bool | None
    reason: str

    def document(self, weaker: frozenset[str]) -> dict[str, Any]:
        """As JSON shows it. `weaker` are the checks whose weaker form the operator accepted."""
        if self.held is False and self.check in weaker:
            return asdict(self) | {"held": None, "verdict": "not asked of this host: weaker form accepted"}
        verdict = {True: "held", False: "NOT HELD", None: "not asked of this host"}[self.held]
        return asdict(self) | {"verdict": verdict}


@dataclass
class Prover:
    """One run against one engine."""

    calls: Calls
    host: Host
    init_timeout_ms: int

    def findings(self, begins: Callable[[str], None]) -> Iterator[Finding]:
        """Everything, one after another; `begins` is told of each limit. Raises grpc.RpcError where the engine does not
        take the functions."""
        never_ready = self.calls.begin(self.calls.function("init", handler="never.handler", timeout_s=1), {})
        for name, ask in (
            ("memory", self._memory),
            ("CPU", self._cpu),
            ("timeout", self._timeout),
            *((probe.limit, self._looker(probe)) for probe in probes.LOOKS),
            ("/tmp of the next sandbox", self._next_tmp),
            ("network, none", self._no_network),
            ("network, internet", self._internet),
            ("init timeout", lambda: self._init_timeout(never_ready)),
        ):
            begins(name)
            yield from ask()

    # The limits that one event does not answer

    def _memory(self) -> Iterator[Finding]:
        name = self.calls.function("memory", handler="alone.handler", memory_mb=probes.MEMORY_TIER_MB, timeout_s=30)
        alone = self.calls.ask(name, handlers.memory, {"bytes": MB})
        own = peak_bytes(alone) - MB  # the interpreter's
        fits = probes.most_of(probes.MEMORY_TIER_MB, own)
        below, above = (self.calls.ask(name, handlers.memory, {"bytes": size}) for size in (fits, fits + 2 * MB))
        ends = [outcome(answer) for answer in (alone, below, above)]
        found = f"{(own + fits) / MB:.1f} MB {ends[1]}, 2 MB more {ends[2]}, peak {peak_bytes(above) / MB:.1f} MB"
        asked, why = f"{probes.MEMORY_TIER_MB} MB, to 2 MB", probes.reason(handlers.memory)
        yield Finding("memory", "memory", asked, found, ends == ["ok", "ok", "out_of_memory"], why)

    def _cpu(self) -> Iterator[Finding]:
        bought = probes.CPU_TIER_MB / 1_769
        name = self.calls.function("cpu", memory_mb=probes.CPU_TIER_MB, timeout_s=30)
        with self.host.idle() as idle:
            event = {"seconds": _CPU_SECONDS, "enough": bought * (1 - _TOLERANCE)}
            answer = self.calls.ask(name, handlers.cpu, event)

        def judge(windows: Any, event: Any) -> Found:
            # What a sandbox had no turn to use in one period it may have in a later one, once: its burst.
            over = any(used > bought * ((1 + _TOLERANCE) * took + 0.1) for used, took in windows)
            share = max(used / took for used, took in windows)
            short = share < bought * (1 - _TOLERANCE)
            busy = idle[0] < _IDLE_HOST
            text = f"{share:.3f} vCPU" + (", as others kept the CPUs busy" if short and busy else "")
            return Found(text, not over and (busy or not short))

        asked = f"{bought:.3f} vCPU, to {_TOLERANCE * 100:.0f} %"
        yield Finding("CPU", "cpu", asked, *_judged(answer, judge, event), probes.reason(handlers.cpu))

    def _timeout(self) -> Iterator[Finding]:
        name = self.calls.function("timeout", timeout_s=TIMEOUT_S)
        mark = f"clv{self.calls.token}"
        call = self.calls.begin(name, {"probe": handlers.outlive.__name__, "mark": mark})
        most = self.host.watch(mark, lambda: call.done() or self.calls.stopped.is_set())
        answer = self.calls.answer_of(call)
        left = self.host.outlived(mark)
        took_s = answer.report.handler_us / 1e6 if isinstance(answer, invocations_pb2.InvokeResponse) else 0
        # Late is no less of an end on a busy host; early is never right.
        held = outcome(answer) == "timeout" and TIMEOUT_S * 0.99 <= took_s <= TIMEOUT_S + _LATE_S
        why = probes.reason(handlers.outlive)
        yield Finding("timeout", "timeout", f"{TIMEOUT_S:.2f} s", f"{outcome(answer)}, {took_s:.2f} s", held, why)
        if most or self.host.sees_all:
            found, dead = f"{most} processes while it ran, {left} after", bool(most) and not left
            yield Finding("tree at the timeout", "timeout", "all dead", found, dead, why)
        else:
            found = "this user does not see others' processes"
            yield Finding("tree at the timeout", "timeout", "all dead", found, None, why)

    def _init_timeout(self, call: Invocation) -> Iterator[Finding]:
        asked, why = f"{self.init_timeout_ms / 1000:g} s", "Code that is never ready, which no handler's clock ends."
        if self.init_timeout_ms > (INIT_WITHIN_S - 3) * 1000:
            yield Finding("init timeout", "timeout", asked, "too long to be waited for", None, why)
            return
        answer = self.calls.answer_of(call)
        ended = outcome(answer)
        took_s = answer.report.total_us / 1e6 if isinstance(answer, invocations_pb2.InvokeResponse) else INIT_WITHIN_S
        held = ended in ("timeout", "init_error") and self.init_timeout_ms / 1000 * 0.99 <= took_s
        yield Finding("init timeout", "timeout", asked, f"{ended}, {took_s:.2f} s", held, why)

    def _next_tmp(self) -> Iterator[Finding]:
        name = self.calls.function("tmp", timeout_s=30)
        found: list[str] = []
        for _ in range(3):
            left = self.calls.ask(name, handlers.leave)
            answer = self.calls.ask(name, handlers.find)
            looked = _judged(answer, lambda names, event: Found(", ".join(names), not names), {})
            if outcome(left) != "exited" or not looked.held:
                found.append(looked.text or f"left by {outcome(left)}")
        text = ", ".join(found) or "empty, three times"
        why = probes.reason(handlers.leave)
        yield Finding("/tmp of the next sandbox", "tmp", "empty", text, not found, why)

    # Those that one event answers

    def _looker(self, probe: Probe) -> Callable[[], Iterator[Finding]]:
        def look() -> Iterator[Finding]:
            name = self.calls.function("look", memory_mb=probes.LOOK_TIER_MB, timeout_s=50)
            yield self._found(probe, name, {"pid": self.host.pid, "paths": self.host.paths})

        return look

    def _no_network(self) -> Iterator[Finding]:
        name = self.calls.function("look", memory_mb=probes.LOOK_TIER_MB, timeout_s=50)
        with self.host.listening() as reachable:
            finding = self._found(probes.NO_NETWORK, name, reachable.event())
        yield self._unmet(finding, reachable.met)

    def _internet(self) -> Iterator[Finding]:
        probe = probes.INTERNET
        try:
            name = self.calls.function("internet", timeout_s=30, egress=resources_pb2.EGRESS_INTERNET)
        except grpc.RpcError as error:
            found = refusal(error).split("; ")[0]
            yield Finding(probe.limit, probe.check, probe.asked, found, None, probe.reason)
            return
        with self.host.listening() as reachable:
            finding = self._found(probe, name, reachable.event())
        yield self._unmet(finding, reachable.met)

    def _unmet(self, finding: Finding, met: int) -> Finding:
        if not met:
            return finding
        found = f"{met} connections came to the host; {finding.found}"
        return Finding(finding.limit, finding.check, finding.asked, found, False, finding.reason)

    def _found(self, probe: Probe, name: str, facts: dict[str, Any]) -> Finding:
        event = {**facts, **probe.event}
        answer = self.calls.ask(name, probe.handler, event)
        return Finding(probe.limit, probe.check, probe.asked, *_judged(answer, probe.judge, event), probe.reason)


def _judged(answer: Answer, judge: probes.Judge, event: dict[str, Any]) -> Found:
    if outcome(answer) != "ok" or isinstance(answer, grpc.RpcError):
        return Found(f"no answer: {outcome(answer)} {said(answer)}".strip()[:_SHOWN_CHARACTERS], False)
    try:
        return judge(orjson.loads(answer.payload), event)
    except (LookupError, TypeError, ValueError, AttributeError):
        return Found(f"no sense in {answer.payload.decode(errors='replace')}"[:_SHOWN_CHARACTERS], False)
