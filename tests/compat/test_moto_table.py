"""The table that moto's tests are held to: `make test-moto` runs them, `make test` this."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat.moto.table import Table, compare, read

TABLE = Table(
    {"moto": "another answer than AWS's", "host": "depends on the host"},
    {"a.py::one": "passes", "a.py::two": "moto: quotes names", "a.py::three": "host: needs Python 3.12"},
)
AS_LISTED = {"a.py::one": "passed", "a.py::two": "failed", "a.py::three": "failed"}


def test_a_run_as_listed_differs_in_nothing_and_is_counted_by_kind() -> None:
    found = compare(TABLE, AS_LISTED)
    assert (found.differences, found.passed, found.ran, found.asked) == ([], 1, 3, 2)
    assert found.failed_by_kind == {"moto": 1, "host": 1}


@pytest.mark.parametrize("outcome", ["passed", "failed"])
def test_what_depends_on_the_host_may_pass_or_fail(outcome: str) -> None:
    assert compare(TABLE, AS_LISTED | {"a.py::three": outcome}).differences == []


@pytest.mark.parametrize(
    ("outcomes", "difference"),
    [
        (AS_LISTED | {"a.py::one": "failed"}, "a.py::one is listed as passing: it failed"),
        (AS_LISTED | {"a.py::one": "skipped"}, "a.py::one is listed as passing: it skipped"),
        (AS_LISTED | {"a.py::two": "passed"}, "a.py::two passed: the table says 'moto: quotes names'"),
        (AS_LISTED | {"a.py::four": "passed"}, "a.py::four is not in the table: it passed"),
        ({"a.py::one": "passed", "a.py::two": "failed"}, "a.py::three is in the table and did not run"),
    ],
)
def test_what_is_not_as_listed_is_a_difference(outcomes: dict[str, str], difference: str) -> None:
    assert compare(TABLE, outcomes).differences == [difference]


def test_a_selection_of_tests_is_held_to_their_lines_alone() -> None:
    assert compare(TABLE, {"a.py::one": "passed"}, all_ran=False).differences == []


@pytest.mark.parametrize("said", ["fails", "moto:", "weather: it rains"])
def test_a_test_that_does_not_pass_needs_a_known_kind_and_a_reason(tmp_path: Path, said: str) -> None:
    path = tmp_path / "expected.toml"
    path.write_text(f'[kinds]\nmoto = "another answer"\n["a.py"]\none = "{said}"\n')
    with pytest.raises(ValueError, match=r"a\.py::one"):
        read(path)


def test_each_line_of_the_table_is_sound_and_each_kind_in_use() -> None:
    table = read()
    assert {table.kind(name) for name in table.tests} == {"passes", *table.kinds}
