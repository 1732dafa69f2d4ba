"""Layer versions as rows of the tables `layer_versions` and `layer_numbers`, and back. Guarantees that what was written
reads back equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import apsw
import orjson

from engine.model.layer import LayerRef, LayerVersion
from engine.registry.rows import microseconds, moment

_COLUMNS = (
    "name, version, code_sha256, code_size_bytes, unpacked_bytes, description, license_info, runtimes, architectures,"
    " create_time_us"
)


def add(connection: apsw.Connection, layer: LayerVersion) -> None:
    """Insert a version, and note its number as the layer's last."""
    connection.execute(
        f"INSERT INTO layer_versions ({_COLUMNS}, policy) VALUES ({', '.join('?' * 10)}, 'null')",
        (
            *layer.ref,
            layer.code_sha256,
            layer.code_size_bytes,
            layer.unpacked_bytes,
            layer.description,
            layer.license_info,
            orjson.dumps(layer.runtimes).decode(),
            orjson.dumps(layer.architectures).decode(),
            microseconds(layer.create_time),
        ),
    )
    connection.execute("INSERT OR REPLACE INTO layer_numbers (layer, last) VALUES (?, ?)", layer.ref)


def delete(connection: apsw.Connection, ref: LayerRef) -> None:
    """Remove a version with its policy; its number stays taken."""
    connection.execute("DELETE FROM layer_versions WHERE name = ? AND version = ?", ref)


def write_policy(connection: apsw.Connection, ref: LayerRef, policy: Mapping[str, Any] | None) -> None:
    """Put a policy in place of the one that a version has; None: none."""
    text = orjson.dumps(None if policy is None else dict(policy)).decode()
    connection.execute("UPDATE layer_versions SET policy = ? WHERE name = ? AND version = ?", (text, *ref))


def read(connection: apsw.Connection) -> Iterator[tuple[LayerVersion, Mapping[str, Any] | None]]:
    """Every version with its policy, by name and number. Raises ValueError for a row that no release has written."""
    for row in connection.execute(f"SELECT {_COLUMNS}, policy FROM layer_versions ORDER BY name, version"):
        name, version, sha256, size, unpacked, description, license_info, runtimes, architectures, created, policy = row
        layer = LayerVersion(
            ref=LayerRef(name, version),
            code_sha256=sha256,
            code_size_bytes=size,
            unpacked_bytes=unpacked,
            create_time=moment(created),
            description=description,
            license_info=license_info,
            runtimes=tuple(orjson.loads(runtimes)),
            architectures=tuple(orjson.loads(architectures)),
        )
        yield layer, orjson.loads(policy)


def read_numbers(connection: apsw.Connection) -> dict[str, int]:
    """The last number of each layer."""
    return dict(connection.execute("SELECT layer, last FROM layer_numbers"))
