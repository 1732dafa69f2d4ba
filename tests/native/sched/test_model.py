"""Whatever history of inputs comes, the native scheduler decides as the model does, and its sums add up."""

from __future__ import annotations

import random
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tests.native.sched.pair import Choice, Pair, play
from tests.native.sched.state import SECOND

COMMON = {"submit": 12, "submit_claimed": 3, "started": 8, "finished": 8, "closed": 7, "forward": 4}
RARE = {
    "start_failed": 2,
    "again": 3,
    "cancel": 3,
    "died": 2,
    "deadline": 2,
    "function": 2,
    "target": 2,
    "reserve": 2,
    "provision": 3,
    "configure": 1,
    "back": 1,
    "early": 1,
    "retire": 1,
    "target_retire": 1,
    "function_remove": 1,
    "stale": 1,
}
WEIGHTS = COMMON | RARE
INPUTS = [name for name, weight in WEIGHTS.items() for _ in range(weight)]

numbers = st.integers(0, 59)
choices = st.lists(st.tuples(st.sampled_from(INPUTS), numbers, numbers), max_size=120)
settings = st.fixed_dictionaries(
    {
        "account_limit": st.sampled_from([2, 6, 12, 40]),
        "room": st.sampled_from([1, 2, 4, 8, 40]),
        "rate_factor": st.sampled_from([0, 0, 1, 10]),
        "burst": st.sampled_from([0, 0, 1, 3]),
        "keep_alive_ns": st.sampled_from([0, SECOND, 600 * SECOND]),
        "min_unreserved": st.sampled_from([0, 3]),
    }
)
END: list[Choice] = [("drain", 0, 0), ("submit", 0, 0), ("finished", 0, 1), ("started", 0, 0), ("kill", 0, 0)]


def ended(pair: Pair) -> None:
    """Whatever was going on ends, and nothing is left."""
    play(pair, END)
    for _ in range(1_000):
        if not pair.model.sandboxes and not pair.model.calls:
            break
        play(pair, [("started", 0, 0), ("finished", 0, 1), ("closed", 0, 0)])
    counts = pair.core.counts()
    assert (counts["concurrency"], counts["sandboxes"], counts["unreserved_in_use"]) == (0, 0, 0)


@given(settings=settings, choices=choices)
def test_every_decision_is_the_models(settings: dict[str, int], choices: list[Choice]) -> None:
    pair = Pair(**settings)
    play(pair, [("function", 0, 0), ("function", 0, 1)])
    play(pair, choices)
    ended(pair)


def test_every_decision_of_a_long_history_is_the_models(counts: Mapping[str, int]) -> None:
    for seed in range(counts["examples"] // 5):
        rng = random.Random(seed)
        flood = seed % 2 == 1
        pair = Pair(
            account_limit=rng.choice([6, 12, 40]),
            room=rng.choice([1, 2, 4] if flood else [2, 4, 8, 40]),
            rate_factor=0 if flood else rng.choice([0, 0, 10]),
            burst=0 if flood else rng.choice([0, 0, 3]),
            keep_alive_ns=rng.choice([SECOND, 600 * SECOND]),
        )
        # Few changes of what there is, so that much happens in between.
        names = [name for name in INPUTS if name not in ("function_remove", "target_retire", "stale")]
        if flood:
            play(pair, [("function", 0, 0)] * 3 + [("target", 0, 0)])
            names = ["submit"] * 4 + ["started", "finished", "finished", "closed", "cancel"]
        for _ in range(2_000):
            play(pair, [(rng.choice(names), rng.randrange(60), rng.randrange(60))], check=rng.random() < 0.1)
        ended(pair)
