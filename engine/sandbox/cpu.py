"""What CPU a memory tier buys, and when it is held to it.

Leaves to others: writing it into the cgroup files (native/box/cgroup_v1.c, cgroup_v2.c), which give every quota a
period of 100 ms and a burst of its own size. Source of the proportion: docs.aws.amazon.com/lambda/latest/dg/
configuration-memory.html.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.model.function import MEMORY_MB_PER_VCPU

CPU_PERIOD_US = 100_000
NO_LIMIT = 0
"""A quota that is none: neighbours are held off by shares alone."""


def cpu_quota_us(memory_mb: int) -> int:
    """CPU time in each 100 ms that a tier buys: 1,769 MB is one vCPU."""
    return max(1_000, memory_mb * CPU_PERIOD_US // MEMORY_MB_PER_VCPU)


def cpu_shares(memory_mb: int) -> int:
    """Weight against neighbours when the CPUs are full, in cgroup v1's unit."""
    return max(2, memory_mb * 1_024 // MEMORY_MB_PER_VCPU)


@dataclass(frozen=True, slots=True)
class CpuRules:
    """What the operator decided; see the settings of the same names."""

    init_cpu: bool = True
    cpu_burst: bool = False

    def serving_us(self, memory_mb: int) -> int:
        """The quota in each 100 ms once the init phase is over."""
        return NO_LIMIT if self.cpu_burst else cpu_quota_us(memory_mb)

    def starting_us(self, memory_mb: int) -> int:
        """The quota in each 100 ms until then: never less than what is bought."""
        quota = self.serving_us(memory_mb)
        return max(quota, CPU_PERIOD_US) if self.init_cpu and quota != NO_LIMIT else quota


AS_LAMBDA = CpuRules()
"""What AWS Lambda does."""
