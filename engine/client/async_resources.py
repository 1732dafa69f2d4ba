"""Versions, aliases and concurrency for async callers: the part of engine.client.calls.AsyncCalls about them."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TypeVar

from engine.client import resource_calls as calls
from engine.model.alias import Alias
from engine.model.concurrency import AccountSettings, Provisioned
from engine.model.function import Function

T = TypeVar("T")


class AsyncResourceCalls(abc.ABC):
    """Every call raises EngineError for what the engine refuses; `name` may be a name or an ARN."""

    @abc.abstractmethod
    async def _make(self, call: calls.Call[T]) -> T: ...

    async def publish_version(
        self, name: str, *, description: str = "", code_sha256: str = "", etag: str = ""
    ) -> Function:
        """Make a version of what $LATEST is; where nothing has changed since the last one, that is returned.
        `code_sha256` (hex) and `etag` are refused where they are not those of $LATEST. Raises NotFound, StaleEtag,
        InvalidArgument."""
        return await self._make(calls.publish_version(name, description, code_sha256, etag))

    async def list_versions(self, name: str) -> list[Function]:
        """All of them, by number; $LATEST is none. Raises NotFound."""
        return await self._make(calls.list_versions(name))

    async def delete_version(self, name: str, version: str | int) -> None:
        """Raises NotFound, InUse while an alias points at it."""
        await self._make(calls.delete_version(name, version))

    async def create_alias(
        self,
        name: str,
        alias: str,
        version: str | int,
        *,
        weights: Mapping[str, float] | None = None,
        description: str = "",
    ) -> Alias:
        """Name a version. `weights` has another version and its share of the invocations, 0 to 1. Raises NotFound,
        AlreadyExists, InvalidArgument."""
        return await self._make(calls.create_alias(name, alias, version, weights, description))

    async def get_alias(self, name: str, alias: str) -> Alias:
        """Raises NotFound."""
        return await self._make(calls.get_alias(name, alias))

    async def list_aliases(self, name: str, *, version: str | int = "") -> list[Alias]:
        """All of them by name, or those that may run `version`. Raises NotFound."""
        return await self._make(calls.list_aliases(name, version))

    async def update_alias(
        self,
        name: str,
        alias: str,
        *,
        version: str | int | None = None,
        weights: Mapping[str, float] | None = None,
        description: str | None = None,
        etag: str = "",
    ) -> Alias:
        """Change what is given; {} for `weights` removes them. Raises NotFound, StaleEtag if an etag is given and is
        not the current one, InvalidArgument, InUse."""
        return await self._make(calls.update_alias(name, alias, version, weights, description, etag))

    async def delete_alias(self, name: str, alias: str, *, etag: str = "") -> None:
        """Raises NotFound, StaleEtag."""
        await self._make(calls.delete_alias(name, alias, etag))

    async def put_concurrency(self, name: str, executions: int) -> int:
        """Give a function concurrency of its own, which is also its limit; 0 stops it. Raises NotFound, InvalidArgument
        where too little would be left for others."""
        return await self._make(calls.put_concurrency(name, executions))

    async def get_concurrency(self, name: str) -> int | None:
        """What it has of its own; None: whatever is unreserved. Raises NotFound."""
        return await self._make(calls.get_concurrency(name))

    async def delete_concurrency(self, name: str) -> None:
        """Take it back. Raises NotFound."""
        await self._make(calls.delete_concurrency(name))

    async def put_provisioned_concurrency(
        self, name: str, environments: int, *, qualifier: str | None = None
    ) -> Provisioned:
        """Ask for environments of a version or an alias that are ready before they are invoked. Raises NotFound,
        InvalidArgument, InUse where the version has some by another name."""
        return await self._make(calls.put_provisioned(name, qualifier, environments))

    async def get_provisioned_concurrency(self, name: str, *, qualifier: str | None = None) -> Provisioned:
        """Raises NotFound, NotProvisioned."""
        return await self._make(calls.get_provisioned(name, qualifier))

    async def list_provisioned_concurrency(self, name: str) -> list[Provisioned]:
        """All of a function, by version and alias. Raises NotFound."""
        return await self._make(calls.list_provisioned(name))

    async def delete_provisioned_concurrency(self, name: str, *, qualifier: str | None = None) -> None:
        """Ask for none any more. Raises NotFound."""
        await self._make(calls.delete_provisioned(name, qualifier))

    async def get_account_settings(self) -> AccountSettings:
        """The limits of the account, and what of them is used."""
        return await self._make(calls.get_account_settings())
