"""Event source mappings, code signing and small settings for async callers: the part of engine.client.calls.AsyncCalls
about them.

They are stored and returned as on AWS: nothing polls a source, checks a signature or acts on a setting yet. Settings
and documents have AWS's names and values.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TypeVar

from engine.client import stored_calls as calls
from engine.client.stored_calls import Document
from engine.registry.mappings import EventSourceMapping

T = TypeVar("T")


class AsyncStoredCalls(abc.ABC):
    """Every call raises EngineError for what the engine refuses; `name` may be a name or an ARN, `config` an id or an
    ARN."""

    @abc.abstractmethod
    async def _ask(self, call: calls.StoredCall[T]) -> T: ...

    async def create_event_source_mapping(
        self,
        name: str,
        source_arn: str = "",
        *,
        settings: Document | None = None,
        enabled: bool = True,
        tags: Mapping[str, str] | None = None,
    ) -> EventSourceMapping:
        """Give a function, a version or an alias (name:live) the events of a source. `settings` are such as
        {"BatchSize": 5}. Raises NotFound, AlreadyExists, InvalidArgument for what the source does not take."""
        return await self._ask(calls.create_mapping(name, source_arn, settings or {}, enabled, tags or {}))

    async def get_event_source_mapping(self, mapping_id: str) -> EventSourceMapping:
        """Raises NotFound."""
        return await self._ask(calls.get_mapping(mapping_id))

    async def list_event_source_mappings(self, name: str = "", *, source_arn: str = "") -> list[EventSourceMapping]:
        """All of them by id, or those of a function, of a source."""
        return await self._ask(calls.list_mappings(name, source_arn))

    async def update_event_source_mapping(
        self, mapping_id: str, *, settings: Document | None = None, enabled: bool | None = None, name: str = ""
    ) -> EventSourceMapping:
        """Change what is given; a setting that is empty is taken away. Raises NotFound, AlreadyExists,
        InvalidArgument."""
        return await self._ask(calls.update_mapping(mapping_id, settings or {}, enabled, name))

    async def delete_event_source_mapping(self, mapping_id: str) -> EventSourceMapping:
        """What it was. Raises NotFound."""
        return await self._ask(calls.delete_mapping(mapping_id))

    async def create_code_signing_config(
        self,
        profiles: Sequence[str],
        *,
        enforce: bool = False,
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Document:
        """Say who may sign code: ARNs of versions of signing profiles. Raises InvalidArgument."""
        return await self._ask(calls.create_signing(profiles, enforce, description, tags or {}))

    async def get_code_signing_config(self, config: str) -> Document:
        """Raises NotFound."""
        return await self._ask(calls.get_signing(config))

    async def list_code_signing_configs(self) -> list[Document]:
        """All of them, by id."""
        return await self._ask(calls.list_signing())

    async def update_code_signing_config(
        self,
        config: str,
        *,
        profiles: Sequence[str] | None = None,
        enforce: bool | None = None,
        description: str | None = None,
    ) -> Document:
        """Change what is given. Raises NotFound, InvalidArgument."""
        return await self._ask(calls.update_signing(config, profiles, enforce, description))

    async def delete_code_signing_config(self, config: str) -> None:
        """Raises NotFound, SigningConfigInUse while functions have it."""
        await self._ask(calls.delete_signing(config))

    async def list_functions_by_code_signing_config(self, config: str) -> list[str]:
        """Their names. Raises NotFound."""
        return await self._ask(calls.list_signed_functions(config))

    async def put_function_code_signing_config(self, name: str, config: str) -> None:
        """Raises NotFound, InvalidArgument for one that enforces."""
        await self._ask(calls.put_function_signing(name, config))

    async def get_function_code_signing_config(self, name: str) -> str:
        """The id of what a function has, "" if it has none. Raises NotFound."""
        return await self._ask(calls.get_function_signing(name))

    async def delete_function_code_signing_config(self, name: str) -> None:
        """Fine where it has none. Raises NotFound."""
        await self._ask(calls.delete_function_signing(name))

    async def put_function_recursion_config(self, name: str, recursive_loop: str) -> str:
        """ "Terminate" or "Allow". Raises NotFound, InvalidArgument."""
        return await self._ask(calls.put_recursion(name, recursive_loop))

    async def get_function_recursion_config(self, name: str) -> str:
        """ "Terminate" or "Allow". Raises NotFound."""
        return await self._ask(calls.get_recursion(name))

    async def put_runtime_management_config(
        self, name: str, update_runtime_on: str, *, runtime_version_arn: str = "", qualifier: str | None = None
    ) -> Document:
        """ "Auto", "FunctionUpdate", or "Manual" with the ARN. Raises NotFound, InvalidArgument."""
        return await self._ask(calls.put_runtime_management(name, qualifier, update_runtime_on, runtime_version_arn))

    async def get_runtime_management_config(self, name: str, *, qualifier: str | None = None) -> Document:
        """UpdateRuntimeOn, and the RuntimeVersionArn of Manual. Raises NotFound."""
        return await self._ask(calls.get_runtime_management(name, qualifier))

    async def put_function_scaling_config(
        self, name: str, version: str | int, *, least: int | None = None, most: int | None = None
    ) -> None:
        """How many environments a version is to have; neither: nobody asks any more. Raises NotFound,
        InvalidArgument."""
        await self._ask(calls.put_scaling(name, version, least, most))

    async def get_function_scaling_config(self, name: str, version: str | int) -> Document | None:
        """What was asked for. Raises NotFound."""
        return await self._ask(calls.get_scaling(name, version))
