-- Keep in step with ../sqlite/0002_replay.sql: a test compares the canonical
-- descriptions of both.

-- What may be used once and was used. A row is of no use after its expiry.
CREATE TABLE replay_marker (
    id         TEXT   NOT NULL PRIMARY KEY,
    expires_ms BIGINT NOT NULL
);

CREATE INDEX replay_marker_expires ON replay_marker (expires_ms);
