"""The gate lets through what the table has, and nothing else."""

from __future__ import annotations

import itertools

import pytest

from engine.errors import SandboxFault
from engine.sandbox.lifecycle import OVER, TRANSITIONS, Lifecycle, SandboxState

PAIRS = list(itertools.product(SandboxState, repeat=2))
LEGAL = [(a, b) for a, b in PAIRS if b in TRANSITIONS[a]]
ILLEGAL = [(a, b) for a, b in PAIRS if b not in TRANSITIONS[a]]


def _name(pair: tuple[SandboxState, SandboxState]) -> str:
    return f"{pair[0].value}-{pair[1].value}"


@pytest.mark.parametrize("pair", LEGAL, ids=_name)
def test_a_legal_move_is_made_and_told(pair: tuple[SandboxState, SandboxState]) -> None:
    before, after = pair
    lifecycle = Lifecycle(before)
    told: list[tuple[SandboxState, SandboxState]] = []
    lifecycle.listen(lambda left, entered: told.append((left, entered)))
    lifecycle.move(after)
    assert lifecycle.state is after
    assert told == [(before, after)]


@pytest.mark.parametrize("pair", ILLEGAL, ids=_name)
def test_an_illegal_move_raises_and_changes_nothing(pair: tuple[SandboxState, SandboxState]) -> None:
    before, after = pair
    lifecycle = Lifecycle(before)
    told: list[tuple[SandboxState, SandboxState]] = []
    lifecycle.listen(lambda left, entered: told.append((left, entered)))
    with pytest.raises(SandboxFault) as caught:
        lifecycle.move(after)
    assert lifecycle.state is before
    assert told == []
    assert before.value in str(caught.value)
    assert caught.value.fix


def test_every_state_has_a_row_and_a_way_from_the_start_to_the_end() -> None:
    assert set(TRANSITIONS) == set(SandboxState)
    seen = {SandboxState.STARTING}
    for _ in SandboxState:
        seen |= {after for before in seen for after in TRANSITIONS[before]}
    assert seen == set(SandboxState)


def test_from_every_state_but_the_last_a_sandbox_can_be_closed() -> None:
    for state in SandboxState:
        if state not in (SandboxState.CLOSING, SandboxState.DEAD):
            assert SandboxState.CLOSING in TRANSITIONS[state]


def test_what_is_over_never_runs_again() -> None:
    for state in OVER:
        assert TRANSITIONS[state] <= OVER
    assert all(Lifecycle(state).over == (state in OVER) for state in SandboxState)
