"""How a guest's process ends: with the status that Python itself would end with, and its output flushed.

The interpreter is not finalized: that takes milliseconds and touches every page the fork shares. Exit handlers of user
code run; its threads are not waited for.
"""

from __future__ import annotations

import os
import sys
from _signal import SIG_DFL, SIGINT, signal  # type: ignore[import-not-found]  # signal itself imports enum

from . import stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .stdio import Stdio

_INTERRUPTED = -SIGINT  # Python ends an interrupted program by the signal itself


def status_of(error: BaseException) -> int:
    """The exit status for an exception that nothing has caught, negative for a signal; prints what Python would."""
    kind = type(error)  # isinstance would ask the error itself
    if not issubclass(kind, SystemExit):
        print_error(error)
        return _INTERRUPTED if issubclass(kind, KeyboardInterrupt) else 1
    code = SystemExit.__dict__["code"].__get__(error)
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(1 << 31) <= code < 1 << 31 else 0xFF
    try:
        sys.stderr.write(f"{code}\n")
    except Exception:  # sys.stderr and the object are user code
        pass
    return 1


def print_error(error: BaseException) -> None:
    """As Python prints what nothing has caught, from user code's first frame on."""
    try:
        error.__traceback__ = stack.user_part(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException:  # user code once more
        pass


def leave(status: int, stdio: Stdio) -> NoReturn:
    """Run the exit handlers, flush, end the process."""
    atexit = sys.modules.get("atexit")
    if atexit is not None:
        try:
            atexit._run_exitfuncs()
        except BaseException:
            pass
    stdio.settle()
    if status < 0:
        signal(-status, SIG_DFL)
        os.kill(os.getpid(), -status)
        status = 128 - status  # only where the signal did not end the process, as for PID 1 of a namespace
    os._exit(status)
