-- People who signed in, their browser sessions, and sign-ins under way.
-- Keep in step with ../postgres/0004_sign_in.sql.

CREATE TABLE person (
    id             TEXT   NOT NULL PRIMARY KEY,
    issuer         TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    provider       TEXT   NOT NULL,
    email          TEXT   NOT NULL,
    name           TEXT   NOT NULL,
    groups_json    TEXT   NOT NULL,
    created_ms     BIGINT NOT NULL,
    signed_in_ms   BIGINT NOT NULL,
    deactivated_ms BIGINT
) WITHOUT ROWID;

-- Who a person is, as the provider says (OpenID Connect Core, section 5.7).
CREATE UNIQUE INDEX person_subject ON person (issuer, subject);
-- Policies name people by address, so nobody else may ever come to the same one.
CREATE UNIQUE INDEX person_email ON person (email);

-- sealed is what the sign-in told, under a key that only the cookie itself gives.
CREATE TABLE browser_session (
    hash         BLOB   NOT NULL PRIMARY KEY,
    id           TEXT   NOT NULL,
    person       TEXT   NOT NULL,
    provider     TEXT   NOT NULL,
    sealed       BLOB   NOT NULL,
    created_ms   BIGINT NOT NULL,
    expires_ms   BIGINT NOT NULL
) WITHOUT ROWID;

CREATE UNIQUE INDEX browser_session_id ON browser_session (id);
CREATE INDEX browser_session_person ON browser_session (person);
CREATE INDEX browser_session_expires ON browser_session (expires_ms);

CREATE TABLE login_state (
    hash       BLOB   NOT NULL PRIMARY KEY,
    browser    BLOB   NOT NULL,
    provider   TEXT   NOT NULL,
    sealed     BLOB   NOT NULL,
    expires_ms BIGINT NOT NULL
) WITHOUT ROWID;

CREATE INDEX login_state_expires ON login_state (expires_ms);
