"""An alias: a name for one version of a function, or for two that share its invocations. Which values it may have is
engine.registry.aliases' work; which of two an invocation runs, engine.scheduler.routes'."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias as stored. `etag` changes with every write; AWS calls it RevisionId."""

    function_name: str
    name: str
    version: str  # a number, or $LATEST
    etag: str  # a UUID
    create_time: datetime  # aware, UTC
    update_time: datetime
    description: str = ""
    weights: tuple[tuple[str, float], ...] = ()  # other versions and their share, 0 to 1; `version` gets the rest

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that an invocation of it may run."""
        return (self.version, *(version for version, _ in self.weights))

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """Each of them with its share, which add up to 1."""
        rest = 1.0 - sum(weight for _, weight in self.weights)
        return (*self.weights, (self.version, rest))
