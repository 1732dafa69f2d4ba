"""A function as a row of the table `functions`, and back. Guarantees that what was written reads back equal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import apsw
import orjson

from engine.model.function import Egress, Function, FunctionConfig, FunctionState, LogFormat, LogLevel

_COLUMNS = (
    "name, runtime, handler, memory_mb, timeout_ms, tmp_mb, environment, description, role, egress, preload,"
    " own_layout, code_sha256, code_size_bytes, etag, state, state_reason, create_time_us, update_time_us,"
    " log_format, log_level, system_log_level"
)
_SELECT = f"SELECT {_COLUMNS} FROM functions ORDER BY name"
_WRITE = f"INSERT OR REPLACE INTO functions ({_COLUMNS}) VALUES ({', '.join('?' * 22)})"
_DELETE = "DELETE FROM functions WHERE name = ?"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def write(connection: apsw.Connection, function: Function) -> None:
    """Insert or replace the row."""
    config = function.config
    connection.execute(
        _WRITE,
        (
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
            (function.create_time - _EPOCH) // _MICROSECOND,
            (function.update_time - _EPOCH) // _MICROSECOND,
            config.log_format.value,
            config.log_level.value,
            config.system_log_level.value,
        ),
    )


def delete(connection: apsw.Connection, name: str) -> None:
    """Remove the row."""
    connection.execute(_DELETE, (name,))


def read_all(connection: apsw.Connection) -> Iterator[Function]:
    """Every function, by name. Raises ValueError for a row that no release has written."""
    for (
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
    ) in connection.execute(_SELECT):
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
        )
        yield Function(
            name=name,
            config=config,
            code_sha256=code_sha256,
            code_size_bytes=code_size_bytes,
            etag=etag,
            create_time=_EPOCH + timedelta(microseconds=create_time_us),
            update_time=_EPOCH + timedelta(microseconds=update_time_us),
            state=FunctionState(state),
            state_reason=state_reason,
        )
