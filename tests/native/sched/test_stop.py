"""A drain lets end what may; a kill ends what has not, and nothing begins after either."""

from __future__ import annotations

from engine.scheduler import core as native
from tests.native.sched.test_limits import Owner


def actions(core: native.Core) -> list[tuple[int, int, int]]:
    """What is to be done, with which call and sandbox."""
    found = []
    while (action := core.next()) is not None:
        found.append(action[:3])
    return found


def test_a_drain_takes_no_further_call_closes_what_idles_and_lets_the_rest_end() -> None:
    owner = Owner(room=2)
    core = owner.core
    core.set_provisioned(owner.target, 1, 0)
    owner.obey()
    running = owner.call()
    assert core.submit(owner.target, 0) == native.START
    starting, late = core.sandbox, core.call
    assert core.submit(owner.target, 0) == native.WAIT
    waiting = core.call
    core.drain(0)
    assert core.submit(owner.target, 0) == native.REFUSED
    assert core.submit_claimed(owner.target, 0) == native.NOTHING
    core.finished(running, True, 0)
    assert [what for what, call, _ in actions(core) if call == waiting] == [native.DO_RUN], "it was admitted"
    assert core.started(starting, 0) == native.RUN
    core.finished(late, True, 0)
    core.finished(waiting, True, 0)
    assert [what for what, *_ in actions(core)] == [native.DO_CLOSE] * 2
    assert core.counts()["concurrency"] == 0
    assert core.check() == ""


def test_a_kill_ends_each_call_where_it_is() -> None:
    owner = Owner(room=3)
    core = owner.core
    closing = owner.call()
    running, again = owner.call(), owner.call()
    core.finished(closing, False, 0)
    ((_, _, gone),) = actions(core)
    core.closed(gone, 0)
    core.submit(owner.target, 0)
    starting = core.sandbox
    core.submit(owner.target, 0)
    waiting = core.call
    core.kill(0)
    told = actions(core)
    assert [call for what, call, _ in told if what == native.DO_REFUSE] == [waiting]
    assert {call for what, call, _ in told if what == native.DO_KILL} == {running, again}
    assert core.again(again, native.WHY_INIT, 0) == native.REFUSED
    assert core.started(starting, 0) == native.REFUSED
    core.finished(running, True, 0)
    assert sorted(what for what, *_ in actions(core)) == [native.DO_CLOSE] * 3
    core.kill(0)
    assert actions(core) == []
    assert core.counts()["concurrency"] == 0
    assert core.check() == ""


def test_a_kill_hurries_what_closes_and_keeps_nothing_that_starts() -> None:
    owner = Owner()
    core = owner.core
    owner.end(owner.call())
    core.submit(owner.target, 0)
    core.finished(core.call, False, 0)
    core.submit(owner.target, 0)
    starting, call = core.sandbox, core.call
    core.cancel(call, 0)
    core.kill(0)
    assert [what for what, *_ in actions(core)] == [native.DO_CLOSE, native.DO_HURRY]
    assert core.started(starting, 0) == native.NOTHING
    assert [what for what, *_ in actions(core)] == [native.DO_CLOSE]
