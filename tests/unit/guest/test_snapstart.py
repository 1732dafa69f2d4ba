"""snapshot_restore_py: there to be imported, its hooks kept in order."""

from __future__ import annotations

from tests.unit.guest.driver import Guest

HOOKS = """
import snapshot_restore_py
from snapshot_restore_py import register_after_restore, register_before_snapshot

@register_before_snapshot
def first():
    return "first"

@register_after_restore
def restored():
    return "restored"

assert register_before_snapshot(print, "a", end="b") is print
assert first() == "first"

def names(hooks):
    return [[hook.__name__, list(args), kwargs] for hook, args, kwargs in hooks]

def handler(event, context):
    return [names(snapshot_restore_py.get_before_snapshot()), names(snapshot_restore_py.get_after_restore())]
"""


def test_hooks_are_registered_as_with_aws_s_module(any_guest: Guest) -> None:
    any_guest.start(HOOKS)
    assert any_guest.result() == [[["first", [], {}], ["print", ["a"], {"end": "b"}]], [["restored", [], {}]]]


def test_a_copy_that_the_function_brings_goes_before_it(any_guest: Guest) -> None:
    any_guest.code("OWN = True\n", "snapshot_restore_py.py")
    any_guest.start("import snapshot_restore_py\ndef handler(event, context):\n    return snapshot_restore_py.OWN\n")
    assert any_guest.result() is True


def test_other_missing_modules_are_missing_in_python_s_own_words(any_guest: Guest) -> None:
    document = any_guest.init_error("import snapshot_restore\n")
    assert document["errorMessage"] == "Unable to import module 'app': No module named 'snapshot_restore'"


def test_nothing_of_it_is_loaded_for_others(guest: Guest) -> None:
    guest.start("import sys\ndef handler(event, context):\n    return 'snapshot_restore_py' in sys.modules\n")
    assert guest.result() is False
