"""Functions, and the versions published of them, as rows of the tables `functions` and `versions`, and back. Guarantees
that what was written reads back equal. What else belongs to a function is in engine.registry.more_rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import apsw
import orjson

from engine.model.function import LATEST, Egress, Function, FunctionConfig, FunctionState, LogFormat, LogLevel
from engine.model.layer import LayerRef, LayerUse

_COLUMNS = (
    "name, runtime, handler, memory_mb, timeout_ms, tmp_mb, environment, description, role, egress, preload,"
    " own_layout, code_sha256, code_size_bytes, etag, state, state_reason, create_time_us, update_time_us,"
    " log_format, log_level, system_log_level, aws_settings, layers"
)
_COUNT = _COLUMNS.count(",") + 1
_SELECT = f"SELECT {_COLUMNS} FROM functions ORDER BY name"
_WRITE = f"INSERT OR REPLACE INTO functions ({_COLUMNS}) VALUES ({', '.join('?' * _COUNT)})"
_DELETE = "DELETE FROM functions WHERE name = ?"
_SELECT_VERSIONS = f"SELECT {_COLUMNS}, version, latest_description FROM versions ORDER BY name, version"
_ADD_VERSION = (
    f"INSERT INTO versions ({_COLUMNS}, version, latest_description) VALUES ({', '.join('?' * (_COUNT + 2))})"
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def write(connection: apsw.Connection, function: Function) -> None:
    """Insert or replace the row."""
    connection.execute(_WRITE, _values(function))


def delete(connection: apsw.Connection, name: str) -> None:
    """Remove the row."""
    connection.execute(_DELETE, (name,))


def read_all(connection: apsw.Connection) -> Iterator[Function]:
    """Every function, by name. Raises ValueError for a row that no release has written."""
    for row in connection.execute(_SELECT):
        yield _function(row)


def add_version(connection: apsw.Connection, function: Function, latest_description: str) -> None:
    """Insert a version; its number is new. `latest_description` is that of the state that it was published from."""
    connection.execute(_ADD_VERSION, (*_values(function), int(function.version), latest_description))


def delete_version(connection: apsw.Connection, name: str, version: str) -> None:
    """Remove a version."""
    connection.execute("DELETE FROM versions WHERE name = ? AND version = ?", (name, int(version)))


def read_versions(connection: apsw.Connection) -> Iterator[tuple[Function, str]]:
    """Every version, by function and number, with the description that $LATEST had. Raises as read_all."""
    for *row, version, latest_description in connection.execute(_SELECT_VERSIONS):
        yield _function(row, str(version)), latest_description


def microseconds(moment: datetime) -> int:
    """Since the epoch."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds: int) -> datetime:
    """The reverse."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _values(function: Function) -> tuple[str | int, ...]:
    config = function.config
    return (
        function.name,
        config.runtime,
        config.handler,
        config.memory_mb,
        config.timeout_ms,
        config.tmp_mb,
        orjson.dumps(dict(config.environment)).decode(),
        config.description,
        config.role,
        config.egress.value,
        orjson.dumps(config.preload).decode(),
        int(config.own_layout),
        function.code_sha256,
        function.code_size_bytes,
        function.etag,
        function.state.value,
        function.state_reason,
        microseconds(function.create_time),
        microseconds(function.update_time),
        config.log_format.value,
        config.log_level.value,
        config.system_log_level.value,
        orjson.dumps(dict(config.aws_settings)).decode(),
        orjson.dumps([_use(one) for one in config.layers]).decode(),
    )


def _use(layer: LayerUse) -> tuple[str | int, ...]:
    return (*layer.ref, layer.code_sha256, layer.code_size_bytes, layer.unpacked_bytes)


def _function(row: Any, version: str = LATEST) -> Function:
    (
        name,
        runtime,
        handler,
        memory_mb,
        timeout_ms,
        tmp_mb,
        environment,
        description,
        role,
        egress,
        preload,
        own_layout,
        code_sha256,
        code_size_bytes,
        etag,
        state,
        state_reason,
        create_time_us,
        update_time_us,
        log_format,
        log_level,
        system_log_level,
        aws_settings,
        layers,
    ) = row
    config = FunctionConfig(
        runtime=runtime,
        handler=handler,
        memory_mb=memory_mb,
        timeout_ms=timeout_ms,
        tmp_mb=tmp_mb,
        environment=MappingProxyType(orjson.loads(environment)),
        description=description,
        role=role,
        egress=Egress(egress),
        log_format=LogFormat(log_format),
        log_level=LogLevel(log_level),
        system_log_level=LogLevel(system_log_level),
        preload=tuple(orjson.loads(preload)),
        own_layout=bool(own_layout),
        aws_settings=MappingProxyType(orjson.loads(aws_settings)),
        layers=tuple(LayerUse(LayerRef(layer, number), *rest) for layer, number, *rest in orjson.loads(layers)),
    )
    return Function(
        name=name,
        config=config,
        code_sha256=code_sha256,
        code_size_bytes=code_size_bytes,
        etag=etag,
        create_time=moment(create_time_us),
        update_time=moment(update_time_us),
        version=version,
        state=FunctionState(state),
        state_reason=state_reason,
    )
