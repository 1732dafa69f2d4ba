"""Layers: all of them in memory, each write through SQLite first, in turn with those of functions.

Source: docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html and the service model's patterns. Guarantees that a
layer version never changes, that no number comes twice, and that a function gets only versions that are there when it
is written; what it then has of them it keeps (engine.model.layer.LayerUse).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import apsw

from engine.errors import InvalidArgument, NotFound, StaleEtag, StoreUnusable
from engine.model.function import CodeBlob
from engine.model.layer import LAYERS_LIMIT, NAME, LayerRef, LayerUse, LayerVersion
from engine.registry import layer_rows
from engine.registry.api import CodeStore, LayerContent
from engine.registry.policies import with_statement, without_statement
from engine.registry.shelf import Shelf, page_of
from engine.registry.unzip import Limits
from engine.registry.validate import is_text, refuse_if

Policy = Mapping[str, Any]

ARCHITECTURES = ("x86_64", "arm64")
DESCRIPTION_LIMIT_CHARS, LICENSE_LIMIT_CHARS = 256, 512
RUNTIMES_LIMIT = 15
RUNTIME = re.compile(
    r"python\d\.\d+|nodejs(\d+\.(x|\d+)(-edge)?)?|java\d+(\.al2(023)?)?|ruby\d\.\d+|go1\.x|provided(\.al2(023)?)?"
    r"|dotnet(core)?\d+(\.\d+)?|custom"
)
"""The names that AWS gives its runtimes, those that are to come included."""
UNPACKED_LIMIT_BYTES = Limits().bytes
"""Of a function's code with its layers: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""


@dataclass(slots=True)
class _Kept:
    layer: LayerVersion
    policy: Policy | None = None


class LayerRegistry:
    """engine.registry.api.Layers. Make one with `open`."""

    def __init__(
        self, shelf: Shelf, code: CodeStore, versions: dict[str, dict[int, _Kept]], numbers: dict[str, int]
    ) -> None:
        self._shelf = shelf
        self._code = code
        self._versions = versions  # by name and number, in the order of numbers; no layer without a version
        self._numbers = numbers  # the last of each, also of what is deleted
        shelf.layer_bytes = sum(kept.layer.code_size_bytes for one in versions.values() for kept in one.values())

    @classmethod
    async def open(cls, shelf: Shelf, code: CodeStore) -> Self:
        """Load every layer. Raises StoreUnusable."""

        def read(connection: apsw.Connection) -> tuple[list[tuple[LayerVersion, Policy | None]], dict[str, int]]:
            return list(layer_rows.read(connection)), layer_rows.read_numbers(connection)

        try:
            found, numbers = await shelf.store(read)
        except ValueError as error:
            raise StoreUnusable(
                f"the registry holds a layer that cannot be read: {error}",
                fix="put back a copy of the data directory, or give an empty folder with --data-dir and deploy again",
            ) from error
        versions: dict[str, dict[int, _Kept]] = {}
        for layer, policy in found:
            versions.setdefault(layer.ref.name, {})[layer.ref.version] = _Kept(layer, policy)
        return cls(shelf, code, versions, numbers)

    async def publish(self, name: str, content: LayerContent) -> LayerVersion:
        """See engine.registry.api.Layers."""
        refuse_if(_wrong(name, content))

        async def write() -> LayerVersion:
            blob = self._code.get(content.code_sha256)
            layer = LayerVersion(
                ref=LayerRef(name, self._numbers.get(name, 0) + 1),
                code_sha256=blob.sha256,
                code_size_bytes=blob.size_bytes,
                unpacked_bytes=blob.unpacked_bytes,
                create_time=self._shelf.now(),
                description=content.description,
                license_info=content.license_info,
                runtimes=content.runtimes,
                architectures=content.architectures,
            )
            await self._shelf.store(lambda connection: layer_rows.add(connection, layer))
            self._numbers[name] = layer.ref.version
            self._versions.setdefault(name, {})[layer.ref.version] = _Kept(layer)
            self._shelf.layer_bytes += layer.code_size_bytes
            return layer

        return await self._shelf.write(write)

    def get(self, ref: LayerRef) -> LayerVersion:
        """See engine.registry.api.Layers."""
        return self._kept(ref).layer

    def list(
        self, *, limit: int, after: str = "", runtime: str = "", architecture: str = ""
    ) -> tuple[list[LayerVersion], str]:
        """See engine.registry.api.Layers. A `limit` below 1 counts as 1."""
        latest: dict[str, LayerVersion] = {}
        for name, versions in self._versions.items():
            for kept in reversed(versions.values()):
                if kept.layer.suits(runtime, architecture):
                    latest[name] = kept.layer
                    break
        page, after = page_of(sorted(latest), limit=limit, after=after)
        return [latest[name] for name in page], after

    def list_versions(
        self, name: str, *, limit: int, after: int = 0, runtime: str = "", architecture: str = ""
    ) -> tuple[Sequence[LayerVersion], int]:
        """See engine.registry.api.Layers. A `limit` below 1 counts as 1."""
        found = [
            kept.layer
            for number, kept in reversed(self._versions.get(name, {}).items())
            if (not after or number < after) and kept.layer.suits(runtime, architecture)
        ]
        page = found[: max(limit, 1)]
        return page, page[-1].ref.version if len(page) < len(found) else 0

    async def delete(self, ref: LayerRef) -> None:
        """See engine.registry.api.Layers."""

        async def write() -> None:
            versions = self._versions.get(ref.name, {})
            if ref.version not in versions:
                return
            await self._shelf.store(lambda connection: layer_rows.delete(connection, ref))
            self._shelf.layer_bytes -= versions.pop(ref.version).layer.code_size_bytes
            if not versions:
                del self._versions[ref.name]

        await self._shelf.write(write)

    def policy(self, ref: LayerRef) -> Policy:
        """See engine.registry.api.Layers."""
        policy = self._there(ref).policy
        if policy is None:
            raise _no_policy()
        return policy

    async def permit(self, ref: LayerRef, statement: Policy, *, revision: str = "") -> Policy:
        """See engine.registry.api.Layers."""

        async def write() -> Policy:
            kept = self._there(ref)
            _check_revision(revision, kept.policy)
            policy = with_statement(kept.policy, statement)
            await self._shelf.store(lambda connection: layer_rows.write_policy(connection, ref, policy))
            kept.policy = policy
            return policy

        return await self._shelf.write(write)

    async def forbid(self, ref: LayerRef, sid: str, *, revision: str = "") -> None:
        """See engine.registry.api.Layers."""

        async def write() -> None:
            kept = self._there(ref)
            if kept.policy is None:
                raise _no_policy()
            _check_revision(revision, kept.policy)
            policy = without_statement(kept.policy, sid)
            await self._shelf.store(lambda connection: layer_rows.write_policy(connection, ref, policy))
            kept.policy = policy

        await self._shelf.write(write)

    def used(self, refs: Sequence[LayerRef]) -> tuple[LayerUse, ...]:
        """What a function is to keep of these, which are all there. Raises InvalidArgument in AWS's words."""
        if len(refs) > LAYERS_LIMIT:
            raise _unusable(f"Cannot reference more than {LAYERS_LIMIT} layers.")
        seen: dict[str, LayerRef] = {}
        found = []
        for ref in refs:
            try:
                found.append(self.get(ref).use())
            except NotFound:
                raise _unusable(f"Layer version {ref.resource_name()} does not exist.") from None
            if other := seen.get(ref.name):
                raise _unusable(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. "
                    f"{other.resource_name()} and {ref.resource_name()} are versions of the same layer."
                )
            seen[ref.name] = ref
        return tuple(found)

    def referenced_code(self) -> set[str]:
        """The blobs that layer versions need."""
        return {kept.layer.code_sha256 for versions in self._versions.values() for kept in versions.values()}

    def _kept(self, ref: LayerRef) -> _Kept:
        kept = self._versions.get(ref.name, {}).get(ref.version)
        if kept is None:
            raise NotFound("The resource you requested does not exist.", fix="see what there is: `cleave layers list`")
        return kept

    def _there(self, ref: LayerRef) -> _Kept:
        """As _kept; AWS has other words where it is about a policy."""
        try:
            return self._kept(ref)
        except NotFound as error:
            raise NotFound(f"Layer version {ref.resource_name()} does not exist.", fix=error.fix) from None


def check_size(layers: Sequence[LayerUse], code: CodeBlob) -> None:
    """Raise InvalidArgument, in AWS's words, where code and layers are more than a function may have."""
    size = code.unpacked_bytes + sum(layer.unpacked_bytes for layer in layers)
    if layers and size > UNPACKED_LIMIT_BYTES:
        raise _unusable(
            "Function code combined with layers exceeds the maximum allowed size of "
            f"{UNPACKED_LIMIT_BYTES} bytes. The actual size is {size} bytes."
        )


def _unusable(what: str) -> InvalidArgument:
    return InvalidArgument(what, fix="see what there is: `cleave layers list`", fields={"config.layers": what})


def _no_policy() -> NotFound:
    return NotFound("No policy is associated with the given resource.")


def _check_revision(given: str, policy: Policy | None) -> None:
    if given and (policy is None or given != policy["RevisionId"]):
        raise StaleEtag(
            "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve "
            "the latest Revision Id"
        )


def _wrong(name: str, content: LayerContent) -> dict[str, str]:
    wrong: dict[str, str] = {}
    if not NAME.fullmatch(name):
        wrong["name"] = "must be letters, digits, - and _, at most 140"
    if not content.code_sha256:
        wrong["code_blob"] = "is required: upload the layer's zip first"
    for field, text, most in (
        ("description", content.description, DESCRIPTION_LIMIT_CHARS),
        ("license_info", content.license_info, LICENSE_LIMIT_CHARS),
    ):
        if len(text) > most:
            wrong[field] = f"has {len(text):,} characters: at most {most}"
        elif not is_text(text):
            wrong[field] = "must be Unicode text without null characters"
    if len(content.runtimes) > RUNTIMES_LIMIT:
        wrong["runtimes"] = f"names {len(content.runtimes)}: at most {RUNTIMES_LIMIT}"
    for runtime in content.runtimes:
        if not RUNTIME.fullmatch(runtime):
            wrong["runtimes"] = f"{runtime[:64]!a} is not a runtime, such as python3.12"
    for architecture in content.architectures:
        if architecture not in ARCHITECTURES:
            wrong["architectures"] = f"{architecture[:64]!a} is not one of {', '.join(ARCHITECTURES)}"
    return wrong
