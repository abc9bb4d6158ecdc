-- Keep in step with ../postgres/0010_audit.sql: a test compares the canonical
-- descriptions of both.

-- What analytics counts; the record itself stays JSON.
ALTER TABLE audit_index ADD COLUMN outcome TEXT NOT NULL DEFAULT 'ok';
ALTER TABLE audit_index ADD COLUMN total_us BIGINT NOT NULL DEFAULT 0;
CREATE INDEX audit_index_figures ON audit_index (kind, at_ms, portal, server, allow, outcome, total_us, code);

-- The end of each chain as its own writer says it, about once a minute.
CREATE TABLE audit_head (
    writer TEXT   NOT NULL PRIMARY KEY,
    seq    BIGINT NOT NULL,
    hash   TEXT   NOT NULL,
    at_ms  BIGINT NOT NULL
) WITHOUT ROWID;

-- Signed statements about all chains together; body is JSON as signed.
CREATE TABLE audit_checkpoint (
    number BIGINT NOT NULL PRIMARY KEY,
    at_ms  BIGINT NOT NULL,
    body   TEXT   NOT NULL
);

-- How far each sink has come in each chain. The sink `checkpoints:…` counts checkpoints.
CREATE TABLE export_cursor (
    sink        TEXT   NOT NULL,
    writer      TEXT   NOT NULL,
    segment     BIGINT NOT NULL,
    byte_offset BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    hash        TEXT   NOT NULL,
    at_ms       BIGINT NOT NULL,
    PRIMARY KEY (sink, writer)
) WITHOUT ROWID;

-- Arguments and results of calls, sealed; only where a server's bodies are switched on.
CREATE TABLE audit_body (
    event_id TEXT   NOT NULL PRIMARY KEY,
    at_ms    BIGINT NOT NULL,
    server   TEXT   NOT NULL,
    sealed   BLOB   NOT NULL
);

CREATE INDEX audit_body_at ON audit_body (at_ms);
