"""The attacks of this folder on the sandboxes of an engine that is not root: the very same tests, run by another user.

What is chosen rests on walls that such an engine has too. The rest look for a cgroup or an image on a disk, which it
has not, or show by root's means that the attack would succeed outside.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.unprivileged import ACCEPT_ALL, need_user_namespaces, own_folder, start_as_user

pytestmark = [pytest.mark.privileged]

ATTACKS = (
    "tests/security/test_view.py::test_only_tmp_can_be_written",
    "tests/security/test_view.py::test_the_hosts_files_are_not_there",
    "tests/security/test_view.py::test_the_root_is_the_minimal_one",
    "tests/security/test_view.py::test_it_sees_no_process_but_its_own",
    "tests/security/test_view.py::test_its_devices_are_the_harmless_ones",
    "tests/security/test_view.py::test_its_descriptors_are_its_log_and_its_two_pipes",
    "tests/security/test_view.py::test_it_has_loopback_and_no_other_interface",
    "tests/security/test_exhaustion.py::test_a_fork_bomb_stops_at_the_limit",
    "tests/security/test_exhaustion.py::test_a_bomb_in_one_sandbox_leaves_others_their_processes",
    "tests/security/test_exhaustion.py::test_open_files_stop_at_the_limit",
    "tests/security/test_tmp.py::test_an_inode_bomb_stops_at_the_limit",
    "tests/security/test_tmp.py::test_no_trick_stores_more_than_the_quota",
    "tests/security/test_tmp.py::test_what_is_in_tmp_does_not_eat_the_memory_tier",
    "tests/integration/test_preload.py::test_a_functions_own_code_is_never_imported_ahead",
    "tests/integration/test_preload.py::test_what_is_preloaded_is_there_before_the_functions_own_code_runs",
    "tests/integration/test_zygotes.py::test_sandboxes_of_one_zygote_share_a_layout_and_those_that_ask_for_it_have_their_own",
)
_RESULT = re.compile(r"^(tests/\S+?)(?:\[.*\])? (PASSED|FAILED|ERROR|SKIPPED)", re.MULTILINE)


@pytest.fixture(scope="module")
def results() -> Iterator[Mapping[str, list[str]]]:
    """What became of each, with each of its parameters; and the end of what the run said, under ""."""
    need_user_namespaces()
    home = own_folder(Path(tempfile.mkdtemp(prefix="cleave-user-")))
    options = ["-v", "--tb=short", "-p", "no:cacheprovider", f"--basetemp={home / 'tests'}"]
    run = start_as_user(
        ["-m", "pytest", *options, *ATTACKS],
        home,
        environment={"CLEAVE_TEST_ACCEPT": " ".join(ACCEPT_ALL), "COLUMNS": "200"},
    )
    try:
        said = run.communicate(timeout=150)[0].decode(errors="replace")
        found: dict[str, list[str]] = {"": [said[-8_000:]]}
        for name, result in _RESULT.findall(said):
            found.setdefault(name, []).append(result)
        yield found
    finally:
        run.kill()
        run.wait()
        shutil.rmtree(home)


@pytest.mark.time_limit(180)  # the first has the whole run in it
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attack_fails_where_the_engine_is_not_root(results: Mapping[str, list[str]], attack: str) -> None:
    assert set(results.get(attack, ())) == {"PASSED"}, "\n".join(results[""])


@pytest.mark.time_limit(180)
def test_the_run_without_root_leaves_nothing(results: Mapping[str, list[str]]) -> None:
    assert "left behind" not in results[""][0]
