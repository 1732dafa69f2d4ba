"""A handler's module that is loaded directly: to user code it is one that was imported."""

from __future__ import annotations

import importlib.util
import py_compile
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.guest import wire
from engine.guest.interpreter import COMMON
from engine.model.function import Function, FunctionConfig
from engine.runtimes.environment import function_environment
from tests.unit.guest.driver import Guest
from tests.unit.guest.test_process import ask

CHECKED = py_compile.PycInvalidationMode.CHECKED_HASH
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH
BY_TIME = py_compile.PycInvalidationMode.TIMESTAMP

SAME_AS_IMPORTED = """
import importlib, sys
OTHERWISE = ("__builtins__", "__spec__", "__loader__")
def describe(module):
    spec = module.__spec__
    return {
        "module": {k: str(v) for k, v in vars(module).items() if k[:2] == "__" and k not in OTHERWISE},
        "builtins": type(module.__builtins__).__name__,
        "spec": [spec.name, spec.origin, spec.cached, spec.has_location, spec.parent, spec.loader_state,
                 spec.submodule_search_locations, spec._initializing, spec.loader is module.__loader__],
        "loader": [type(spec.loader).__name__, type(spec.loader).__module__, spec.loader.name, spec.loader.path],
        "repr": repr(module),
    }
def handler(event, context):
    direct = sys.modules.pop("app")
    imported = importlib.import_module("app")
    assert imported is not direct
    return [describe(direct), describe(imported)]
"""


@pytest.mark.parametrize("bytecode", [False, True])
def test_its_module_is_what_an_import_makes(any_guest: Guest, bytecode: bool) -> None:
    any_guest.code(SAME_AS_IMPORTED)
    if bytecode:
        compile_with(any_guest, "app.py", UNCHECKED)
    any_guest.start()
    direct, imported = any_guest.result()
    assert direct == imported
    assert direct["module"]["__file__"] == str(any_guest.task_root / "app.py")


def compile_with(guest: Guest, name: str, mode: py_compile.PycInvalidationMode) -> None:
    """Put bytecode where the guest's own interpreter looks for it."""
    program = f"import py_compile, sys; m = py_compile.PycInvalidationMode({mode.value}); "
    program += "py_compile.compile(sys.argv[1], doraise=True, invalidation_mode=m)"
    subprocess.run([guest.python, "-c", program, str(guest.task_root / name)], check=True)


@pytest.mark.parametrize("bytecode", [False, True])
def test_its_tracebacks_and_its_source_are_found(any_guest: Guest, bytecode: bool) -> None:
    source = """import inspect, traceback
def fails():
    raise ValueError("here")  # this line
def handler(event, context):
    try:
        fails()
    except ValueError:
        return [traceback.format_exc(), inspect.getsource(fails), inspect.getfile(fails), fails.__code__.co_filename]
"""
    any_guest.code(source)
    if bytecode:
        compile_with(any_guest, "app.py", UNCHECKED)
    any_guest.start()
    trace, found, file, compiled_from = any_guest.result()
    path = str(any_guest.task_root / "app.py")
    assert f'File "{path}", line 3, in fails\n    raise ValueError("here")  # this line\n' in trace
    assert found == 'def fails():\n    raise ValueError("here")  # this line\n'
    assert file == compiled_from == path


def test_bytecode_that_was_compiled_elsewhere_names_the_file_as_it_is_here(guest: Guest, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text("def handler(event, context):\n    return handler.__code__.co_filename\n")
    guest.code("def handler(event, context):\n    return 'source'\n")
    cached = guest.task_root / "__pycache__" / f"app.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(str(elsewhere), str(cached), doraise=True, invalidation_mode=UNCHECKED)
    guest.start()
    assert guest.result() == str(guest.task_root / "app.py")


@pytest.mark.parametrize(("mode", "used"), [(UNCHECKED, "bytecode"), (CHECKED, "source"), (BY_TIME, "source")])
def test_bytecode_is_used_where_an_import_would_use_it(
    guest: Guest, mode: py_compile.PycInvalidationMode, used: str
) -> None:
    guest.code("def handler(event, context):\n    return 'bytecode'\n")
    compile_with(guest, "app.py", mode)
    guest.start("def handler(event, context):\n    return 'source'  # longer\n")
    assert guest.result() == used


@pytest.mark.parametrize("mode", [CHECKED, BY_TIME])
def test_bytecode_that_fits_its_source_is_used(guest: Guest, mode: py_compile.PycInvalidationMode) -> None:
    guest.code("def handler(event, context):\n    return 1\n")
    compile_with(guest, "app.py", mode)
    cached = next((guest.task_root / "__pycache__").iterdir())
    cached.write_bytes(cached.read_bytes().replace(b"handler", b"handle2"))  # what only the bytecode says
    guest.start(handler="app.handle2")
    assert guest.result() == 1


def test_bytecode_of_another_python_is_passed_over(guest: Guest) -> None:
    guest.code("def handler(event, context):\n    return 'bytecode'\n")
    compile_with(guest, "app.py", UNCHECKED)
    cached = next((guest.task_root / "__pycache__").iterdir())
    cached.write_bytes(b"\0" + cached.read_bytes()[1:])
    guest.start("def handler(event, context):\n    return 'source'\n")
    assert guest.result() == "source"


def test_bytecode_without_its_source_is_none(guest: Guest) -> None:
    guest.code("def handler(event, context):\n    return 1\n")
    compile_with(guest, "app.py", UNCHECKED)
    (guest.task_root / "app.py").unlink()
    assert guest.init_error(None)["errorType"] == "Runtime.ImportModuleError"


def test_a_module_that_is_only_bytecode_is_imported(guest: Guest) -> None:
    guest.code("def handler(event, context):\n    return __file__\n")
    path = guest.task_root / "app.py"
    py_compile.compile(str(path), str(guest.task_root / "app.pyc"), doraise=True)
    path.unlink()
    guest.start()
    assert guest.result() == str(guest.task_root / "app.pyc")


def test_what_is_under_name_main_does_not_run(any_guest: Guest) -> None:
    source = """
import sys
ran = []
if __name__ == "__main__":
    ran.append(1)
def handler(event, context):
    return [ran, sys.modules["__main__"].__name__, hasattr(sys.modules["__main__"], "ran")]
"""
    any_guest.start(source)
    assert any_guest.result() == [[], "__main__", False]


def test_a_module_that_it_imports_may_import_it_back(any_guest: Guest) -> None:
    any_guest.code("import app\ndef early():\n    return app.EARLY, hasattr(app, 'LATE')\nfound = early()\n", "part.py")
    source = "EARLY = 1\nimport part\nLATE = 2\n"
    source += "def handler(event, context):\n    return [part.found, part.early(), part.app is __import__('app')]\n"
    any_guest.start(source)
    assert any_guest.result() == [[1, False], [1, True], True]


def test_a_circle_that_cannot_be_is_explained_as_python_does(any_guest: Guest) -> None:
    any_guest.code("from app import LATE\n", "part.py")
    document = any_guest.init_error("import part\nLATE = 2\ndef handler(event, context):\n    pass\n")
    assert document["errorType"] == "Runtime.ImportModuleError"
    assert "cannot import name 'LATE' from partially initialized module 'app'" in document["errorMessage"]


def test_a_thread_that_imports_it_meanwhile_gets_the_whole_module(any_guest: Guest) -> None:
    source = """
import threading, time
begun, found = threading.Event(), []
def other():
    begun.set()
    import app
    found.append(hasattr(app, "LATE"))
thread = threading.Thread(target=other)
thread.start()
begun.wait()
for _ in range(100):
    time.sleep(0)
LATE = True
def handler(event, context):
    thread.join()
    return found
"""
    any_guest.start(source)
    assert any_guest.result() == [True]


def test_a_module_may_put_another_object_in_its_place(any_guest: Guest) -> None:
    source = "import sys\nclass Stand:\n    def handler(self, event, context):\n        return 'stand'\n"
    any_guest.start(source + "sys.modules[__name__] = Stand()\n")
    assert any_guest.result() == "stand"


def test_a_failed_module_is_gone_and_can_be_tried_again(any_guest: Guest) -> None:
    any_guest.code("raise ValueError('once')\n", "bad.py")
    source = """
import importlib, sys
def handler(event, context):
    try:
        importlib.import_module("bad")
    except ValueError:
        app = importlib.reload(sys.modules["app"])
        return ["bad" in sys.modules, importlib.util.find_spec("bad").origin, app.__name__]
"""
    any_guest.start("import importlib.util\n" + source)
    assert any_guest.result() == [False, str(any_guest.task_root / "bad.py"), "app"]


def test_a_handler_in_a_folder_without_an_init_file_is_found(any_guest: Guest) -> None:
    any_guest.code(
        "from .other import NAME\ndef handler(event, context):\n    return [NAME, __package__]\n", "a/b/mod.py"
    )
    any_guest.code("NAME = __name__\n", "a/b/other.py")
    any_guest.start(handler="a.b.mod.handler")
    assert any_guest.result() == ["a.b.other", "a.b"]


def test_an_extension_module_goes_before_source_of_its_name(guest: Guest) -> None:
    found = importlib.util.find_spec("_queue")
    if found is None or not found.has_location or found.origin is None:
        pytest.skip("this Python has that extension module built in")
    extension = Path(found.origin)
    guest.code(extension.read_bytes(), extension.name)
    guest.code("def Empty(event, context):\n    return 'source'\n", "_queue.py")
    guest.start(handler="_queue.Empty")
    document = guest.error()
    assert "Empty is not JSON serializable" in document["errorMessage"]


def test_what_is_set_ahead_of_need_is_what_the_engine_gives_its_functions() -> None:
    config = FunctionConfig(runtime="python3.11", handler="app.handler")
    made = datetime(2026, 1, 1, tzinfo=UTC)
    function = Function("f", config, "0" * 64, code_size_bytes=1, etag="e", create_time=made, update_time=made)
    given = function_environment(function, region="us-east-1", log_stream_name="s")
    assert {name: given.get(name) for name in COMMON} == COMMON


def test_a_variable_that_is_set_already_is_not_set_again(tmp_path: Path, python: str) -> None:
    code = """
import json, os
from cleave_guest import interpreter
interpreter.anticipate()
calls = []
put, unset = os.putenv, os.unsetenv
os.putenv = lambda name, value: (calls.append(["put", name.decode()]), put(name, value))
os.unsetenv = lambda name: (calls.append(["unset", name.decode()]), unset(name))
wanted = {**interpreter.COMMON, "OWN": "\u00e4", "LANG": "de"}
del wanted["SHLVL"]
interpreter.prepare(wanted)
assert dict(os.environ) == wanted
out = os.popen("echo $OWN $LANG ${SHLVL:-none}").read()
print(json.dumps([sorted(calls)[:3], out]))
"""
    calls, out = ask(tmp_path, python, code)
    assert calls == [["put", "LANG"], ["put", "OWN"], ["unset", "SHLVL"]]
    assert out.split()[:2] == ["\u00e4", "de"]


def test_the_environment_is_the_function_s_before_its_code_is_there(guest: Guest) -> None:
    guest.specify(environment={"OWN": "1"})
    # The engine puts the code in while the guest is at it; an event says that it is there.
    guest.code("import os\nFOUND = os.environ['OWN']\ndef handler(event, context):\n    return FOUND\n")
    guest.event()
    assert guest.frame()[0] == wire.READY
    assert guest.result() == "1"
