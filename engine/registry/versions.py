"""Versions: immutable snapshots of a function's code and settings, numbered from 1.

Source: docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html. Guarantees that no number is given twice, also
after a version or its function was deleted.
"""

from __future__ import annotations

from dataclasses import replace

import apsw

from engine.errors import InUse, InvalidArgument, NotFound
from engine.model.function import LATEST, Function
from engine.registry import more_rows, rows, validate
from engine.registry.api import Changed
from engine.registry.shelf import Entry, Published, Shelf, check_etag


class VersionRegistry:
    """engine.registry.api.Versions."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def publish(
        self,
        name: str,
        *,
        description: str | None = None,
        code_sha256: str | None = None,
        etag: str | None = None,
    ) -> Function:
        """See engine.registry.api.Versions. An empty description counts as none."""

        async def write() -> Function:
            shelf = self._shelf
            entry = shelf.entry(name)
            latest = entry.function
            check_etag(latest.etag, etag, name, f"cleave get {name}")
            if code_sha256 and code_sha256 != latest.code_sha256:
                raise InvalidArgument(
                    f"the code of {name} is not {code_sha256}: it is {latest.code_sha256}",
                    fix="look at what changed, then publish with the SHA-256 that $LATEST has",
                    fields={"code_sha256": "is not that of $LATEST"},
                )
            last = _unchanged(entry)
            if last is not None:
                return last
            config = latest.config if not description else replace(latest.config, description=description)
            validate.refuse_if(validate.wrong_fields(config))
            number = entry.last_version + 1
            now = shelf.now()
            version = replace(
                latest,
                config=config,
                version=str(number),
                etag=shelf.etag(),
                create_time=now,
                update_time=now,
            )

            def add(connection: apsw.Connection) -> None:
                more_rows.write_last_version(connection, name, number)
                rows.add_version(connection, version, latest.config.description)

            await shelf.store(add)
            entry.last_version = number
            entry.versions[version.version] = Published(version, latest.config.description)
            shelf.tell(name, Changed.VERSION, version.version)
            return version

        return self._shelf.as_it_is(await self._shelf.write(write))

    def list(self, name: str, *, limit: int, after: str = "") -> tuple[list[Function], str]:
        """See engine.registry.api.Versions. A `limit` below 1 counts as 1; an `after` that is no number as 0."""
        start = int(after) if after.isascii() and after.isdigit() else 0
        rest = [published.function for published in self._shelf.entry(name).versions.values()]
        rest = [version for version in rest if int(version.version) > start]
        page = rest[: max(limit, 1)]
        more = page[-1].version if len(page) < len(rest) else ""
        return [self._shelf.as_it_is(version) for version in page], more

    async def delete(self, name: str, version: str) -> None:
        """See engine.registry.api.Versions."""

        def remove(connection: apsw.Connection) -> None:
            rows.delete_version(connection, name, version)
            more_rows.delete_provisioned(connection, name, version)

        async def write() -> None:
            shelf = self._shelf
            entry = shelf.entry(name)
            if version == LATEST:
                raise InvalidArgument(
                    "$LATEST version cannot be deleted without deleting the function.",
                    fix=f"delete the function with `cleave delete {name}`, or name a version by its number",
                    fields={"name": "must be a number"},
                )
            if version not in entry.versions:
                raise NotFound(
                    f"Function not found: {name}:{version}", fix=f"see what there is with `cleave versions list {name}`"
                )
            pointing = [alias.name for alias in entry.aliases.values() if version in alias.versions]
            if pointing:
                raise InUse(
                    f"Unable to delete version because the following aliases reference it: [{', '.join(pointing)}]",
                    fix="point them at another version first, or delete them",
                )
            await shelf.store(remove)
            del entry.versions[version]
            had = entry.provisioned.pop(version, None)
            if had is not None:
                shelf.tell(name, Changed.PROVISIONED, version, gone=True)
            shelf.tell(name, Changed.VERSION, version, gone=True)

        await self._shelf.write(write)


def _unchanged(entry: Entry) -> Function | None:
    """The last version, if nobody has written $LATEST since it was published from it. As on AWS, the same code written
    again is a change."""
    published = entry.versions.get(str(entry.last_version))
    if published is None:
        return None
    latest, version = entry.function, published.function
    was = replace(version.config, description=published.latest_description)
    same = latest.config == was and latest.code_sha256 == version.code_sha256
    return version if same and latest.update_time <= version.create_time else None
