"""The database on one thread: transactions, migrations, and what is refused."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path

import apsw
import pytest

from engine.errors import StoreUnusable, Unavailable
from engine.fabric.sqlite import APPLICATION_ID, Migration, Sqlite

ONE = "CREATE TABLE notes (text TEXT NOT NULL) STRICT;"
TWO = "ALTER TABLE notes ADD COLUMN stars INTEGER NOT NULL DEFAULT 0; CREATE INDEX by_stars ON notes (stars);"


async def add(store: Sqlite, text: str) -> None:
    await store.run(lambda c: c.execute("INSERT INTO notes (text) VALUES (?)", (text,)).fetchall())


async def texts(store: Sqlite) -> list[str]:
    return await store.run(lambda c: [row[0] for row in c.execute("SELECT text FROM notes ORDER BY rowid")])


async def with_notes(path: Path, *migrations: Migration) -> Path:
    store = await Sqlite.open(path, migrations or (ONE,))
    await add(store, "first")
    await store.close()
    return path


async def test_what_was_written_is_there_after_reopening_and_the_file_is_the_engines_alone(tmp_path: Path) -> None:
    path = await with_notes(tmp_path / "notes.db")
    store = await Sqlite.open(path, (ONE,))
    assert await texts(store) == ["first"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    await store.close()


async def test_writes_are_flushed_to_the_disk_before_they_return(tmp_path: Path) -> None:
    store = await Sqlite.open(tmp_path / "notes.db", (ONE,))
    pragmas = await store.run(lambda c: (c.pragma("journal_mode"), c.pragma("synchronous"), c.pragma("foreign_keys")))
    assert pragmas == ("wal", 2, 1)
    await store.close()


async def test_a_function_that_raises_has_changed_nothing(tmp_path: Path) -> None:
    store = await Sqlite.open(tmp_path / "notes.db", (ONE,))

    def fail(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('half')")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await store.run(fail)
    assert await texts(store) == []
    await store.close()


async def test_all_access_is_on_one_thread_that_is_not_the_callers_and_in_order(tmp_path: Path) -> None:
    store = await Sqlite.open(tmp_path / "notes.db", (ONE,))
    threads = await asyncio.gather(*(store.run(lambda _: threading.get_ident()) for _ in range(5)))
    assert len({*threads, threading.get_ident()}) == 2
    await asyncio.gather(*(add(store, str(n)) for n in range(20)))
    assert await texts(store) == [str(n) for n in range(20)]
    await store.close()


async def test_a_closed_store_says_so_and_closes_twice(tmp_path: Path) -> None:
    store = await Sqlite.open(tmp_path / "notes.db", (ONE,))
    await store.close()
    await store.close()
    with pytest.raises(Unavailable, match="closed"):
        await texts(store)


async def test_later_migrations_are_applied_in_order_and_once(tmp_path: Path) -> None:
    path = await with_notes(tmp_path / "notes.db")
    runs = []

    def three(connection: apsw.Connection) -> None:
        runs.append(3)
        connection.execute("UPDATE notes SET stars = 5")

    for _ in range(2):
        store = await Sqlite.open(path, (ONE, TWO, three))
        found = await store.run(lambda c: (c.pragma("user_version"), c.execute("SELECT * FROM notes").fetchall()))
        assert found == (3, [("first", 5)])
        await store.close()
    assert runs == [3]


async def test_a_migration_that_fails_half_way_leaves_the_former_version_whole(tmp_path: Path) -> None:
    path = await with_notes(tmp_path / "notes.db")
    with pytest.raises(StoreUnusable, match="schema 3") as caught:
        await Sqlite.open(path, (ONE, TWO, "DELETE FROM notes; CREATE TABLE half (x); SELECT * FROM nowhere"))
    assert "release that you ran before" in caught.value.fix
    store = await Sqlite.open(path, (ONE, TWO))
    tables = await store.run(lambda c: [row[0] for row in c.execute("SELECT name FROM sqlite_schema ORDER BY name")])
    assert (await texts(store), tables) == (["first"], ["by_stars", "notes"])
    await store.close()


async def test_a_migration_and_its_version_are_one_commit(tmp_path: Path) -> None:
    path = await with_notes(tmp_path / "notes.db")
    commits: list[int] = []

    def two(connection: apsw.Connection) -> None:
        connection.set_commit_hook(lambda: bool(commits.append(1)))  # type: ignore[func-returns-value]
        connection.execute("DELETE FROM notes")

    store = await Sqlite.open(path, (ONE, two))
    assert len(commits) == 1
    await store.close()


async def test_a_migration_may_rebuild_a_table_that_others_refer_to_but_not_break_the_references(
    tmp_path: Path,
) -> None:
    start = "CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (a INTEGER NOT NULL REFERENCES a (id));"
    start += "INSERT INTO a VALUES (1); INSERT INTO b VALUES (1);"
    rebuild = "CREATE TABLE c (id INTEGER PRIMARY KEY, x); INSERT INTO c (id) SELECT id FROM a; DROP TABLE a;"
    rebuild += "ALTER TABLE c RENAME TO a;"
    path = tmp_path / "refs.db"
    await (await Sqlite.open(path, (start,))).close()
    with pytest.raises(StoreUnusable, match="table b refers to rows"):
        await Sqlite.open(path, (start, "DELETE FROM a"))
    store = await Sqlite.open(path, (start, rebuild))
    with pytest.raises(apsw.ConstraintError):
        await store.run(lambda c: c.execute("DELETE FROM a").fetchall())
    await store.close()


async def test_a_later_releases_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = await with_notes(tmp_path / "notes.db", ONE, TWO)
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match=r"later release.*schema is 2.*up to 1") as caught:
        await Sqlite.open(path, (ONE,))
    assert "release that wrote it" in caught.value.fix
    assert path.read_bytes() == before


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE bookmarks (url)")
    other.close()
    with pytest.raises(StoreUnusable, match="not a database of Cleave"):
        await Sqlite.open(path, (ONE,))


@pytest.mark.parametrize(
    "damage", [b"not a database, whatever its name says" * 200, b"SQLite format 3\0" + b"\xff" * 9_000]
)
async def test_what_is_no_database_is_refused(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "notes.db").write_bytes(damage)
    with pytest.raises(StoreUnusable, match=r"notes\.db") as caught:
        await Sqlite.open(tmp_path / "notes.db", (ONE,))
    assert caught.value.fix


async def test_a_database_with_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    store = await Sqlite.open(path, (ONE,))
    for number in range(300):
        await store.run(lambda c, n=number: c.execute("INSERT INTO notes VALUES (?)", ("x" * 100 + str(n),)).fetchall())  # type: ignore[misc]
    await store.close()
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096))
    with pytest.raises(StoreUnusable, match="damaged"):
        await Sqlite.open(path, (ONE,))


async def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").mkdir()
    with pytest.raises(StoreUnusable, match="cannot be read or written"):
        await Sqlite.open(tmp_path / "notes.db", (ONE,))


async def test_a_foreign_lock_is_waited_for_and_then_named(tmp_path: Path) -> None:
    store = await Sqlite.open(tmp_path / "notes.db", (ONE,), busy_timeout_ms=20)
    other = apsw.Connection(str(tmp_path / "notes.db"))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked by another program"):
        await add(store, "later")
    other.execute("ROLLBACK")
    other.close()
    await add(store, "later")
    assert await texts(store) == ["later"]
    await store.close()


async def test_our_databases_carry_our_mark(tmp_path: Path) -> None:
    store = await Sqlite.open(tmp_path / "notes.db", (ONE,))
    assert await store.run(lambda c: c.pragma("application_id")) == APPLICATION_ID
    await store.close()
