"""Pages have a bounded size, and only tokens that were given out are taken back."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidArgument
from engine.rpc.pages import page_limit, page_start, page_token

NAMES = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=64)


@pytest.mark.parametrize(("size", "limit"), [(0, 50), (1, 1), (1_000, 1_000), (1_001, 1_000), (2**31 - 1, 1_000)])
def test_no_size_means_the_default_and_too_much_the_most(size: int, limit: int) -> None:
    assert page_limit(size) == limit


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refused:
        page_limit(-1)
    assert list(refused.value.fields) == ["page_size"]


@given(NAMES)
def test_a_token_leads_back_to_its_name_and_does_not_show_it(name: str) -> None:
    token = page_token(name)
    assert page_start(token) == name
    assert name not in token or len(name) < 4


def test_the_last_page_has_no_token_and_no_token_means_the_first() -> None:
    assert page_token("") == ""
    assert page_start("") == ""


@pytest.mark.parametrize(
    "token", ["thumbs", "!", "AAAA", "é", "=", page_token("thumbs")[:-1], page_token("thumbs") + "="]
)
def test_a_token_that_was_not_given_out_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        page_start(token)
    assert list(refused.value.fields) == ["page_token"]


@given(NAMES, st.data())
def test_a_token_with_one_letter_changed_is_refused(name: str, data: st.DataObject) -> None:
    token = page_token(name)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_").filter(lambda x: x != token[place]))
    with pytest.raises(InvalidArgument):
        page_start(token[:place] + letter + token[place + 1 :])
