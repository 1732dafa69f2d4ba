"""Reserved and provisioned concurrency as stored settings, and the account's limits.

Holding functions to them, and keeping environments ready, is the scheduler's work: it is told of each change (Registry.
observe), and answers as a Provisioner how many environments there are. Source: docs.aws.amazon.com/lambda/latest/dg/
lambda-concurrency.html, configuration-concurrency.html and provisioned-concurrency.html. Guarantees that what is stored
fits the account's limit as it was then, with KEPT_UNRESERVED left to those that have none of their own.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.errors import InvalidArgument, NotProvisioned
from engine.model.concurrency import (
    KEPT_UNRESERVED,
    AccountSettings,
    Allocation,
    Provisioned,
    ProvisionedConfig,
    ProvisionedStatus,
)
from engine.model.function import LATEST
from engine.model.names import FunctionRef
from engine.registry import more_rows
from engine.registry.aliases import check_provisionable
from engine.registry.api import Changed, Provisioner
from engine.registry.shelf import Entry, Shelf, page_of


class NoProvisioner:
    """An engine that keeps no environments ready, and says so."""

    def allocation(self, function_name: str, qualifier: str) -> Allocation:
        """See engine.registry.api.Provisioner."""
        why = "this engine's scheduler does not keep environments ready; invocations start them on demand"
        return Allocation(ProvisionedStatus.FAILED, reason=why)


class ConcurrencyRegistry:
    """engine.registry.api.Concurrency."""

    def __init__(self, shelf: Shelf, account_concurrency: Callable[[], int]) -> None:
        self._shelf = shelf
        self._account_concurrency = account_concurrency
        self._provisioner: Provisioner = NoProvisioner()

    def reserved(self, function_name: str) -> int | None:
        """See engine.registry.api.Concurrency."""
        return self._shelf.entry(function_name).reserved

    async def reserve(self, function_name: str, executions: int) -> int:
        """See engine.registry.api.Concurrency. Less than before is never too much."""

        async def write() -> int:
            entry = self._shelf.entry(function_name)
            if executions < 0:
                raise _invalid("reserved_concurrent_executions", "must not be negative", "give 0 or more")
            provisioned = _provisioned(entry)
            if executions < provisioned:
                raise _invalid(
                    "reserved_concurrent_executions",
                    f"ReservedConcurrentExecutions {executions} should not be lower than function's total provisioned "
                    f"concurrency [{provisioned}].",
                    "reserve more, or provision less first",
                )
            left = self._unreserved() + _own(entry) - executions
            if executions > (entry.reserved or 0) and left < self._kept():
                raise _invalid(
                    "reserved_concurrent_executions",
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    f"UnreservedConcurrentExecution below its minimum value of [{self._kept()}].",
                    "reserve less, or raise the engine's max_concurrency",
                )
            await self._put(entry, executions)
            return executions

        return await self._shelf.write(write)

    async def unreserve(self, function_name: str) -> None:
        """See engine.registry.api.Concurrency."""

        async def write() -> None:
            entry = self._shelf.entry(function_name)
            if entry.reserved is not None:
                await self._put(entry, None)

        await self._shelf.write(write)

    async def provision(self, ref: FunctionRef, environments: int) -> Provisioned:
        """See engine.registry.api.Concurrency."""

        async def write() -> ProvisionedConfig:
            shelf = self._shelf
            entry = self._provisionable(ref)
            if environments < 1:
                raise _invalid("requested", "must be at least 1", "give 1 or more, or delete the configuration")
            self._check_room(entry, ref.qualifier, environments)
            config = ProvisionedConfig(ref.name, ref.qualifier, environments, shelf.now())
            await shelf.store(lambda connection: more_rows.write_provisioned(connection, config))
            entry.provisioned[ref.qualifier] = config
            shelf.tell(ref.name, Changed.PROVISIONED, ref.qualifier)
            return config

        return self._seen(await self._shelf.write(write))

    def provisioned(self, ref: FunctionRef) -> Provisioned:
        """See engine.registry.api.Concurrency."""
        self._shelf.version(ref)
        config = self._shelf.entry(ref.name).provisioned.get(ref.qualifier)
        if config is None:
            raise NotProvisioned(
                "No Provisioned Concurrency Config found for this function",
                fix=f"make one with `cleave concurrency provision {ref.name}:{ref.qualifier} 1`",
            )
        return self._seen(config)

    def list_provisioned(self, function_name: str, *, limit: int, after: str = "") -> tuple[list[Provisioned], str]:
        """See engine.registry.api.Concurrency. A `limit` below 1 counts as 1."""
        configs = self._shelf.entry(function_name).provisioned
        page, after = page_of(sorted(configs), limit=limit, after=after)
        return [self._seen(configs[qualifier]) for qualifier in page], after

    async def unprovision(self, ref: FunctionRef) -> None:
        """See engine.registry.api.Concurrency."""

        async def write() -> None:
            shelf = self._shelf
            shelf.version(ref)
            entry = shelf.entry(ref.name)
            if ref.qualifier in entry.provisioned:
                await shelf.store(lambda connection: more_rows.delete_provisioned(connection, ref.name, ref.qualifier))
                del entry.provisioned[ref.qualifier]
                shelf.tell(ref.name, Changed.PROVISIONED, ref.qualifier, gone=True)

        await self._shelf.write(write)

    def account(self) -> AccountSettings:
        """See engine.registry.api.Concurrency."""
        entries = self._shelf.entries
        return AccountSettings(
            concurrency=self._account_concurrency(),
            unreserved=max(self._unreserved(), 0),
            functions=len(entries),
            code_bytes=sum(
                entry.function.code_size_bytes
                + sum(published.function.code_size_bytes for published in entry.versions.values())
                for entry in entries.values()
            )
            + self._shelf.layer_bytes,
        )

    def provision_with(self, provisioner: Provisioner) -> None:
        """See engine.registry.api.Concurrency."""
        self._provisioner = provisioner

    async def _put(self, entry: Entry, executions: int | None) -> None:
        name = entry.function.name
        await self._shelf.store(lambda connection: more_rows.write_reserved(connection, name, executions))
        entry.reserved = executions
        self._shelf.tell(name, Changed.RESERVED, gone=executions is None)

    def _provisionable(self, ref: FunctionRef) -> Entry:
        """The function of a version or an alias that may have a configuration. Raises where it may not."""
        version = self._shelf.version(ref).version
        entry = self._shelf.entry(ref.name)
        alias = entry.aliases.get(ref.qualifier)
        check_provisionable(entry, version, "" if alias is None else alias.name)
        if alias is not None and alias.weights:
            raise _invalid(
                "name",
                "Alias with weights can not be used with Provisioned Concurrency",
                "provision its versions, or give it one version alone",
            )
        return entry

    def _check_room(self, entry: Entry, qualifier: str, environments: int) -> None:
        others = _provisioned(entry, but=qualifier)
        if entry.reserved is not None:
            if others + environments > entry.reserved:
                raise _invalid(
                    "requested",
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for "
                    "function",
                    f"ask for at most {entry.reserved - others}, or reserve more",
                )
            return
        left = self._unreserved() + _provisioned(entry) - others
        if environments > left:
            raise _invalid(
                "requested",
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency "
                f"[{max(left, 0)}].",
                "ask for less, or raise the engine's max_concurrency",
            )
        if left - environments < self._kept():
            raise _invalid(
                "requested",
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
                f"its minimum value of [{self._kept()}].",
                "ask for less, or raise the engine's max_concurrency",
            )

    def _unreserved(self) -> int:
        """What of the account's concurrency no function has for itself; negative where the limit was lowered below."""
        return self._account_concurrency() - sum(_own(entry) for entry in self._shelf.entries.values())

    def _kept(self) -> int:
        return min(KEPT_UNRESERVED, self._account_concurrency())

    def _seen(self, config: ProvisionedConfig) -> Provisioned:
        return Provisioned(config, self._provisioner.allocation(config.function_name, config.qualifier))


def _provisioned(entry: Entry, *, but: str = LATEST) -> int:
    """Environments that are asked for of a function, `but` for those of one version or alias."""
    return sum(config.requested for qualifier, config in entry.provisioned.items() if qualifier != but)


def _own(entry: Entry) -> int:
    """What a function takes out of the account's unreserved concurrency."""
    return _provisioned(entry) if entry.reserved is None else entry.reserved


def _invalid(field: str, what: str, fix: str) -> InvalidArgument:
    return InvalidArgument(what, fix=fix, fields={field: what})
