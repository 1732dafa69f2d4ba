"""Makes a forked interpreter look like a freshly started one of AWS's: environment, paths, arguments, __main__.

Loading the handler is loader.py's. Nothing here reads user code.
"""

from __future__ import annotations

import builtins
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

DEFAULT_TASK_ROOT = "/var/task"
_LAYER_PATHS = (f"/opt/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages", "/opt/python")
_GUEST_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Quitter:
    """exit() and quit(), which the site module would have made."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"Use {self._name}() to exit"

    def __call__(self, code: object = None) -> NoReturn:
        raise SystemExit(code)


def prepare(environment: Mapping[str, str]) -> object:
    """Set everything up for a function; returns what has to be kept alive: the __main__ that was replaced."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    root = task_root(environment)
    try:
        os.chdir(root)
    except OSError:  # loading the handler will say what is missing
        pass
    sys.path[:] = _search_path(root)
    for path in (root, *_LAYER_PATHS):
        sys.path_importer_cache.pop(path, None)  # looked at before the code was there
    sys.argv[:] = [""]
    sys.dont_write_bytecode = True  # the code is mounted read-only
    builtins.exit = Quitter("exit")  # type: ignore[assignment]
    builtins.quit = Quitter("quit")  # type: ignore[assignment]
    return _new_main()


def task_root(environment: Mapping[str, str]) -> str:
    """The folder of the function's code."""
    return environment.get("LAMBDA_TASK_ROOT") or DEFAULT_TASK_ROOT


def set_trace_id(trace_id: str | None) -> None:
    """X-Ray's header of this invocation, where AWS's SDKs look for it. What no variable can hold is left out."""
    try:
        if trace_id:
            os.environ["_X_AMZN_TRACE_ID"] = trace_id
            return
    except ValueError:  # a null byte, half a surrogate pair
        pass
    os.environ.pop("_X_AMZN_TRACE_ID", None)


def _search_path(root: str) -> list[str]:
    layers = [path for path in _LAYER_PATHS if os.path.isdir(path)]
    library = [path for path in sys.path if path not in ("", root, _GUEST_HOME, *_LAYER_PATHS)]
    return [root, *layers, *library]


def _new_main() -> object:
    old = sys.modules.get("__main__")
    main = type(sys)("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    return old
