"""Which operation a request is for: every operation of the service model of AWS Lambda, by method and path.

Parsing what a request carries is engine.rest.shapes' work. Guarantees that every operation of the model has a route,
that a literal part of a path wins over a label, and that an operation told apart by its query (`?List=ALL`) wins over
one without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from engine.errors import InvalidArgument
from engine.rest.errors import MethodNotAllowed, UnknownOperation
from engine.rest.model import Model, Operation


@dataclass(frozen=True, slots=True)
class Route:
    """One operation's place: the parts of its path, of which `{…}` are labels."""

    operation: Operation
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.operation.name


@dataclass(frozen=True, slots=True)
class Match:
    """The operation of a request, and the labels of its path, decoded."""

    route: Route
    labels: dict[str, str]


@dataclass(slots=True)
class _Node:
    """A place in the tree of paths."""

    literals: dict[str, _Node] = field(default_factory=dict)
    label: _Node | None = None
    routes: list[Route] = field(default_factory=list)

    def add(self, parts: tuple[str, ...], route: Route) -> None:
        if not parts:
            self.routes.append(route)
            # An operation with more of a query to tell it apart is asked first.
            self.routes.sort(key=lambda one: -len(one.operation.query))
        elif _is_label(parts[0]):
            self.label = self.label or _Node()
            self.label.add(parts[1:], route)
        else:
            self.literals.setdefault(parts[0], _Node()).add(parts[1:], route)

    def find(self, parts: list[str]) -> Iterator[list[Route]]:
        if not parts:
            if self.routes:
                yield self.routes
            return
        if parts[0] in self.literals:
            yield from self.literals[parts[0]].find(parts[1:])
        if self.label is not None and parts[0]:
            yield from self.label.find(parts[1:])


class Routes:
    """All routes of the API."""

    def __init__(self, model: Model) -> None:
        self.all = [_route(operation) for operation in model.operations.values()]
        self._root = _Node()
        for route in self.all:
            self._root.add(route.parts, route)

    def match(self, method: str, path: str, query: tuple[tuple[str, str], ...]) -> Match:
        """The operation for a request; `path` is percent-encoded. Raises UnknownOperation, MethodNotAllowed, and
        InvalidArgument for a label that is not UTF-8."""
        parts = _parts(path)
        allowed: set[str] = set()
        for routes in self._root.find(parts):
            for route in routes:
                operation = route.operation
                if not set(operation.query) <= set(query):
                    continue
                if operation.method == method:
                    return Match(route, _labels(route, parts))
                allowed.add(operation.method)
        if allowed:
            raise MethodNotAllowed(f"No operation has the path {path} with {method}", allowed=tuple(sorted(allowed)))
        raise UnknownOperation(
            f"No operation has the path {path[:200]}", fix="this endpoint serves the AWS Lambda API of 2015-03-31"
        )


def _route(operation: Operation) -> Route:
    if "+}" in operation.path:
        raise ValueError(f"{operation.name}: greedy labels are not routed: {operation.path}")
    return Route(operation, tuple(_parts(operation.path)))


def _parts(path: str) -> list[str]:
    # Models of older clients end some paths with a slash.
    return path.removesuffix("/").split("/")[1:]


def _is_label(part: str) -> bool:
    return part.startswith("{") and part.endswith("}")


def _labels(route: Route, parts: list[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for template, sent in zip(route.parts, parts, strict=True):
        if _is_label(template):
            name = template[1:-1]
            try:
                labels[name] = unquote(sent, errors="strict")
            except UnicodeDecodeError:
                raise InvalidArgument(
                    f"{name} in the path is not UTF-8", fix="percent-encode it as UTF-8", fields={name: "is not UTF-8"}
                ) from None
    return labels
