"""The calls about layers, each as one value: see engine.client.resource_calls."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine.client.resource_calls import Call
from engine.client.results import layer_of
from engine.model.layer import LayerRef, LayerVersion
from engine.registry.api import LayerContent, Registry


def publish_layer(
    name: str,
    sha256: str,
    description: str,
    license_info: str,
    runtimes: Sequence[str],
    architectures: Sequence[str],
) -> Call[LayerVersion]:
    """See AsyncLayerCalls."""
    content = LayerContent(sha256, description, license_info, tuple(runtimes), tuple(architectures))

    async def local(registry: Registry) -> LayerVersion:
        return await registry.layers.publish(name, content)

    resource = {
        "code_blob": f"blobs/{sha256}",
        "description": description,
        "license_info": license_info,
        "compatible_runtimes": content.runtimes,
        "compatible_architectures": content.architectures,
    }
    return Call("PublishLayerVersion", {"parent": f"layers/{name}", "layer_version": resource}, local)


def get_layer(layer: str | LayerRef) -> Call[LayerVersion]:
    """See AsyncLayerCalls."""
    ref = layer_of(layer)

    async def local(registry: Registry) -> LayerVersion:
        return registry.layers.get(ref)

    return Call("GetLayerVersion", {"name": ref.resource_name()}, local)


def list_layers(runtime: str, architecture: str) -> Call[list[LayerVersion]]:
    """See AsyncLayerCalls."""

    async def local(registry: Registry) -> list[LayerVersion]:
        return registry.layers.list(limit=sys.maxsize, runtime=runtime, architecture=architecture)[0]

    return Call("ListLayers", {"compatible_runtime": runtime, "compatible_architecture": architecture}, local)


def list_layer_versions(name: str, runtime: str, architecture: str) -> Call[list[LayerVersion]]:
    """See AsyncLayerCalls."""

    async def local(registry: Registry) -> list[LayerVersion]:
        found, _ = registry.layers.list_versions(name, limit=sys.maxsize, runtime=runtime, architecture=architecture)
        return list(found)

    fields = {"parent": f"layers/{name}", "compatible_runtime": runtime, "compatible_architecture": architecture}
    return Call("ListLayerVersions", fields, local)


def delete_layer(layer: str | LayerRef) -> Call[None]:
    """See AsyncLayerCalls."""
    ref = layer_of(layer)

    async def local(registry: Registry) -> None:
        await registry.layers.delete(ref)

    return Call("DeleteLayerVersion", {"name": ref.resource_name()}, local)
