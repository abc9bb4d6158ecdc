-- Accounts of people at upstream servers, and connections under way.
-- Keep in step with ../sqlite/0005_upstream_account.sql.

-- The tokens are sealed records; this is what may be listed.
CREATE TABLE upstream_account (
    owner        TEXT   NOT NULL,
    server       TEXT   NOT NULL,
    status       TEXT   NOT NULL,
    issuer       TEXT   NOT NULL,
    scopes       TEXT   NOT NULL,
    expires_ms   BIGINT,
    version      BIGINT NOT NULL,
    connected_ms BIGINT NOT NULL,
    last_used_ms BIGINT,
    PRIMARY KEY (owner, server)
);

CREATE TABLE upstream_connect (
    hash       BYTEA  NOT NULL PRIMARY KEY,
    browser    BYTEA  NOT NULL,
    owner      TEXT   NOT NULL,
    server     TEXT   NOT NULL,
    sealed     BYTEA  NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);

CREATE INDEX upstream_connect_owner ON upstream_connect (owner, created_ms);
CREATE INDEX upstream_connect_expires ON upstream_connect (expires_ms);

-- Accounts that ended here and not yet at their authorization server: the sealed tokens under
-- their old name and version, for a day at most.
CREATE TABLE upstream_revocation (
    name       TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    sealed     BYTEA NOT NULL,
    tries      BIGINT NOT NULL,
    due_ms     BIGINT NOT NULL,
    removed_ms BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE INDEX upstream_revocation_due ON upstream_revocation (due_ms);
