"""Whatever history of versions and aliases comes, a call goes where its alias says, or nowhere once that is gone.

The model is a list of weights: a number of 32 bits is a point of SCHED_WEIGHT, as sched.h says.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.scheduler import core as native
from engine.scheduler.core import Core

WEIGHT = native.WEIGHT
Routes = list[tuple[int, int]]

numbers = st.integers(0, 2**32 - 1)
shares = st.one_of(st.integers(0, WEIGHT), st.sampled_from([0, 1, WEIGHT - 1, WEIGHT, WEIGHT + 1]))
steps = st.lists(
    st.tuples(st.sampled_from(["add", "retire", "set", "set", "split", "remove", "route", "route"]), numbers, shares),
    max_size=60,
)


@dataclass
class History:
    """Both of them. There is room for three aliases and for eight versions."""

    core: Core = field(default_factory=lambda: Core(aliases=3, targets=8))
    aliases: dict[int, Routes] = field(default_factory=dict)
    there: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.function = self.core.function_add()

    def set(self, alias: int, routes: Routes) -> None:
        """An alias of its own, `alias` 0, or one that is there, points where it is told or stays as it was."""
        if any(target not in self.there for target, _ in routes):
            refused = native.STALE
        elif sum(weight for _, weight in routes) != WEIGHT:
            refused = native.WEIGHTS
        elif not alias and len(self.aliases) == 3:
            refused = native.FULL
        else:
            self.aliases[self.core.alias_set(alias, routes)] = routes
            return
        with pytest.raises(native.Rejected, check=lambda error: error.code == refused):
            self.core.alias_set(alias, routes)

    def route(self, alias: int, number: int) -> int:
        """Where the model says that it goes: the version whose share the point falls into."""
        point, upto = number * WEIGHT >> 32, 0
        for target, weight in self.aliases[alias]:
            upto += weight
            if point < upto:
                return target
        raise AssertionError("the weights do not add up")

    def look(self, number: int) -> None:
        """Every alias, also those that are gone, and every input of versions that are."""
        for alias in self.aliases:
            assert self.core.route(alias, number) == self.route(alias, number)
        for alias in self.gone:
            assert self.core.route(alias, number) == 0
            with pytest.raises(native.Rejected, check=lambda error: error.code == native.STALE):
                self.core.alias_remove(alias)


@given(steps)
def test_every_call_goes_where_the_model_says(choices: list[tuple[str, int, int]]) -> None:
    it = History()
    for what, number, share in choices:
        known = sorted(it.aliases)
        alias = known[number % len(known)] if known and number % 4 else 0
        version = it.there[number % len(it.there)] if it.there else 1 << 40
        other = it.there[share % len(it.there)] if it.there else version
        match what:
            case "add" if len(it.there) < 8:
                it.there.append(it.core.target_add(it.function))
            case "retire" if it.there:
                it.core.target_retire(version, 0)
                it.there.remove(version)
                # Who owns both points the alias elsewhere, or takes it away: until then it says what it said.
                for one in [one for one, routes in it.aliases.items() if any(to == version for to, _ in routes)]:
                    it.core.alias_remove(one)
                    del it.aliases[one]
                    it.gone.append(one)
            case "set":
                it.set(alias, [(version, share)])
            case "split":
                it.set(alias, [(version, max(0, WEIGHT - share)), (other, share)])
            case "remove" if alias:
                it.core.alias_remove(alias)
                del it.aliases[alias]
                it.gone.append(alias)
        it.look(number)


@given(st.integers(0, WEIGHT))
def test_the_shares_of_two_versions_are_exact_at_their_border(share: int) -> None:
    it = History()
    first, second = it.core.target_add(it.function), it.core.target_add(it.function)
    alias = it.core.alias_set(0, [(first, share), (second, WEIGHT - share)])
    border = -(-(share << 32) // WEIGHT)  # the first number whose point is the second's
    if border > 0:
        assert it.core.route(alias, border - 1) == first
    if border < 1 << 32:
        assert it.core.route(alias, border) == second
