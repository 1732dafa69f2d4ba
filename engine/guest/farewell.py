"""The end of a sandbox as its function hears of it: SIGTERM first, then what Python does at the end of a program.

A function that has registered for neither is killed where it idles, as on AWS one without extensions is. When the end
comes, and how long it may take, is the engine's: it kills what is still there. Guarantees: what the engine itself, or
the logging module, has registered is no word of the function's; whatever a handler raises, the next still runs.
"""

from __future__ import annotations

import sys
from _signal import SIGTERM, getsignal, raise_signal  # type: ignore[import-not-found]  # signal itself imports enum

from . import exits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .streaming import Runner


class Farewell:
    """What one function wants of its end."""

    def __init__(self) -> None:
        """Made before user code runs: what is registered by then was preloaded."""
        self._not_its_own = _exit_handlers()
        self._logging = "logging" in sys.modules
        self._noted = False

    def noticed(self) -> bool:
        """Whether the function has, for the first time that this was asked, something to run at its end."""
        if self._noted:
            return False
        if not self._logging and "logging" in sys.modules:
            self._logging = True
            self._not_its_own += 1  # it registers its shutdown, which writes nothing that is not written already
        self._noted = callable(getsignal(SIGTERM)) or _exit_handlers() > self._not_its_own
        return self._noted

    def say(self, runner: Runner) -> None:
        """Have the SIGTERM handler run, then wait for threads that are not daemons. Exit handlers are exits.leave's. An
        exit that user code raises comes out of here."""
        if callable(getsignal(SIGTERM)):
            try:
                raise_signal(SIGTERM)
                runner.finish(SIGTERM)
            except Exception as error:
                exits.print_error(error)
        threading = sys.modules.get("threading")
        if threading is not None:
            try:
                threading._shutdown()
            except Exception as error:
                exits.print_error(error)


def _exit_handlers() -> int:
    atexit = sys.modules.get("atexit")
    return 0 if atexit is None else int(atexit._ncallbacks())
