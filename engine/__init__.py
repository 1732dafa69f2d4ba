"""Cleave: a sandboxed function execution engine. The rooms and who may import whom: docs/architecture.md.

    Client, AsyncClient     an engine over gRPC
    Engine                  an engine in this process
    FunctionFailed          a function's own failure; EngineError is what an engine refuses or fails at

Importing this package imports nothing else; each name is loaded when it is first used. Their types are in __init__.pyi.
"""

from __future__ import annotations

__version__ = "0.1.0"

_PLACES = {
    "AsyncClient": "engine.client.aio",
    "Client": "engine.client.sync",
    "CognitoIdentity": "engine.model.invocation",
    "Engine": "engine.embedded",
    "EngineError": "engine.errors",
    "FunctionFailed": "engine.client.results",
    "Result": "engine.client.results",
    "TimedOut": "engine.client.results",
}


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(place), name)
    return value
