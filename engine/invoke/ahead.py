"""What an init phase says that no event waits for: INIT_START, what module code writes, and how it failed.

Leaves to others: when one is run (engine.scheduler), what its failure means (engine.invoke.capacity). Guarantees: its
lines are in the log of the function, under no request; of a function that is gone nothing is kept. What a provisioned
sandbox writes between its init phase and its first event is of the former.
"""

from __future__ import annotations

import asyncio

from engine.invoke.logtail import LogTail
from engine.invoke.run import RunMeans
from engine.invoke.specs import Prepared
from engine.model.function import LogFormat
from engine.model.outcome import StartKind
from engine.sandbox.api import Ending


class InitRun:
    """The RunSink of one init phase."""

    __slots__ = ("_log", "_means", "_platform")

    def __init__(self, prepared: Prepared, means: RunMeans) -> None:
        function = prepared.function
        self._means = means
        self._platform = prepared.platform.provisioned()
        self._log = LogTail(
            function.name,
            "",
            prepared.log_stream,
            means.keep_late,
            None,
            means.wall_ns,
            asyncio.get_running_loop(),
            dropped=self._platform.dropped,
            takes=self._platform.takes,
            json=function.config.log_format is LogFormat.JSON,
        )

    def started(self, kind: StartKind) -> None:
        """It begins; again where a sandbox ended before it had read anything."""
        self._log.announce(self._platform.init_start(self._means.wall_ns()))

    def initialized(self, failure: Ending | None) -> None:
        """It is over."""
        log, now_ns = self._log, self._means.wall_ns()
        log.finish_now()
        if failure is None:
            log.say(self._platform.init_done(now_ns))
        else:
            log.say(self._platform.init_failed(failure, "init", now_ns))
        log.end(self._means.keep_late)

    def output(self, data: bytes) -> None:
        """What module code wrote."""
        self._log.output(data)

    def chunk(self, data: bytes) -> None:
        """Never where there is no event."""
