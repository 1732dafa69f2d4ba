"""The registry's tables, as the list of migrations that made them: MIGRATIONS[n - 1] leads to schema n.

A migration that has been released never changes: a later one corrects it. For each released schema,
tests/unit/registry/schemas/ keeps a database as that release wrote it, and a test opens it with the code of today.
"""

from __future__ import annotations

from engine.fabric.sqlite import Migration

STORE_FILE = "registry.db"
"""The database's name in the data directory."""

_V1 = """
CREATE TABLE functions (
    name            TEXT PRIMARY KEY,
    runtime         TEXT NOT NULL,
    handler         TEXT NOT NULL,
    memory_mb       INTEGER NOT NULL,
    timeout_ms      INTEGER NOT NULL,
    tmp_mb          INTEGER NOT NULL,
    environment     TEXT NOT NULL,     -- a JSON object of strings
    description     TEXT NOT NULL,
    role            TEXT NOT NULL,     -- an ARN, or empty
    egress          TEXT NOT NULL,     -- engine.model.function.Egress
    code_sha256     TEXT NOT NULL,     -- hex, names a blob of the code store
    code_size_bytes INTEGER NOT NULL,  -- of the zip
    etag            TEXT NOT NULL,     -- a UUID
    state           TEXT NOT NULL,     -- engine.model.function.FunctionState
    state_reason    TEXT NOT NULL,
    create_time_us  INTEGER NOT NULL,  -- microseconds since the epoch
    update_time_us  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

_V2 = """
ALTER TABLE functions ADD COLUMN log_format TEXT NOT NULL DEFAULT 'Text';        -- engine.model.function.LogFormat
ALTER TABLE functions ADD COLUMN log_level TEXT NOT NULL DEFAULT 'INFO';         -- engine.model.function.LogLevel
ALTER TABLE functions ADD COLUMN system_log_level TEXT NOT NULL DEFAULT 'INFO';
"""

_V3 = """
ALTER TABLE functions ADD COLUMN preload TEXT NOT NULL DEFAULT '[]'; -- a JSON list of module names
ALTER TABLE functions ADD COLUMN own_layout INTEGER NOT NULL DEFAULT 0; -- 1: an address-space layout of its own
"""

_V4 = """
CREATE TABLE versions (
    name               TEXT NOT NULL,     -- of the function; what follows is as in functions
    runtime            TEXT NOT NULL,
    handler            TEXT NOT NULL,
    memory_mb          INTEGER NOT NULL,
    timeout_ms         INTEGER NOT NULL,
    tmp_mb             INTEGER NOT NULL,
    environment        TEXT NOT NULL,
    description        TEXT NOT NULL,
    role               TEXT NOT NULL,
    egress             TEXT NOT NULL,
    code_sha256        TEXT NOT NULL,
    code_size_bytes    INTEGER NOT NULL,
    etag               TEXT NOT NULL,
    state              TEXT NOT NULL,
    state_reason       TEXT NOT NULL,
    create_time_us     INTEGER NOT NULL,
    update_time_us     INTEGER NOT NULL,
    log_format         TEXT NOT NULL,
    log_level          TEXT NOT NULL,
    system_log_level   TEXT NOT NULL,
    preload            TEXT NOT NULL,
    own_layout         INTEGER NOT NULL,
    version            INTEGER NOT NULL,  -- from 1
    latest_description TEXT NOT NULL,     -- what $LATEST had when it was published
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;

-- The last number of each function that ever published, also of those that are deleted: no number comes twice.
CREATE TABLE version_numbers (
    function TEXT PRIMARY KEY,
    last     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE aliases (
    function       TEXT NOT NULL,
    name           TEXT NOT NULL,
    version        TEXT NOT NULL,     -- a number, or $LATEST
    weights        TEXT NOT NULL,     -- a JSON list of [version, share]
    description    TEXT NOT NULL,
    etag           TEXT NOT NULL,     -- a UUID
    create_time_us INTEGER NOT NULL,  -- microseconds since the epoch
    update_time_us INTEGER NOT NULL,
    PRIMARY KEY (function, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE reserved_concurrency (
    function   TEXT PRIMARY KEY,
    executions INTEGER NOT NULL      -- at once; 0 stops the function
) STRICT, WITHOUT ROWID;

CREATE TABLE provisioned_concurrency (
    function       TEXT NOT NULL,
    qualifier      TEXT NOT NULL,     -- a version's number, or an alias
    requested      INTEGER NOT NULL,  -- environments
    update_time_us INTEGER NOT NULL,
    PRIMARY KEY (function, qualifier)
) STRICT, WITHOUT ROWID;
"""

_V5 = """
ALTER TABLE functions ADD COLUMN aws_settings TEXT NOT NULL DEFAULT '{}'; -- a JSON object, by AWS's names
ALTER TABLE versions ADD COLUMN aws_settings TEXT NOT NULL DEFAULT '{}';
"""

_V6 = """
-- Layers as a function has them, lowest first: a JSON list of [name, version, code_sha256, code_size_bytes,
-- unpacked_bytes], for a layer version may be deleted.
ALTER TABLE functions ADD COLUMN layers TEXT NOT NULL DEFAULT '[]';
ALTER TABLE versions ADD COLUMN layers TEXT NOT NULL DEFAULT '[]';

CREATE TABLE layer_versions (
    name            TEXT NOT NULL,
    version         INTEGER NOT NULL,  -- from 1
    code_sha256     TEXT NOT NULL,     -- hex, names a blob of the code store
    code_size_bytes INTEGER NOT NULL,  -- of the zip
    unpacked_bytes  INTEGER NOT NULL,
    description     TEXT NOT NULL,
    license_info    TEXT NOT NULL,
    runtimes        TEXT NOT NULL,     -- a JSON list of names
    architectures   TEXT NOT NULL,     -- a JSON list of names
    create_time_us  INTEGER NOT NULL,  -- microseconds since the epoch
    policy          TEXT NOT NULL,     -- a JSON object as of engine.registry.policies, or null
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;

-- The last number of each layer that was ever published, also of those that are deleted: no number comes twice.
CREATE TABLE layer_numbers (
    layer TEXT PRIMARY KEY,
    last  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: tuple[Migration, ...] = (_V1, _V2, _V3, _V4, _V5, _V6)
