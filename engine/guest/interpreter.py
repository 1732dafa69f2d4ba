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
    from collections.abc import Callable, Mapping
    from typing import NoReturn

DEFAULT_TASK_ROOT = "/var/task"
COMMON = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
    "LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    "LANG": "C.UTF-8",
    "LC_CTYPE": "C.UTF-8",
    "TZ": ":UTC",
    "PWD": "/var/task",
    "SHLVL": "0",
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
    "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
    "_AWS_XRAY_DAEMON_PORT": "2000",
    "PYTHONPATH": "/var/runtime",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
}
"""Variables that most functions have, as engine/runtimes/environment.py sets them: they are set ahead of need."""
_LAYER_PATHS = (f"/opt/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages", "/opt/python")
_ENCODING = sys.getfilesystemencoding()
_GUEST_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _Native:
    """What the fork server's module does better than Python can; nothing outside of a zygote's forks."""

    put_environment: Callable[[dict[bytes, bytes]], None] | None = None


_native = _Native()


class Quitter:
    """exit() and quit(), which the site module would have made."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"Use {self._name}() to exit"

    def __call__(self, code: object = None) -> NoReturn:
        raise SystemExit(code)


def anticipate(put_environment: Callable[[dict[bytes, bytes]], None] | None = None) -> None:
    """Set up all that every function finds alike, so that no start has to: in a zygote, before it freezes. The module
    __main__ is another then; whoever has run as the old one goes on. `put_environment` replaces what the C library
    holds of the environment, in one call."""
    _native.put_environment = put_environment
    _look_started()
    set_environment(COMMON)
    sys.path[:] = _search_path(DEFAULT_TASK_ROOT)


def prepare(environment: Mapping[str, str]) -> object:
    """Set everything up for a function, its code apart, which need not be there yet; returns what has to be kept alive:
    the __main__ that was replaced. Raises TypeError or ValueError for what cannot be an environment."""
    anticipated = isinstance(getattr(builtins, "exit", None), Quitter)
    replaced = None if anticipated else _look_started()
    set_environment(environment)
    return replaced


def enter(root: str) -> None:
    """Go to the function's code, which is there, and have it found by imports."""
    try:
        os.chdir(root)
    except OSError:  # loading the handler will say what is missing
        pass
    sys.path[:] = _search_path(root)
    for path in (root, *_LAYER_PATHS):
        sys.path_importer_cache.pop(path, None)  # looked at before the code was there
    given = os.environ.get("PYTHONPATH", "")
    if given not in ("", COMMON["PYTHONPATH"]):
        _search_too(given, root)


def _look_started() -> object:
    sys.argv[:] = [""]
    sys.dont_write_bytecode = True  # the code is mounted read-only
    builtins.exit = Quitter("exit")  # type: ignore[assignment]
    builtins.quit = Quitter("quit")  # type: ignore[assignment]
    return _new_main()


def set_environment(environment: Mapping[str, str]) -> None:
    """Make it the whole environment. Raises TypeError or ValueError for what cannot be one."""
    current: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]  # what os.environ itself goes through
    wanted = {_encoded(name): _encoded(value) for name, value in environment.items()}
    zone = current.get(b"TZ")
    if _native.put_environment is not None:
        _native.put_environment(wanted)
        os.environ._data = os.environb._data = wanted  # type: ignore[attr-defined]
    else:
        _set_each(current, wanted)
    if wanted.get(b"TZ") != zone:
        time.tzset()


def _set_each(current: dict[bytes, bytes], wanted: dict[bytes, bytes]) -> None:
    """Touch only what differs: setting a variable costs 3 us."""
    for name in current.keys() - wanted.keys():
        os.unsetenv(name)
        del current[name]
    for name, value in wanted.items():
        if current.get(name) != value:
            os.putenv(name, value)
            current[name] = value


def _encoded(text: str) -> bytes:
    return str.encode(text, _ENCODING, "surrogateescape")


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
    layers = [path for path in _LAYER_PATHS if os.path.isdir(path)] if os.access(_LAYER_PATHS[-1], os.F_OK) else []
    library = [path for path in sys.path if path not in ("", root, _GUEST_HOME, *_LAYER_PATHS)]
    return [root, *layers, *library]


def _search_too(given: str, root: str) -> None:
    """After the code and the layers, what PYTHONPATH names and is there. In AWS's default for it nothing is here."""
    ahead = [path for path in sys.path if path in (root, *_LAYER_PATHS)]
    found = [os.path.abspath(path) for path in given.split(os.pathsep) if path and path != COMMON["PYTHONPATH"]]
    named = [path for path in dict.fromkeys(found) if path not in ahead and os.path.exists(path)]
    sys.path[:] = [*ahead, *named, *(path for path in sys.path if path not in (*ahead, *named))]
    for path in named:
        sys.path_importer_cache.pop(path, None)


def _new_main() -> object:
    old = sys.modules.get("__main__")
    main = type(sys)("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    return old
