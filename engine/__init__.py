"""Cleave: a sandboxed function execution engine. The rooms and who may import whom: docs/architecture.md."""

__version__ = "0.1.0"
