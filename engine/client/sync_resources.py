"""Versions, aliases and concurrency for callers without an event loop: the part of engine.client.sync.Client on them.
The same calls as engine.client.async_resources.AsyncResourceCalls, which documents them."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TypeVar

from engine.client import resource_calls as calls
from engine.model.alias import Alias
from engine.model.concurrency import AccountSettings, Provisioned
from engine.model.function import Function

T = TypeVar("T")


class ResourceCalls(abc.ABC):
    """Every call raises EngineError for what the engine refuses."""

    @abc.abstractmethod
    def _make(self, call: calls.Call[T]) -> T: ...

    def publish_version(self, name: str, *, description: str = "", code_sha256: str = "", etag: str = "") -> Function:
        """See AsyncResourceCalls.publish_version."""
        return self._make(calls.publish_version(name, description, code_sha256, etag))

    def list_versions(self, name: str) -> list[Function]:
        """See AsyncResourceCalls.list_versions."""
        return self._make(calls.list_versions(name))

    def delete_version(self, name: str, version: str | int) -> None:
        """See AsyncResourceCalls.delete_version."""
        self._make(calls.delete_version(name, version))

    def create_alias(
        self,
        name: str,
        alias: str,
        version: str | int,
        *,
        weights: Mapping[str, float] | None = None,
        description: str = "",
    ) -> Alias:
        """See AsyncResourceCalls.create_alias."""
        return self._make(calls.create_alias(name, alias, version, weights, description))

    def get_alias(self, name: str, alias: str) -> Alias:
        """See AsyncResourceCalls.get_alias."""
        return self._make(calls.get_alias(name, alias))

    def list_aliases(self, name: str, *, version: str | int = "") -> list[Alias]:
        """See AsyncResourceCalls.list_aliases."""
        return self._make(calls.list_aliases(name, version))

    def update_alias(
        self,
        name: str,
        alias: str,
        *,
        version: str | int | None = None,
        weights: Mapping[str, float] | None = None,
        description: str | None = None,
        etag: str = "",
    ) -> Alias:
        """See AsyncResourceCalls.update_alias."""
        return self._make(calls.update_alias(name, alias, version, weights, description, etag))

    def delete_alias(self, name: str, alias: str, *, etag: str = "") -> None:
        """See AsyncResourceCalls.delete_alias."""
        self._make(calls.delete_alias(name, alias, etag))

    def put_concurrency(self, name: str, executions: int) -> int:
        """See AsyncResourceCalls.put_concurrency."""
        return self._make(calls.put_concurrency(name, executions))

    def get_concurrency(self, name: str) -> int | None:
        """See AsyncResourceCalls.get_concurrency."""
        return self._make(calls.get_concurrency(name))

    def delete_concurrency(self, name: str) -> None:
        """See AsyncResourceCalls.delete_concurrency."""
        self._make(calls.delete_concurrency(name))

    def put_provisioned_concurrency(self, name: str, environments: int, *, qualifier: str | None = None) -> Provisioned:
        """See AsyncResourceCalls.put_provisioned_concurrency."""
        return self._make(calls.put_provisioned(name, qualifier, environments))

    def get_provisioned_concurrency(self, name: str, *, qualifier: str | None = None) -> Provisioned:
        """See AsyncResourceCalls.get_provisioned_concurrency."""
        return self._make(calls.get_provisioned(name, qualifier))

    def list_provisioned_concurrency(self, name: str) -> list[Provisioned]:
        """See AsyncResourceCalls.list_provisioned_concurrency."""
        return self._make(calls.list_provisioned(name))

    def delete_provisioned_concurrency(self, name: str, *, qualifier: str | None = None) -> None:
        """See AsyncResourceCalls.delete_provisioned_concurrency."""
        self._make(calls.delete_provisioned(name, qualifier))

    def get_account_settings(self) -> AccountSettings:
        """See AsyncResourceCalls.get_account_settings."""
        return self._make(calls.get_account_settings())
