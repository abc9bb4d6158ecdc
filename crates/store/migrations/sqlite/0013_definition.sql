-- What servers offer, what was decided about it, and the life of servers.
-- Keep in step with ../postgres/0013_definition.sql.

-- Canonical texts (RFC 8785) by their pin: lower-case hex of SHA-256.
CREATE TABLE definition_body (
    pin  TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

-- One row per definition that was ever seen. kind is tool, prompt, template or server; state is
-- quarantined (new), approved, changed, rejected or missing. seen_by is whose list it was in, where
-- lists are personal. first_by and first_pin: one of two approvals. version counts the changes.
CREATE TABLE definition (
    server      TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    approved    TEXT,
    approved_by TEXT,
    approved_ms BIGINT,
    seen        TEXT,
    seen_by     TEXT,
    seen_ms     BIGINT,
    once_pin    TEXT,
    once_ms     BIGINT,
    rejected    TEXT,
    first_pin   TEXT,
    first_by    TEXT,
    missing_ms  BIGINT,
    alias_of    TEXT,
    version     BIGINT NOT NULL,
    PRIMARY KEY (server, kind, name)
);

-- Which kinds of a server were seen for the first time, decided once for all processes.
CREATE TABLE definition_sync (
    server TEXT   NOT NULL,
    kind   TEXT   NOT NULL,
    at_ms  BIGINT NOT NULL,
    who    TEXT   NOT NULL,
    PRIMARY KEY (server, kind)
);

-- Append-only and chained: hash covers the line and prev, which is the hash of the line before.
CREATE TABLE definition_history (
    seq    BIGINT NOT NULL PRIMARY KEY,
    at_ms  BIGINT NOT NULL,
    server TEXT   NOT NULL,
    kind   TEXT   NOT NULL,
    name   TEXT   NOT NULL,
    action TEXT   NOT NULL,
    pin    TEXT,
    former TEXT,
    who    TEXT   NOT NULL,
    reason TEXT   NOT NULL,
    prev   TEXT   NOT NULL,
    hash   TEXT   NOT NULL
);

CREATE INDEX definition_history_of ON definition_history (server, kind, name, seq);

CREATE TABLE definition_head (
    id   BIGINT NOT NULL PRIMARY KEY,
    seq  BIGINT NOT NULL,
    hash TEXT   NOT NULL
);

INSERT INTO definition_head (id, seq, hash) VALUES (1, 0, '');

-- The life of a server that was asked for: draft, requested, approved, suspended, retired.
CREATE TABLE server_life (
    server     TEXT   NOT NULL PRIMARY KEY,
    state      TEXT   NOT NULL,
    owner      TEXT   NOT NULL,
    request    TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    asked_by   TEXT   NOT NULL,
    asked_ms   BIGINT NOT NULL,
    decided_by TEXT,
    decided_ms BIGINT,
    reason     TEXT   NOT NULL,
    version    BIGINT NOT NULL
);

-- When servers were asked what they offer, by whichever process.
CREATE TABLE server_sync (
    server    TEXT   NOT NULL PRIMARY KEY,
    tried_ms  BIGINT NOT NULL,
    synced_ms BIGINT,
    outcome   TEXT   NOT NULL
);
