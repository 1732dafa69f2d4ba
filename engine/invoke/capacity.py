"""What is reserved and provisioned in the registry, held by the scheduler.

Leaves to others: what may be asked for (the registry), what an event gets (the scheduler). Guarantees: after each write
the scheduler has what the registry has, and a configuration that cannot be had says why.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import structlog

from engine.errors import EngineError, InvalidArgument
from engine.model.concurrency import Allocation, ProvisionedStatus
from engine.model.function import LATEST, Function
from engine.model.names import FunctionRef
from engine.registry.api import Change, Changed, Registry
from engine.sandbox.api import RunSink, SandboxSpec
from engine.scheduler.api import Scheduler
from engine.scheduler.kept import Follow

_log = structlog.get_logger(__name__)


class _Wanted(NamedTuple):
    """What the sandboxes of one configuration are, how many there should be, what follows the init phase of each, and
    how many more that is than were wanted of these before."""

    spec: SandboxSpec
    requested: int
    follow: Follow
    more: int


class Capacity:
    """An observer of the registry, and its Provisioner. `spec_of` says what a provisioned sandbox of a function is, and
    `follow` makes what follows the init phase of one; NotFound where the code is gone."""

    def __init__(
        self,
        registry: Registry,
        scheduler: Scheduler,
        spec_of: Callable[[Function], SandboxSpec],
        follow: Callable[[Function], RunSink],
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._spec_of = spec_of
        self._follow = follow
        self._kept: dict[str, dict[str, SandboxSpec]] = {}  # by function and qualifier
        self._refused: dict[FunctionRef, str] = {}

    def open(self, names: Iterable[str]) -> None:
        """Take over what is stored for these functions, and every change from now on."""
        for name in names:
            self._reserve(name)
            self._provision(name)
        self._registry.observe(self.changed)
        self._registry.concurrency.provision_with(self)

    def changed(self, change: Change) -> None:
        """A ChangeObserver."""
        name = change.function_name
        if change.what is Changed.FUNCTION:
            if change.gone:
                self._leave(name, self._kept.pop(name, {}))
                self._scheduler.set_reserved(name, None)
        elif change.what is Changed.RESERVED:
            self._reserve(name)
            self._provision(name)  # what did not fit may fit now
        else:
            self._provision(name)

    def renew(self, name: str) -> None:
        """Its sandboxes were retired for another reason than a write."""
        self._kept.pop(name, None)
        self._provision(name)

    def allocation(self, function_name: str, qualifier: str) -> Allocation:
        """See engine.registry.api.Provisioner."""
        spec = self._kept.get(function_name, {}).get(qualifier)
        if spec is None:
            reason = self._refused.get(FunctionRef(function_name, qualifier), "")
            return Allocation(ProvisionedStatus.FAILED if reason else ProvisionedStatus.IN_PROGRESS, reason=reason)
        there = self._scheduler.allocation(spec.key)
        if there.allocated >= there.requested:
            status, reason = ProvisionedStatus.READY, ""
        elif there.failures:
            status, reason = ProvisionedStatus.FAILED, there.trouble
        else:
            status, reason = ProvisionedStatus.IN_PROGRESS, ""
        return Allocation(status, there.allocated, there.available, reason)

    def _reserve(self, name: str) -> None:
        try:
            self._scheduler.set_reserved(name, self._registry.concurrency.reserved(name))
        except EngineError as error:
            _log.warning("reservation_not_held", function=name, error=error.message, fix=error.fix)

    def _provision(self, name: str) -> None:
        wanted = self._wanted(name)
        kept = self._kept.setdefault(name, {})
        keys = {qualifier: one.spec.key for qualifier, one in wanted.items()}
        moved = {qualifier: spec for qualifier, spec in kept.items() if keys.get(qualifier) != spec.key}
        for qualifier in moved:
            del kept[qualifier]
        self._leave(name, moved)
        # Those that ask for less make way for those that ask for more.
        fewer = sorted(wanted.items(), key=lambda one: one[1].more)
        for qualifier, (spec, requested, follow, _) in fewer:
            ref = FunctionRef(name, qualifier)
            try:
                self._scheduler.set_provisioned(spec, requested, follow)
            except InvalidArgument as error:
                self._refused[ref] = error.message
                _log.warning("provisioned_not_held", function=name, qualifier=qualifier, error=error.message)
            else:
                kept[qualifier] = spec
                self._refused.pop(ref, None)
        if not kept:
            del self._kept[name]

    def _wanted(self, name: str) -> dict[str, _Wanted]:
        """By qualifier."""
        wanted: dict[str, _Wanted] = {}
        try:
            configs, _ = self._registry.concurrency.list_provisioned(name, limit=sys.maxsize)
            for one in configs:
                ref = FunctionRef(name, one.config.qualifier)
                function, requested = self._version(ref), one.config.requested
                spec = self._spec_of(function)
                more = requested - self._scheduler.allocation(spec.key).requested
                wanted[ref.qualifier] = _Wanted(spec, requested, partial(self._follow, function), more)
        except EngineError as error:  # the function, or its code, is gone
            _log.warning("provisioned_not_held", function=name, error=error.message)
        return wanted

    def _version(self, ref: FunctionRef) -> Function:
        if ref.qualifier.isdigit() or ref.qualifier == LATEST:
            return self._registry.get(ref)
        return self._registry.get(FunctionRef(ref.name, self._registry.aliases.get(ref.name, ref.qualifier).version))

    def _leave(self, name: str, specs: dict[str, SandboxSpec]) -> None:
        for spec in specs.values():
            self._scheduler.set_provisioned(spec, 0)
        for ref in [ref for ref in self._refused if ref.name == name]:
            del self._refused[ref]
