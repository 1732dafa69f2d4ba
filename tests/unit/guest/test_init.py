"""The init phase: what is found, and each way in which it fails, in AWS's words."""

from __future__ import annotations

import json

import pytest

from engine.guest import wire
from tests.unit.guest.driver import Guest

ECHO = "def handler(event, context):\n    return event\n"


def test_a_handler_gets_the_event_and_its_result_comes_back(any_guest: Guest) -> None:
    any_guest.start(ECHO, {"a": [1, 2.5, "ä", None, True]})
    assert any_guest.result() == {"a": [1, 2.5, "ä", None, True]}


def test_a_handler_without_a_dot_is_a_malformed_name(any_guest: Guest) -> None:
    document = any_guest.init_error(ECHO, "handler")
    assert document["errorType"] == "Runtime.MalformedHandlerName"
    assert document["errorMessage"] == "Bad handler 'handler': not enough values to unpack (expected 2, got 1)"
    assert document["stackTrace"] == []


def test_a_missing_module_is_named(any_guest: Guest) -> None:
    document = any_guest.init_error(ECHO, "nomod.handler")
    assert document["errorType"] == "Runtime.ImportModuleError"
    assert document["errorMessage"] == "Unable to import module 'nomod': No module named 'nomod'"
    expected = (
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'nomod': No module named 'nomod'\r"
        "Traceback (most recent call last):\n"
    )
    assert any_guest.log.decode() == expected


def test_a_missing_dependency_is_named(guest: Guest) -> None:
    document = guest.init_error("import not_there\n" + ECHO)
    assert document["errorMessage"] == "Unable to import module 'app': No module named 'not_there'"


def test_a_missing_attribute_is_named(any_guest: Guest) -> None:
    document = any_guest.init_error(ECHO, "app.nosuch")
    assert document["errorType"] == "Runtime.HandlerNotFound"
    assert document["errorMessage"] == "Handler 'nosuch' missing on module 'app'"


def test_a_built_in_module_is_refused_as_a_handler(guest: Guest) -> None:
    document = guest.init_error(ECHO, "sys.exit")
    assert document["errorType"] == "Runtime.BuiltInModuleConflict"
    assert document["errorMessage"] == "Cannot use built-in module sys as a handler module"


def test_a_syntax_error_shows_its_line(any_guest: Guest) -> None:
    document = any_guest.init_error("x = 1\ndef handler(:\n    pass\n")
    assert document["errorType"] == "Runtime.UserCodeSyntaxError"
    assert document["errorMessage"].startswith("Syntax error in module 'app': invalid syntax")
    assert document["errorMessage"].endswith("(app.py, line 2)")
    path = any_guest.task_root / "app.py"
    assert document["stackTrace"] == [f'  File "{path}" Line 2\n    def handler(:\n']


def test_an_exception_of_module_code_keeps_its_own_type_and_only_its_frames(any_guest: Guest) -> None:
    document = any_guest.init_error("def f():\n    return 1 / 0\n\nf()\n")
    path = any_guest.task_root / "app.py"
    assert document["errorType"] == "ZeroDivisionError"
    assert document["errorMessage"] == "division by zero"
    assert document["stackTrace"] == [
        f'  File "{path}", line 4, in <module>\n    f()\n',
        f'  File "{path}", line 2, in f\n    return 1 / 0\n',
    ]
    nbsp = "\u00a0"
    record = "\r".join(
        [
            "[ERROR] ZeroDivisionError: division by zero",
            "Traceback (most recent call last):",
            f'{nbsp * 2}File "{path}", line 4, in <module>',
            f"{nbsp * 4}f()",
            f'{nbsp * 2}File "{path}", line 2, in f',
            f"{nbsp * 4}return 1 / 0",
        ]
    )
    assert any_guest.log.decode() == record + "\n"


def test_a_package_s_failure_shows_no_frame_of_the_import_system(guest: Guest) -> None:
    guest.code("", "pkg/__init__.py")
    guest.code("raise KeyError('k')\n", "pkg/mod.py")
    document = guest.init_error(None, "pkg.mod.handler")
    assert (document["errorType"], document["errorMessage"]) == ("KeyError", "'k'")
    assert len(document["stackTrace"]) == 1


def test_the_json_log_format_writes_the_error_as_one_object(guest: Guest) -> None:
    guest.init_error(ECHO, "app.nosuch", log_format="JSON")
    record = json.loads(guest.log)
    assert record["log_level"] == "ERROR"
    assert record["errorType"] == "Runtime.HandlerNotFound"
    assert record["timestamp"].endswith("Z")


@pytest.mark.parametrize("handler", ["pkg/mod.handler", "pkg.mod.handler"])
def test_a_handler_in_a_package_is_found(any_guest: Guest, handler: str) -> None:
    any_guest.code("", "pkg/__init__.py")
    any_guest.code("from . import other\ndef handler(event, context):\n    return other.NAME\n", "pkg/mod.py")
    any_guest.code("NAME = __name__\n", "pkg/other.py")
    any_guest.start(handler=handler)
    assert any_guest.result() == "pkg.other"


def test_a_package_goes_before_a_module_of_its_name(guest: Guest) -> None:
    guest.code("def handler(event, context):\n    return 'package'\n", "app/__init__.py")
    guest.start("def handler(event, context):\n    return 'module'\n")
    assert guest.result() == "package"


def test_the_module_looks_as_if_it_was_imported(any_guest: Guest) -> None:
    source = """
import importlib, sys
def handler(event, context):
    me = sys.modules["app"]
    assert me.handler is handler and me.__dict__ is globals()
    again = importlib.import_module("app")
    assert again is me
    importlib.reload(me)
    return [__name__, __file__, __package__, __spec__.name, __spec__.origin, type(__loader__).__name__]
"""
    any_guest.start(source)
    path = str(any_guest.task_root / "app.py")
    assert any_guest.result() == ["app", path, "", "app", path, "SourceFileLoader"]


def test_shipped_bytecode_is_used(guest: Guest) -> None:
    import py_compile

    guest.code("def handler(event, context):\n    return 'bytecode'\n")
    path = guest.task_root / "app.py"
    py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH, doraise=True)
    guest.start("def handler(event, context):\n    return 'source'\n")
    assert guest.result() == "bytecode"


def test_the_source_s_own_encoding_is_obeyed(guest: Guest) -> None:
    guest.code("# -*- coding: latin-1 -*-\ndef handler(event, context):\n    return 'é'\n".encode("latin-1"))
    guest.start()
    assert guest.result() == "é"


def test_output_of_module_code_is_in_the_log_before_ready(guest: Guest) -> None:
    guest.start("import sys\nprint('loading', end='')\nsys.stderr.write('!')\n" + ECHO)
    assert guest.log == b"loading!"


def test_an_exit_of_module_code_is_an_exit(guest: Guest) -> None:
    guest.code("import sys\nprint('bye')\nsys.exit(3)\n")
    guest.specify()
    guest.event()
    assert guest.ended() == 3
    assert guest.log == b"bye\n"


def test_a_huge_module_error_is_shortened(guest: Guest) -> None:
    document = guest.init_error("raise ValueError('x' * 10_000_000)\n")
    assert document["errorMessage"].startswith("xxx")
    assert document["errorMessage"].endswith("... (shortened)")
    assert len(document["stackTrace"]) == 1


def test_init_time_is_not_taken_from_the_first_deadline(guest: Guest) -> None:
    guest.code("def handler(event, context):\n    return context.get_remaining_time_in_millis()\n")
    guest.specify()
    guest.event(deadline_ms=1, timeout_ms=5_000)
    assert guest.frame()[0] == wire.READY
    assert 4_000 < guest.result() <= 5_000
    assert guest.call(deadline_ms=1, timeout_ms=5_000) == 0
