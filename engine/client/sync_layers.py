"""Layers for callers without an event loop: the part of engine.client.sync.Client on them. The same calls as
engine.client.async_layers.AsyncLayerCalls, which documents them."""

from __future__ import annotations

from collections.abc import Sequence

from engine.client import layer_calls as calls
from engine.client.code_calls import Code, CodeCalls
from engine.model.layer import LayerRef, LayerVersion


class LayerCalls(CodeCalls):
    """Every call raises EngineError for what the engine refuses."""

    def publish_layer(
        self,
        code: Code,
        name: str,
        *,
        description: str = "",
        license_info: str = "",
        runtimes: Sequence[str] = (),
        architectures: Sequence[str] = (),
    ) -> LayerVersion:
        """See AsyncLayerCalls.publish_layer."""
        sha256 = self._store(code)
        return self._make(calls.publish_layer(name, sha256, description, license_info, runtimes, architectures))

    def get_layer(self, layer: str | LayerRef) -> LayerVersion:
        """See AsyncLayerCalls.get_layer."""
        return self._make(calls.get_layer(layer))

    def list_layers(self, *, runtime: str = "", architecture: str = "") -> list[LayerVersion]:
        """See AsyncLayerCalls.list_layers."""
        return self._make(calls.list_layers(runtime, architecture))

    def list_layer_versions(self, name: str, *, runtime: str = "", architecture: str = "") -> list[LayerVersion]:
        """See AsyncLayerCalls.list_layer_versions."""
        return self._make(calls.list_layer_versions(name, runtime, architecture))

    def delete_layer(self, layer: str | LayerRef) -> None:
        """See AsyncLayerCalls.delete_layer."""
        self._make(calls.delete_layer(layer))
