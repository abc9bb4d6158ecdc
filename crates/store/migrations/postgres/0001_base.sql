-- Times are milliseconds since the epoch. Keep in step with ../sqlite/0001_base.sql:
-- a test compares the canonical descriptions of both.

CREATE TABLE meta (
    name       TEXT   NOT NULL PRIMARY KEY,
    value      TEXT   NOT NULL,
    updated_ms BIGINT NOT NULL
);

INSERT INTO meta (name, value, updated_ms) VALUES ('schema.compatible_from', '1', 0);

-- The head is one row: taking the next number locks it until commit, so numbers
-- become visible in order and a reader never skips one.
CREATE TABLE change_head (
    id  BIGINT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL
);

INSERT INTO change_head (id, seq) VALUES (1, 0);

CREATE TABLE change_log (
    seq   BIGINT NOT NULL PRIMARY KEY,
    topic TEXT   NOT NULL,
    name  TEXT   NOT NULL,
    at_ms BIGINT NOT NULL
);

CREATE TABLE lease (
    name       TEXT   NOT NULL PRIMARY KEY,
    owner      TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    fence      BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);

CREATE TABLE service_token (
    id                TEXT   NOT NULL PRIMARY KEY,
    name              TEXT   NOT NULL,
    hash              BYTEA  NOT NULL,
    previous_hash     BYTEA,
    previous_until_ms BIGINT,
    created_ms        BIGINT NOT NULL,
    expires_ms        BIGINT,
    suspended_ms      BIGINT,
    last_used_ms      BIGINT
);

CREATE UNIQUE INDEX service_token_name ON service_token (name);

CREATE TABLE sealed (
    tenant     TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    key_id     TEXT   NOT NULL,
    sealed     BYTEA  NOT NULL,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind, id)
);

CREATE INDEX sealed_key ON sealed (key_id);

CREATE TABLE client_profile (
    digest  TEXT   NOT NULL PRIMARY KEY,
    profile TEXT   NOT NULL,
    seen_ms BIGINT NOT NULL
);

CREATE INDEX client_profile_seen ON client_profile (seen_ms);

CREATE TABLE audit_position (
    writer      TEXT   NOT NULL PRIMARY KEY,
    segment     BIGINT NOT NULL,
    byte_offset BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    hash        TEXT   NOT NULL
);

CREATE TABLE audit_index (
    at_ms     BIGINT NOT NULL,
    writer    TEXT   COLLATE "C" NOT NULL,
    seq       BIGINT NOT NULL,
    kind      TEXT   NOT NULL,
    principal TEXT,
    portal    TEXT,
    server    TEXT,
    target    TEXT,
    allow     BIGINT NOT NULL,
    code      TEXT,
    id        TEXT   NOT NULL,
    who       TEXT,
    record    TEXT   NOT NULL,
    PRIMARY KEY (at_ms, writer, seq)
);

CREATE INDEX audit_index_principal ON audit_index (principal, at_ms);
CREATE INDEX audit_index_server ON audit_index (server, at_ms);
CREATE INDEX audit_index_target ON audit_index (target, at_ms);
CREATE INDEX audit_index_code ON audit_index (code, at_ms) WHERE code IS NOT NULL;
