"""Which version of an alias a call goes to."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from engine.model.alias import Alias
from engine.scheduler.core import Core
from engine.scheduler.routes import Routes
from engine.scheduler.targets import Targets

NEW, OLD = ("f", "2", "e2"), ("f", "1", "e1")
KEYS = [NEW, OLD]


class House:
    """Routes over a native scheduler; `next` is the next random number, a share of all, unless `seed` is given."""

    def __init__(self, seed: int | None = None, **capacity: int) -> None:
        self.next = 0.0
        self.core = Core(**capacity)
        self.targets = Targets(self.core)
        seeded = None if seed is None else random.Random(seed)
        self.routes = Routes(
            self.core,
            self.targets,
            (lambda: int(self.next * 2**32)) if seeded is None else (lambda: seeded.getrandbits(32)),
        )

    def route(self, one: Alias, keys: Sequence[tuple[str, ...]] = KEYS) -> int:
        return self.routes.route(one, keys, 0)

    def at(self, one: Alias, *shares: float) -> list[int]:
        found = []
        for self.next in shares:
            found.append(self.route(one))
        return found


def alias(share: float, *, etag: str = "a", name: str = "live", function: str = "f") -> Alias:
    now = datetime.now(UTC)
    return Alias(function, name, "1", etag, now, now, weights=(("2", share),))


@pytest.mark.parametrize("share", [0.0, 0.000_001, 0.1, 1 / 3, 0.5, 0.999_999, 1.0])
def test_a_version_gets_exactly_its_share_of_equally_spread_numbers(share: float) -> None:
    house, one = House(), alias(share)
    found = Counter(house.at(one, *(number / 10_000 for number in range(10_000))))
    assert found[0] == pytest.approx(share * 10_000, abs=1)
    assert found.total() == 10_000


def test_a_share_is_held_to_a_millionth() -> None:
    house = House()
    assert house.at(alias(0.000_003), 0.0, 0.000_002_9, 0.000_003_1, 0.999_999_9) == [0, 0, 1, 1]
    assert house.at(alias(0.0, etag="b"), 0.0) == [1]
    assert house.at(alias(1.0, etag="c"), 1 - 2**-32) == [0]


def test_over_many_calls_the_shares_come_out_and_the_same_seed_gives_the_same_calls() -> None:
    one = alias(0.1)
    first, again, other = ([house.route(one) for _ in range(20_000)] for house in (House(7), House(7), House(8)))
    assert first == again != other
    assert first.count(0) == pytest.approx(2_000, abs=200), "4.7 standard deviations"


def test_an_alias_that_was_written_anew_holds_with_the_next_call() -> None:
    house = House()
    assert house.at(alias(0.5), 0.4) == [0]
    assert house.at(alias(0.3, etag="b"), 0.4) == [1]
    assert len(house.routes._aliases) == 1


def test_aliases_of_one_name_and_of_several_functions_are_apart() -> None:
    house = House()
    house.next = 0.4
    assert [house.route(alias(0.5)), house.route(alias(0.3, function="g"), [("g", "2", "x"), ("g", "1", "x")])] == [
        0,
        1,
    ]
    house.routes.forget("g")
    assert house.at(alias(0.5), 0.4) == [0]
    assert set(house.routes._aliases) == {("f", "live")}


def test_versions_whose_sandboxes_were_retired_are_pointed_at_anew() -> None:
    house, one = House(), alias(0.5)
    assert house.at(one, 0.4, 0.6) == [0, 1]
    house.targets.retire("f", None, "2", 0)
    assert house.at(one, 0.4, 0.6) == [0, 1]


def test_where_the_tables_are_full_those_that_nobody_calls_make_way() -> None:
    house = House(aliases=2, functions=2, targets=4)
    for number in range(5):
        one = alias(0.5, function=f"f{number}")
        keys = [(f"f{number}", version, "e") for version in ("2", "1")]
        for house.next, index in ((0.4, 0), (0.6, 1)):
            assert house.route(one, keys) == index
    assert len(house.routes._aliases) <= 2
