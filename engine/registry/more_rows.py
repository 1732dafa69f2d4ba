"""What belongs to a function beside its versions, as rows: the last number given to a version, aliases, reserved and
provisioned concurrency. Guarantees that what was written reads back equal."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import orjson

from engine.model.alias import Alias
from engine.model.concurrency import ProvisionedConfig
from engine.registry.rows import microseconds, moment

_ALIAS = "function, name, version, weights, description, etag, create_time_us, update_time_us"


def write_last_version(connection: apsw.Connection, function_name: str, last: int) -> None:
    """Remember the number of the version that was published last."""
    connection.execute("INSERT OR REPLACE INTO version_numbers (function, last) VALUES (?, ?)", (function_name, last))


def read_last_versions(connection: apsw.Connection) -> dict[str, int]:
    """The last number, by function."""
    return dict(connection.execute("SELECT function, last FROM version_numbers"))


def write_alias(connection: apsw.Connection, alias: Alias) -> None:
    """Insert or replace an alias."""
    connection.execute(
        f"INSERT OR REPLACE INTO aliases ({_ALIAS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            alias.function_name,
            alias.name,
            alias.version,
            orjson.dumps(alias.weights).decode(),
            alias.description,
            alias.etag,
            microseconds(alias.create_time),
            microseconds(alias.update_time),
        ),
    )


def delete_alias(connection: apsw.Connection, function_name: str, name: str) -> None:
    """Remove an alias, and the provisioned concurrency that it has."""
    connection.execute("DELETE FROM aliases WHERE function = ? AND name = ?", (function_name, name))
    delete_provisioned(connection, function_name, name)


def read_aliases(connection: apsw.Connection) -> Iterator[Alias]:
    """Every alias, by function and name. Raises ValueError for a row that no release has written."""
    for name, alias, version, weights, description, etag, create_time_us, update_time_us in connection.execute(
        f"SELECT {_ALIAS} FROM aliases ORDER BY function, name"
    ):
        yield Alias(
            function_name=name,
            name=alias,
            version=version,
            etag=etag,
            create_time=moment(create_time_us),
            update_time=moment(update_time_us),
            description=description,
            weights=tuple((str(version), float(weight)) for version, weight in orjson.loads(weights)),
        )


def write_reserved(connection: apsw.Connection, function_name: str, executions: int | None) -> None:
    """Set the reserved concurrency of a function; None removes it."""
    if executions is None:
        connection.execute("DELETE FROM reserved_concurrency WHERE function = ?", (function_name,))
    else:
        connection.execute(
            "INSERT OR REPLACE INTO reserved_concurrency (function, executions) VALUES (?, ?)",
            (function_name, executions),
        )


def read_reserved(connection: apsw.Connection) -> dict[str, int]:
    """Reserved concurrency, by function."""
    return dict(connection.execute("SELECT function, executions FROM reserved_concurrency"))


def write_provisioned(connection: apsw.Connection, config: ProvisionedConfig) -> None:
    """Insert or replace a configuration."""
    connection.execute(
        "INSERT OR REPLACE INTO provisioned_concurrency (function, qualifier, requested, update_time_us)"
        " VALUES (?, ?, ?, ?)",
        (config.function_name, config.qualifier, config.requested, microseconds(config.update_time)),
    )


def delete_provisioned(connection: apsw.Connection, function_name: str, qualifier: str) -> None:
    """Remove a configuration."""
    connection.execute(
        "DELETE FROM provisioned_concurrency WHERE function = ? AND qualifier = ?", (function_name, qualifier)
    )


def read_provisioned(connection: apsw.Connection) -> Iterator[ProvisionedConfig]:
    """Every configuration, by function and qualifier."""
    for name, qualifier, requested, update_time_us in connection.execute(
        "SELECT function, qualifier, requested, update_time_us FROM provisioned_concurrency ORDER BY 1, 2"
    ):
        yield ProvisionedConfig(name, qualifier, requested, moment(update_time_us))


def delete_all(connection: apsw.Connection, function_name: str) -> None:
    """Remove all that belongs to a function that is being deleted, but the last number of a version."""
    connection.execute("DELETE FROM versions WHERE name = ?", (function_name,))
    for table in ("aliases", "reserved_concurrency", "provisioned_concurrency"):
        connection.execute(f"DELETE FROM {table} WHERE function = ?", (function_name,))
