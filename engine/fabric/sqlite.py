"""A SQLite database that one thread owns: every access is a function run there in a transaction of its own.

What the tables mean is left to the rooms. Guarantees: what `run` returned is durable (WAL, synchronous=FULL); a
function that raises has changed nothing; a migration happens with its version or not at all; a database that a later
release wrote, that is damaged or that is somebody else's is refused and left as it is.

A cancelled `run` may still commit: whoever keeps a copy in memory shields it (engine.registry.functions does).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import apsw

from engine.errors import CodeStorageExceeded, StoreUnusable, Unavailable
from engine.fabric.files import PRIVATE_FILE

T = TypeVar("T")

Migration = str | Callable[[apsw.Connection], None]
"""A script or a function that takes the database from one version to the next; neither begins or ends a transaction."""

APPLICATION_ID = 0x636C7665
"""PRAGMA application_id, "clve": tells our databases from all others."""

_NO_ROOM_BYTES = 65_536
"""A file system with less free than SQLite's shared memory and one write take counts as full."""


class Sqlite:
    """One database and the thread that owns it. Make one with `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{path.stem}")
        self._connection: apsw.Connection | None = None

    @classmethod
    async def open(cls, path: Path, migrations: Sequence[Migration], *, busy_timeout_ms: int = 5_000) -> Self:
        """Open or create the database and bring it to version len(migrations). Raises StoreUnusable,
        CodeStorageExceeded when the disk is full."""
        store = cls(path)
        try:
            await store._in_thread(lambda: store._connect(migrations, busy_timeout_ms))
        except BaseException:
            await store.close()
            raise
        return store

    async def run(self, fn: Callable[[apsw.Connection], T]) -> T:
        """Run `fn` with the connection in one transaction; it is durable when this returns and undone if `fn` raises.

        Errors of the disk are raised as StoreUnusable or CodeStorageExceeded, a foreign lock as Unavailable.
        """
        return await self._in_thread(lambda: _in_transaction(self._owned(), fn))

    async def close(self) -> None:
        """Finish what runs and close the database. Closing twice is fine."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._disconnect)
        except RuntimeError:  # shut down before
            return
        self._thread.shutdown()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError as error:
            raise Unavailable(f"{self.path.name} is closed", fix="start the engine again") from error
        try:
            return await future
        except apsw.Error as error:
            raise self._translated(error) from error

    def _owned(self) -> apsw.Connection:
        if self._connection is None:
            raise Unavailable(f"{self.path.name} is closed", fix="start the engine again")
        return self._connection

    def _connect(self, migrations: Sequence[Migration], busy_timeout_ms: int) -> None:
        if not self.path.exists():
            self.path.touch(PRIVATE_FILE)
        connection = self._connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(busy_timeout_ms)
        self._check(connection, len(migrations))
        if connection.pragma("journal_mode", "wal") != "wal":
            raise StoreUnusable(
                f"{self.path} is on a file system without shared memory", fix="put the data directory on a local disk"
            )
        connection.pragma("synchronous", "full")
        self._migrate(connection, migrations)
        connection.pragma("foreign_keys", True)

    def _check(self, connection: apsw.Connection, known: int) -> None:
        version, owner = connection.pragma("user_version"), connection.pragma("application_id")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
        if owner != APPLICATION_ID and (version or tables):
            raise StoreUnusable(f"{self.path} is not a database of Cleave", fix="give another folder with --data-dir")
        if version > known:
            raise StoreUnusable(
                f"{self.path} was written by a later release: its schema is {version}, this one knows up to {known}",
                fix="start the release that wrote it, or give another folder with --data-dir",
            )
        found = connection.execute("PRAGMA quick_check(1)").get
        if found != "ok":
            raise self._damaged(str(found))

    def _migrate(self, connection: apsw.Connection, migrations: Sequence[Migration]) -> None:
        # Off while tables are rebuilt, checked before each commit: https://sqlite.org/lang_altertable.html#otheralter
        connection.pragma("foreign_keys", False)
        for version in range(connection.pragma("user_version") + 1, len(migrations) + 1):
            try:
                _in_transaction(connection, partial(_step, migration=migrations[version - 1], version=version))
            except apsw.FullError:
                raise
            except Exception as error:
                raise StoreUnusable(
                    f"{self.path} could not be brought to schema {version}: {error}",
                    fix="start the release that you ran before, the store is as it left it; and report this",
                ) from error

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _damaged(self, how: str) -> StoreUnusable:
        return StoreUnusable(
            f"{self.path} is damaged: {how}",
            fix="put back a copy of the data directory, or give an empty folder with --data-dir and deploy again",
        )

    def _translated(self, error: apsw.Error) -> Exception:
        """The engine's error for what the disk or another program did; anything else is a bug and stays as it is."""
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)):
            return self._damaged(str(error))
        full = isinstance(error, apsw.FullError)
        if isinstance(error, (apsw.IOError, apsw.CantOpenError)):
            full = shutil.disk_usage(self.path.parent).free < _NO_ROOM_BYTES
        if full:
            return CodeStorageExceeded(
                "the disk of the engine's data directory is full",
                fix="free space there, then try again",
                metadata={"store": self.path.name},
            )
        if isinstance(error, (apsw.BusyError, apsw.LockedError)):
            return Unavailable(f"{self.path} is locked by another program", fix="close what has it open, try again")
        if isinstance(error, (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError)):
            return StoreUnusable(
                f"{self.path} cannot be read or written: {error}",
                fix="check the disk and the permissions of the data directory",
            )
        return error


def _in_transaction(connection: apsw.Connection, fn: Callable[[apsw.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = fn(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors of SQLite have rolled back already
            connection.execute("ROLLBACK")
        raise
    return result


def _step(connection: apsw.Connection, migration: Migration, version: int) -> None:
    if callable(migration):
        migration(connection)
    else:
        connection.execute(migration)
    broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    if broken is not None:
        raise ValueError(f"table {broken[0]} refers to rows that are not there")
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", version)
