from array import array
from collections.abc import Mapping

from engine.scheduler._sched import CoreCounts

class Simulation:
    def __init__(
        self, functions: int, *, start_ns: int, close_ns: int, crash_every: int = 0, **settings: int
    ) -> None: ...
    def limit(self, reserved: Mapping[int, int], provisioned: Mapping[int, int]) -> None: ...
    def alias(self, number: int, weight: int, provisioned: int) -> None: ...
    def run(
        self,
        times: array[int],
        functions: array[int],
        durations: array[int],
        waits: array[int],
        reasons: bytearray,
        seconds: bytearray,
    ) -> CoreCounts: ...
