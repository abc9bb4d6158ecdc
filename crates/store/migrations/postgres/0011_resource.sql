-- Keep in step with ../sqlite/0011_resource.sql: a test compares the canonical
-- descriptions of both.

-- One row per change of the objects below, in commit order; several objects may change
-- in one. revision 0 is the empty installation.
CREATE TABLE resource_revision (
    revision     BIGINT NOT NULL PRIMARY KEY,
    at_ms        BIGINT NOT NULL,
    by_whom      TEXT   NOT NULL,
    source       TEXT   NOT NULL,
    reason       TEXT,
    git_revision TEXT,
    event_id     TEXT   NOT NULL
);

-- Servers, portals, policies and so on that are not in files, one row per version.
-- until_rev is NULL while the version is in use. The body holds no secret; those are a
-- sealed record of kind 'resource', named by secret_id.
CREATE TABLE resource (
    kind      TEXT   NOT NULL,
    id        TEXT   NOT NULL,
    since_rev BIGINT NOT NULL,
    until_rev BIGINT,
    body      TEXT   NOT NULL,
    secret_id TEXT,
    PRIMARY KEY (kind, id, since_rev)
);

CREATE UNIQUE INDEX resource_live ON resource (kind, id) WHERE until_rev IS NULL;
CREATE INDEX resource_until ON resource (until_rev);

-- Answers to requests that carried an idempotency key, for a day.
CREATE TABLE admin_answer (
    caller TEXT   NOT NULL,
    name   TEXT   NOT NULL,
    digest TEXT   NOT NULL,
    answer TEXT   NOT NULL,
    at_ms  BIGINT NOT NULL,
    PRIMARY KEY (caller, name)
);

CREATE INDEX admin_answer_at ON admin_answer (at_ms);
