"""Aliases: names for versions, with up to two versions that share the invocations.

Which version an invocation runs is engine.model.alias' to say. Source: docs.aws.amazon.com/lambda/latest/dg/
configuration-aliases.html and configuring-alias-routing.html. Guarantees that an alias points at versions that exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from engine.errors import AlreadyExists, InUse, InvalidArgument, NotFound
from engine.model.alias import Alias
from engine.model.function import LATEST
from engine.registry import more_rows
from engine.registry.api import AliasChange, Changed
from engine.registry.shelf import Entry, Shelf, check_etag, page_of
from engine.registry.validate import DESCRIPTION_LIMIT_CHARS, is_text, refuse_if

ALIAS_NAME = re.compile(r"(?!^[0-9]+$)[A-Za-z0-9_-]{1,128}")
OTHER_VERSIONS = 1
"""An alias points to one version, or to two."""


class AliasRegistry:
    """engine.registry.api.Aliases."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def create(self, function_name: str, name: str, change: AliasChange) -> Alias:
        """See engine.registry.api.Aliases."""

        async def write() -> Alias:
            shelf = self._shelf
            entry = shelf.entry(function_name)
            if not ALIAS_NAME.fullmatch(name):
                raise InvalidArgument(
                    f"{name!a} cannot be an alias",
                    fix="use letters, digits, - and _, at most 128, and not digits alone",
                    fields={"alias_id": "must be letters, digits, - and _, and no number"},
                )
            if name in entry.aliases:
                raise AlreadyExists(
                    f"Alias already exists: {function_name}:{name}",
                    fix=f"change it with `cleave aliases update {function_name} {name}`",
                )
            now = shelf.now()
            blank = Alias(function_name, name, "", shelf.etag(), now, now)
            alias = _merged(blank, change)
            _check(entry, alias)
            await self._put(entry, alias)
            return alias

        return await self._shelf.write(write)

    def get(self, function_name: str, name: str) -> Alias:
        """See engine.registry.api.Aliases."""
        return _alias(self._shelf.entry(function_name), name)

    def list(self, function_name: str, *, limit: int, after: str = "", version: str = "") -> tuple[list[Alias], str]:
        """See engine.registry.api.Aliases. A `limit` below 1 counts as 1."""
        aliases = self._shelf.entry(function_name).aliases
        names = sorted(name for name, alias in aliases.items() if not version or version in alias.versions)
        page, after = page_of(names, limit=limit, after=after)
        return [aliases[name] for name in page], after

    async def update(self, function_name: str, name: str, change: AliasChange, *, etag: str | None = None) -> Alias:
        """See engine.registry.api.Aliases."""

        async def write() -> Alias:
            shelf = self._shelf
            entry = shelf.entry(function_name)
            current = _alias(entry, name)
            check_etag(current.etag, etag, f"{function_name}:{name}", f"cleave aliases list {function_name}")
            alias = replace(_merged(current, change), etag=shelf.etag(), update_time=shelf.now())
            _check(entry, alias)
            if name in entry.provisioned:
                check_provisionable(entry, alias.version, name)
            await self._put(entry, alias)
            return alias

        return await self._shelf.write(write)

    async def delete(self, function_name: str, name: str, *, etag: str | None = None) -> None:
        """See engine.registry.api.Aliases."""

        async def write() -> None:
            shelf = self._shelf
            entry = shelf.entry(function_name)
            current = _alias(entry, name)
            check_etag(current.etag, etag, f"{function_name}:{name}", f"cleave aliases list {function_name}")
            await shelf.store(lambda connection: more_rows.delete_alias(connection, function_name, name))
            del entry.aliases[name]
            if entry.provisioned.pop(name, None) is not None:
                shelf.tell(function_name, Changed.PROVISIONED, name, gone=True)
            shelf.tell(function_name, Changed.ALIAS, name, gone=True)

        await self._shelf.write(write)

    async def _put(self, entry: Entry, alias: Alias) -> None:
        await self._shelf.store(lambda connection: more_rows.write_alias(connection, alias))
        entry.aliases[alias.name] = alias
        self._shelf.tell(alias.function_name, Changed.ALIAS, alias.name)


def check_provisionable(entry: Entry, version: str, alias: str = "") -> None:
    """Raise where a version cannot have provisioned concurrency of its own, or by way of `alias`: $LATEST, and one that
    has it the other way."""
    if version == LATEST:
        why = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
        raise InvalidArgument(why, fix="publish a version, and name it or an alias of it", fields={"name": why})
    if alias and version in entry.provisioned:
        raise InUse(
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
            fix=f"delete the configuration of version {version} first",
        )
    holders = [name for name in entry.provisioned if name in entry.aliases and entry.aliases[name].version == version]
    if not alias and holders:
        raise InUse(
            "Version is pointed by a Provisioned Concurrency alias",
            fix=f"delete the configuration of alias {holders[0]} first",
        )


def _alias(entry: Entry, name: str) -> Alias:
    alias = entry.aliases.get(name)
    if alias is None:
        function_name = entry.function.name
        raise NotFound(
            f"Cannot find alias: {function_name}:{name}",
            fix=f"see what there is with `cleave aliases list {function_name}`",
        )
    return alias


def _merged(alias: Alias, change: AliasChange) -> Alias:
    return replace(
        alias,
        version=alias.version if change.version is None else change.version,
        weights=alias.weights if change.weights is None else tuple(sorted(change.weights.items())),
        description=alias.description if change.description is None else change.description,
    )


def _check(entry: Entry, alias: Alias) -> None:
    """Raise for what an alias cannot be, with everything that is wrong."""
    wrong = {}
    if not alias.version:
        wrong["version"] = "is required: a number, or $LATEST"
    if len(alias.description) > DESCRIPTION_LIMIT_CHARS or not is_text(alias.description):
        wrong["description"] = f"must be text of at most {DESCRIPTION_LIMIT_CHARS} characters"
    refuse_if(wrong | _wrong_weights(alias))
    for version in alias.versions:
        if version != LATEST and version not in entry.versions:
            raise NotFound(
                f"Function not found: {alias.function_name}:{version}",
                fix=f"publish it, or see what there is with `cleave versions list {alias.function_name}`",
            )


def _wrong_weights(alias: Alias) -> dict[str, str]:
    rules: tuple[tuple[Callable[[], bool], str], ...] = (
        (
            lambda: len(alias.weights) > OTHER_VERSIONS,
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ),
        (
            lambda: any(not 0.0 <= weight <= 1.0 for _, weight in alias.weights),
            "must have shares of 0 to 1",
        ),
        (
            lambda: LATEST in alias.versions,
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ),
        (
            lambda: alias.version in dict(alias.weights),
            f"Invalid function version {alias.version}. Function version {alias.version} is already included in "
            "routing configuration.",
        ),
    )
    if alias.weights:
        for broken, what in rules:
            if broken():
                return {"weights": what}
    return {}
