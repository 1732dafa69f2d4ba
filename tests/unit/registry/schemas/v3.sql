-- The registry's database with a preload and an address-space layout of their own (schema 3). It never changes;
-- tests/unit/registry/test_schema.py says what it holds.
BEGIN TRANSACTION;

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
, log_format TEXT NOT NULL DEFAULT 'Text', log_level TEXT NOT NULL DEFAULT 'INFO', system_log_level TEXT NOT NULL DEFAULT 'INFO', preload TEXT NOT NULL DEFAULT '[]', own_layout INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
INSERT INTO functions VALUES('Waiting_1','python3.11','nodot',128,3000,512,'{}','','','internet','3333333333333333333333333333333333333333333333333333333333333333',1003,'00000000-0000-4000-8000-000000000003','failed','its runtime is gone',1795406706789003,1795406706789003,'Text','INFO','INFO','[]',0);
INSERT INTO functions VALUES('plain','python3.11','app.handler',128,3000,512,'{}','','','none','1111111111111111111111111111111111111111111111111111111111111111',1001,'00000000-0000-4000-8000-000000000001','active','',1795406706789001,1795406706789001,'Text','INFO','INFO','[]',0);
INSERT INTO functions VALUES('thumbs','python3.12','src/app.main',1769,900000,1024,'{"B":"zwei ''ü''","A":""}','it''s "quoted"
and broken','arn:aws:iam::000000000000:role/thumbs','none','2222222222222222222222222222222222222222222222222222222222222222',1002,'00000000-0000-4000-8000-000000000002','active','',1795406706789002,1795406706789002,'Text','INFO','INFO','[]',0);

-- Database header
pragma user_version=3;
pragma application_id=1668052581;

COMMIT TRANSACTION;
