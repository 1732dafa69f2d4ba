"""snapshot_restore_py as AWS's Python runtimes have it: where functions register hooks for snapshots.

Made when a function first imports it, after all else was looked through: a copy in its code or a layer goes before
this one. Hooks are kept here; who takes a snapshot runs those before it last to first, and those after a restore in
their order. Source: docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    Hook = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

NAME = "snapshot_restore_py"


def arm() -> None:
    """Have the import system find the module, last of all."""
    sys.meta_path.append(Finder())


class Finder:
    """A meta-path finder for the one module, and its loader."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """A spec for the one name; None for all others."""
        if name != NAME:
            return None
        from _frozen_importlib import ModuleSpec

        return ModuleSpec(name, self, origin="built-in")  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Give it its functions."""
        module.__doc__ = "Hooks for AWS Lambda SnapStart."
        before: list[Hook] = []
        after: list[Hook] = []

        def register_before_snapshot(func: Any, *args: Any, **kwargs: Any) -> Any:
            """Call `func` with these arguments before a snapshot is taken; also a decorator. Returns `func`."""
            before.append((func, args, kwargs))
            return func

        def register_after_restore(func: Any, *args: Any, **kwargs: Any) -> Any:
            """Call `func` with these arguments after a restore; also a decorator. Returns `func`."""
            after.append((func, args, kwargs))
            return func

        def get_before_snapshot() -> list[Hook]:
            """The hooks in the order of their registration."""
            return before

        def get_after_restore() -> list[Hook]:
            """The hooks in the order of their registration."""
            return after

        for made in (register_before_snapshot, register_after_restore, get_before_snapshot, get_after_restore):
            made.__module__, made.__qualname__ = module.__name__, made.__name__
            setattr(module, made.__name__, made)
