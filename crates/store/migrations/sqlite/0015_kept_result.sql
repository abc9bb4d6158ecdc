-- Parts of results that were too long for their client (P52), sealed, for ten minutes.
CREATE TABLE kept_result (
    id TEXT NOT NULL,
    part BIGINT NOT NULL,
    parts BIGINT NOT NULL,
    owner TEXT NOT NULL,
    sealed TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    PRIMARY KEY (id, part)
);
CREATE INDEX kept_result_owner ON kept_result (owner, expires_ms);
CREATE INDEX kept_result_expires ON kept_result (expires_ms);
