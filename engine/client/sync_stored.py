"""Event source mappings, code signing and small settings for callers without an event loop: the part of
engine.client.sync.Client on them, with the calls of engine.client.async_stored.AsyncStoredCalls, which documents them.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TypeVar

from engine.client import stored_calls as calls
from engine.client.stored_calls import Document
from engine.registry.mappings import EventSourceMapping

T = TypeVar("T")


class StoredCalls(abc.ABC):
    """Every call raises EngineError for what the engine refuses."""

    @abc.abstractmethod
    def _ask(self, call: calls.StoredCall[T]) -> T: ...

    def create_event_source_mapping(
        self,
        name: str,
        source_arn: str = "",
        *,
        settings: Document | None = None,
        enabled: bool = True,
        tags: Mapping[str, str] | None = None,
    ) -> EventSourceMapping:
        """See AsyncStoredCalls.create_event_source_mapping."""
        return self._ask(calls.create_mapping(name, source_arn, settings or {}, enabled, tags or {}))

    def get_event_source_mapping(self, mapping_id: str) -> EventSourceMapping:
        """See AsyncStoredCalls.get_event_source_mapping."""
        return self._ask(calls.get_mapping(mapping_id))

    def list_event_source_mappings(self, name: str = "", *, source_arn: str = "") -> list[EventSourceMapping]:
        """See AsyncStoredCalls.list_event_source_mappings."""
        return self._ask(calls.list_mappings(name, source_arn))

    def update_event_source_mapping(
        self, mapping_id: str, *, settings: Document | None = None, enabled: bool | None = None, name: str = ""
    ) -> EventSourceMapping:
        """See AsyncStoredCalls.update_event_source_mapping."""
        return self._ask(calls.update_mapping(mapping_id, settings or {}, enabled, name))

    def delete_event_source_mapping(self, mapping_id: str) -> EventSourceMapping:
        """See AsyncStoredCalls.delete_event_source_mapping."""
        return self._ask(calls.delete_mapping(mapping_id))

    def create_code_signing_config(
        self,
        profiles: Sequence[str],
        *,
        enforce: bool = False,
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Document:
        """See AsyncStoredCalls.create_code_signing_config."""
        return self._ask(calls.create_signing(profiles, enforce, description, tags or {}))

    def get_code_signing_config(self, config: str) -> Document:
        """See AsyncStoredCalls.get_code_signing_config."""
        return self._ask(calls.get_signing(config))

    def list_code_signing_configs(self) -> list[Document]:
        """See AsyncStoredCalls.list_code_signing_configs."""
        return self._ask(calls.list_signing())

    def update_code_signing_config(
        self,
        config: str,
        *,
        profiles: Sequence[str] | None = None,
        enforce: bool | None = None,
        description: str | None = None,
    ) -> Document:
        """See AsyncStoredCalls.update_code_signing_config."""
        return self._ask(calls.update_signing(config, profiles, enforce, description))

    def delete_code_signing_config(self, config: str) -> None:
        """See AsyncStoredCalls.delete_code_signing_config."""
        self._ask(calls.delete_signing(config))

    def list_functions_by_code_signing_config(self, config: str) -> list[str]:
        """See AsyncStoredCalls.list_functions_by_code_signing_config."""
        return self._ask(calls.list_signed_functions(config))

    def put_function_code_signing_config(self, name: str, config: str) -> None:
        """See AsyncStoredCalls.put_function_code_signing_config."""
        self._ask(calls.put_function_signing(name, config))

    def get_function_code_signing_config(self, name: str) -> str:
        """See AsyncStoredCalls.get_function_code_signing_config."""
        return self._ask(calls.get_function_signing(name))

    def delete_function_code_signing_config(self, name: str) -> None:
        """See AsyncStoredCalls.delete_function_code_signing_config."""
        self._ask(calls.delete_function_signing(name))

    def put_function_recursion_config(self, name: str, recursive_loop: str) -> str:
        """See AsyncStoredCalls.put_function_recursion_config."""
        return self._ask(calls.put_recursion(name, recursive_loop))

    def get_function_recursion_config(self, name: str) -> str:
        """See AsyncStoredCalls.get_function_recursion_config."""
        return self._ask(calls.get_recursion(name))

    def put_runtime_management_config(
        self, name: str, update_runtime_on: str, *, runtime_version_arn: str = "", qualifier: str | None = None
    ) -> Document:
        """See AsyncStoredCalls.put_runtime_management_config."""
        return self._ask(calls.put_runtime_management(name, qualifier, update_runtime_on, runtime_version_arn))

    def get_runtime_management_config(self, name: str, *, qualifier: str | None = None) -> Document:
        """See AsyncStoredCalls.get_runtime_management_config."""
        return self._ask(calls.get_runtime_management(name, qualifier))

    def put_function_scaling_config(
        self, name: str, version: str | int, *, least: int | None = None, most: int | None = None
    ) -> None:
        """See AsyncStoredCalls.put_function_scaling_config."""
        self._ask(calls.put_scaling(name, version, least, most))

    def get_function_scaling_config(self, name: str, version: str | int) -> Document | None:
        """See AsyncStoredCalls.get_function_scaling_config."""
        return self._ask(calls.get_scaling(name, version))
