"""Frozen data that every room speaks in. Imports nothing of the engine but engine.errors."""
