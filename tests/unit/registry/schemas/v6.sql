-- The registry's database with layers (schema 6). It never changes;
-- tests/unit/registry/test_schema.py says what it holds.
BEGIN TRANSACTION;

-- Table  aliases
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
INSERT INTO aliases VALUES('thumbs','live','3','[]','what is used','00000000-0000-4000-8000-00000000000a',1795406706789001,1795406706789002);
INSERT INTO aliases VALUES('thumbs','split','4','[["3",0.25]]','','00000000-0000-4000-8000-00000000000b',1795406706789001,1795406706789001);

-- Table  functions
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
, log_format TEXT NOT NULL DEFAULT 'Text', log_level TEXT NOT NULL DEFAULT 'INFO', system_log_level TEXT NOT NULL DEFAULT 'INFO', preload TEXT NOT NULL DEFAULT '[]', own_layout INTEGER NOT NULL DEFAULT 0, aws_settings TEXT NOT NULL DEFAULT '{}', layers TEXT NOT NULL DEFAULT '[]') STRICT, WITHOUT ROWID;
INSERT INTO functions VALUES('Waiting_1','python3.11','nodot',128,3000,512,'{}','','','internet','3333333333333333333333333333333333333333333333333333333333333333',1003,'00000000-0000-4000-8000-000000000003','failed','its runtime is gone',1795406706789003,1795406706789003,'Text','INFO','INFO','[]',0,'{}','[]');
INSERT INTO functions VALUES('plain','python3.11','app.handler',128,3000,512,'{}','','','none','1111111111111111111111111111111111111111111111111111111111111111',1001,'00000000-0000-4000-8000-000000000001','active','',1795406706789001,1795406706789001,'Text','INFO','INFO','[]',0,'{}','[]');
INSERT INTO functions VALUES('thumbs','python3.12','src/app.main',1769,900000,1024,'{"B":"zwei ''ü''","A":""}','it''s "quoted"
and broken','arn:aws:iam::000000000000:role/thumbs','none','2222222222222222222222222222222222222222222222222222222222222222',1002,'00000000-0000-4000-8000-000000000002','active','',1795406706789002,1795406706789002,'Text','INFO','INFO','[]',0,'{}','[]');

-- Table  layer_numbers
CREATE TABLE layer_numbers (
    layer TEXT PRIMARY KEY,
    last  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO layer_numbers VALUES('deps',10);
INSERT INTO layer_numbers VALUES('gone',3);

-- Table  layer_versions
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
INSERT INTO layer_versions VALUES('deps',2,'4444444444444444444444444444444444444444444444444444444444444444',1004,2004,'what ''all'' need','MIT','["python3.11","python3.12"]','["x86_64"]',1795406706789001,'{"Statement":[{"Sid":"all","Effect":"Allow"}],"RevisionId":"00000000-0000-4000-8000-00000000000c"}');
INSERT INTO layer_versions VALUES('deps',10,'5555555555555555555555555555555555555555555555555555555555555555',1005,2005,'','','[]','[]',1795406706789002,'null');

-- Table  provisioned_concurrency
CREATE TABLE provisioned_concurrency (
    function       TEXT NOT NULL,
    qualifier      TEXT NOT NULL,     -- a version's number, or an alias
    requested      INTEGER NOT NULL,  -- environments
    update_time_us INTEGER NOT NULL,
    PRIMARY KEY (function, qualifier)
) STRICT, WITHOUT ROWID;
INSERT INTO provisioned_concurrency VALUES('thumbs','live',2,1795406706789003);

-- Table  reserved_concurrency
CREATE TABLE reserved_concurrency (
    function   TEXT PRIMARY KEY,
    executions INTEGER NOT NULL      -- at once; 0 stops the function
) STRICT, WITHOUT ROWID;
INSERT INTO reserved_concurrency VALUES('thumbs',10);

-- Table  version_numbers
CREATE TABLE version_numbers (
    function TEXT PRIMARY KEY,
    last     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO version_numbers VALUES('gone',7);
INSERT INTO version_numbers VALUES('thumbs',4);

-- Table  versions
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
    latest_description TEXT NOT NULL, aws_settings TEXT NOT NULL DEFAULT '{}', layers TEXT NOT NULL DEFAULT '[]',     -- what $LATEST had when it was published
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
INSERT INTO versions VALUES('thumbs','python3.12','src/app.main',1769,900000,1024,'{"B":"zwei ''ü''","A":""}','third','arn:aws:iam::000000000000:role/thumbs','none','2222222222222222222222222222222222222222222222222222222222222222',1002,'00000000-0000-4000-8000-000000000002','active','',1795406706789002,1795406706789002,'Text','INFO','INFO','[]',0,3,'it''s "quoted"
and broken','{}','[]');
INSERT INTO versions VALUES('thumbs','python3.12','src/app.main',1769,900000,1024,'{"B":"zwei ''ü''","A":""}','it''s "quoted"
and broken','arn:aws:iam::000000000000:role/thumbs','none','2222222222222222222222222222222222222222222222222222222222222222',1002,'00000000-0000-4000-8000-000000000002','active','',1795406706789002,1795406706789002,'Text','INFO','INFO','[]',0,4,'it''s "quoted"
and broken','{}','[]');

-- Database header
pragma user_version=6;
pragma application_id=1668052581;

COMMIT TRANSACTION;
