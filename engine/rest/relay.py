"""The way of plain requests between a worker and the engine, past ASGI: what of engine.rest._relay others use."""

from __future__ import annotations

from engine.rest._relay import Far, Near

__all__ = ["Far", "Near"]
