"""Finds the handler that a function is configured with, and says in AWS's words why it cannot.

A module that is one file in the task root is read, compiled and run directly: going through the import system's
search costs 0.2 ms and dirties 0.2 to 0.35 MB more. All else, packages first, is imported as usual.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import SourceFileLoader, cache_from_source, spec_from_file_location
from _imp import extension_suffixes

from . import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any


def load(handler: str, task_root: str) -> Callable[[Any, Any], Any]:
    """The handler function. Raises errors.Fault for AWS's named failures, and whatever the module's own code raises."""
    module_name, dot, attribute = handler.rpartition(".")
    if not dot:
        raise errors.Fault(
            errors.MALFORMED_HANDLER_NAME,
            f"Bad handler '{handler}': not enough values to unpack (expected 2, got 1)",
        )
    if module_name.partition(".")[0] in sys.builtin_module_names:
        raise errors.Fault(
            errors.BUILT_IN_MODULE_CONFLICT, f"Cannot use built-in module {module_name} as a handler module"
        )
    try:
        module = _module(module_name.replace("/", "."), task_root)
    except ImportError as error:
        raise errors.Fault(errors.IMPORT_MODULE_ERROR, f"Unable to import module '{module_name}': {error}") from None
    except SyntaxError as error:
        raise errors.Fault(
            errors.USER_CODE_SYNTAX_ERROR,
            f"Syntax error in module '{module_name}': {error}",
            [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'],
        ) from None
    try:
        found: Callable[[Any, Any], Any] = getattr(module, attribute)
    except AttributeError:
        raise errors.Fault(
            errors.HANDLER_NOT_FOUND, f"Handler '{attribute}' missing on module '{module_name}'"
        ) from None
    return found


def _module(name: str, task_root: str) -> ModuleType:
    path = os.path.join(task_root, name)
    if name and "." not in name and name not in sys.modules and _is_single_file(path):
        return _run_file(name, path + ".py")
    __import__(name)
    return sys.modules[name]


def _is_single_file(path: str) -> bool:
    """Whether the import system would choose path.py: a folder and a compiled module go before it."""
    if not os.path.isfile(path + ".py") or os.path.isdir(path):
        return False
    return not any(os.path.exists(path + suffix) for suffix in extension_suffixes())


def _run_file(name: str, path: str) -> ModuleType:
    if os.path.exists(cache_from_source(path)):
        return run_source(name, path, None)
    with open(path, "rb", buffering=0) as file:
        return run_source(name, path, file.readall())


def run_source(name: str, path: str, source: bytes | None) -> ModuleType:
    """Make a module of a file's source, or of the bytecode shipped beside it where `source` is None."""
    loader = SourceFileLoader(name, path)
    spec = spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    code = loader.get_code(name) if source is None else compile(source, path, "exec", dont_inherit=True)
    assert code is not None
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return sys.modules[name]  # a module may put another object in its place
