"""One run as a sandbox tells of it: where its init phase and its handler begin, what was written, what is streamed.

Leaves to others: lines and their order (engine.invoke.logtail), who is told of a run that wrote nothing
(engine.invoke.quiet). Guarantees: START is said once, before anything that the handler writes; a warm run in which
nothing is written, and that nobody follows, costs no log of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from engine.invoke.logtail import LogTail
from engine.invoke.pace import Pace, PaceLimits
from engine.invoke.specs import Prepared
from engine.model.function import LogFormat
from engine.model.invocation import LogBatch, Sink
from engine.model.outcome import StartKind
from engine.sandbox.api import Ending

Keep = Callable[[str, LogBatch], None]
"""Takes lines with the name of their function."""


def _discard(data: bytes) -> None:
    """Where chunks go when the caller asked for no stream."""


@dataclass(frozen=True, slots=True)
class RunMeans:
    """What all runs share. `keep_late` gets what is written after a run's end."""

    keep: Keep
    keep_late: Keep
    monotonic_ns: Callable[[], int]
    wall_ns: Callable[[], int]
    pace: PaceLimits


class Run:
    """The RunSink of one run."""

    __slots__ = (
        "_init_failed",
        "_log",
        "_means",
        "_over",
        "_prepared",
        "_request_id",
        "_sink",
        "begun_ns",
        "chunk",
        "kind",
        "started_ns",
    )

    def __init__(self, request_id: str, prepared: Prepared, sink: Sink | None, means: RunMeans) -> None:
        self._request_id = request_id
        self._prepared = prepared
        self._sink = sink
        self._means = means
        self._log: LogTail | None = None
        self._init_failed = self._over = False
        self.kind: StartKind | None = None  # of the first sandbox that had it
        self.started_ns = 0  # on the monotonic clock; 0: no sandbox has had the event
        self.begun_ns = 0  # on the wall's, when START was said; 0: not yet
        self.chunk: Callable[[bytes], asyncio.Future[None] | None] = _discard
        if sink is not None:
            pace = means.pace
            self.chunk = Pace(pace, sink.chunk, asyncio.get_running_loop()).chunk if pace.bytes_per_s else sink.chunk

    @property
    def request_id(self) -> str:
        """Its."""
        return self._request_id

    @property
    def quiet(self) -> bool:
        """Nothing was written, and nobody follows what is."""
        return self._log is None

    @property
    def log(self) -> LogTail:
        """Its log, from here on written as it comes."""
        return self._log or self._open()

    def started(self, kind: StartKind) -> None:
        """A sandbox has the event; again where the first one ended without having read it."""
        again = self.started_ns > 0
        if not again:
            self.started_ns = self._means.monotonic_ns()
            self.kind = kind
            if self._sink is not None:
                self._sink.started(self._request_id, self._prepared.function.version, kind)
        if kind is StartKind.WARM:
            self.begin()
        elif self._log is None or not again:
            self.begun_ns = 0  # START was not said yet
            self.log.announce(self._prepared.platform.init_start(self._means.wall_ns()))

    def initialized(self, failure: Ending | None) -> None:
        """The init phase is over."""
        platform, now_ns = self._prepared.platform, self._means.wall_ns()
        if failure is None:
            self.log.say(platform.init_done(now_ns))
            self.begin()
        else:
            phase = "invoke" if self._init_failed else "init"
            self.log.say(platform.init_failed(failure, phase, now_ns))
            self._init_failed = True

    def begin(self) -> None:
        """Say START, once: the handler is called next, or never."""
        if not self.begun_ns:
            self.begun_ns = self._means.wall_ns()
            if self._log is not None:
                self._say_start(self._log)

    def output(self, data: bytes) -> None:
        """What the function wrote."""
        (self._log or self._open()).output(data)

    def end(self) -> None:
        """All that belongs to it has been said."""
        self._over = True
        if self._log is not None:
            self._log.end(self._means.keep_late)

    def _open(self) -> LogTail:
        prepared, means, sink = self._prepared, self._means, self._sink
        function = prepared.function
        log = self._log = LogTail(
            function.name,
            self._request_id,
            prepared.log_stream,
            means.keep,
            None if sink is None else sink.log,
            means.wall_ns,
            asyncio.get_running_loop(),
            dropped=prepared.platform.dropped,
            takes=prepared.platform.takes,
            json=function.config.log_format is LogFormat.JSON,
        )
        if self._over:
            log.end(means.keep_late)
        elif self.begun_ns:
            self._say_start(log)
        return log

    def _say_start(self, log: LogTail) -> None:
        log.say(self._prepared.platform.start(self._request_id, self._prepared.function.version, self.begun_ns))
