"""Layers for async callers: the part of engine.client.calls.AsyncCalls about them."""

from __future__ import annotations

from collections.abc import Sequence

from engine.client import layer_calls as calls
from engine.client.code_calls import AsyncCodeCalls, Code
from engine.model.layer import LayerRef, LayerVersion


class AsyncLayerCalls(AsyncCodeCalls):
    """Every call raises EngineError for what the engine refuses; `layer` is name:version or an ARN."""

    async def publish_layer(
        self,
        code: Code,
        name: str,
        *,
        description: str = "",
        license_info: str = "",
        runtimes: Sequence[str] = (),
        architectures: Sequence[str] = (),
    ) -> LayerVersion:
        """Make a version of a layer from code wherever it is: what is in it is found at /opt.
        Raises InvalidArgument, InvalidCode."""
        sha256 = await self._store(code)
        return await self._make(calls.publish_layer(name, sha256, description, license_info, runtimes, architectures))

    async def get_layer(self, layer: str | LayerRef) -> LayerVersion:
        """Raises NotFound."""
        return await self._make(calls.get_layer(layer))

    async def list_layers(self, *, runtime: str = "", architecture: str = "") -> list[LayerVersion]:
        """The latest version of each, by name, or of those that say they are for these."""
        return await self._make(calls.list_layers(runtime, architecture))

    async def list_layer_versions(self, name: str, *, runtime: str = "", architecture: str = "") -> list[LayerVersion]:
        """All of a layer, newest first, or those that say they are for these."""
        return await self._make(calls.list_layer_versions(name, runtime, architecture))

    async def delete_layer(self, layer: str | LayerRef) -> None:
        """Delete a version; functions that use it keep it. Fine where there is none."""
        await self._make(calls.delete_layer(layer))
