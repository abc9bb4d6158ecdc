-- Keep in step with ../postgres/0009_replica.sql: a test compares the canonical
-- descriptions of both.

-- The processes of the installation and where the others reach them (O17).
CREATE TABLE replica (
    node        TEXT   NOT NULL,
    address     TEXT   NOT NULL,
    certificate TEXT   NOT NULL,
    started_ms  BIGINT NOT NULL,
    seen_ms     BIGINT NOT NULL,
    PRIMARY KEY (node)
) WITHOUT ROWID;
