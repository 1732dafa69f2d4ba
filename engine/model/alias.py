"""An alias: a name for one version of a function, or for two that share its invocations. Which values it may have is
engine.registry.aliases' work."""

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


def version_for(alias: Alias, chance: float) -> str:
    """The version that runs an invocation of the alias; `chance` is a random number, 0 ≤ chance < 1. The same chance
    gives the same version: nothing else decides."""
    for version, weight in alias.weights:
        if chance < weight:
            return version
        chance -= weight
    return alias.version
