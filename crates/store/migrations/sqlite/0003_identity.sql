-- The authorization server. Times are milliseconds since the epoch. Tokens and codes are
-- only here as hashes. Keep in step with ../postgres/0003_identity.sql.

-- Clients that registered themselves (RFC 7591).
CREATE TABLE oauth_client (
    id         TEXT   NOT NULL PRIMARY KEY,
    metadata   TEXT   NOT NULL,
    created_ms BIGINT NOT NULL,
    used_ms    BIGINT
) WITHOUT ROWID;

CREATE INDEX oauth_client_created ON oauth_client (created_ms);
CREATE INDEX oauth_client_used ON oauth_client (used_ms);

-- What a person once agreed to.
CREATE TABLE oauth_consent (
    person        TEXT   NOT NULL,
    client_id     TEXT   NOT NULL,
    redirect_host TEXT   NOT NULL,
    resource      TEXT   NOT NULL,
    client_name   TEXT   NOT NULL,
    client_kind   TEXT   NOT NULL,
    scopes        TEXT   NOT NULL,
    granted_ms    BIGINT NOT NULL,
    PRIMARY KEY (person, client_id, redirect_host, resource)
) WITHOUT ROWID;

-- A used code stays for a while: who brings it again has stolen it, or was robbed.
CREATE TABLE oauth_code (
    hash         BLOB   NOT NULL PRIMARY KEY,
    grant_id     TEXT   NOT NULL,
    person       TEXT   NOT NULL,
    client_id    TEXT   NOT NULL,
    redirect_uri TEXT   NOT NULL,
    challenge    TEXT   NOT NULL,
    content      TEXT   NOT NULL,
    wrapped      BLOB   NOT NULL,
    expires_ms   BIGINT NOT NULL,
    used_ms      BIGINT
) WITHOUT ROWID;

CREATE INDEX oauth_code_expires ON oauth_code (expires_ms);
CREATE INDEX oauth_code_person ON oauth_code (person, client_id);

-- What a sign-in told is sealed in content for whoever has the grant's key; wrapped is that
-- key under one that only the code or token itself gives.
CREATE TABLE oauth_grant (
    id          TEXT   NOT NULL PRIMARY KEY,
    person      TEXT   NOT NULL,
    client_id   TEXT   NOT NULL,
    content     TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    used_ms     BIGINT NOT NULL,
    revoked_ms  BIGINT,
    revoked_why TEXT
) WITHOUT ROWID;

CREATE INDEX oauth_grant_person ON oauth_grant (person, client_id);
CREATE INDEX oauth_grant_expires ON oauth_grant (expires_ms);

CREATE TABLE oauth_access (
    hash       BLOB   NOT NULL PRIMARY KEY,
    grant_id   TEXT   NOT NULL,
    wrapped    BLOB   NOT NULL,
    scopes     TEXT   NOT NULL,
    expires_ms BIGINT NOT NULL
) WITHOUT ROWID;

CREATE INDEX oauth_access_grant ON oauth_access (grant_id);
CREATE INDEX oauth_access_expires ON oauth_access (expires_ms);

-- parent is empty for the first of a family. pair is what this one was exchanged for,
-- sealed under a key that only the token itself gives.
CREATE TABLE oauth_refresh (
    hash          BLOB   NOT NULL PRIMARY KEY,
    grant_id      TEXT   NOT NULL,
    parent        BLOB   NOT NULL,
    wrapped       BLOB,
    used_ms       BIGINT,
    retired_ms    BIGINT,
    exchanges     BIGINT NOT NULL DEFAULT 0,
    pair          BLOB,
    pair_until_ms BIGINT
) WITHOUT ROWID;

CREATE INDEX oauth_refresh_grant ON oauth_refresh (grant_id);
