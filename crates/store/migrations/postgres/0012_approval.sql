-- Questions that a person answers before something may happen (feature rows W12, A16).
-- Keep in step with ../sqlite/0012_approval.sql.

-- requester is the key of a principal; subject names what may happen (tool:SERVER/NAME,
-- server:ID, portal:ID), digest the exact call. details is sealed: the complete arguments and
-- the text that was shown. until_ms is the end of what an approval allows.
CREATE TABLE approval (
    id         TEXT   NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL,
    requester  TEXT   NOT NULL,
    owner      TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    definition TEXT   NOT NULL,
    approvers  TEXT   NOT NULL,
    longest_s  BIGINT NOT NULL,
    details    BYTEA  NOT NULL,
    state      TEXT   NOT NULL,
    scope      TEXT,
    asked_ms   BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    decided_ms BIGINT,
    decided_by TEXT,
    reason     TEXT,
    until_ms   BIGINT,
    used_ms    BIGINT
);

CREATE INDEX approval_requester ON approval (requester, subject, asked_ms);
CREATE INDEX approval_asked ON approval (requester, asked_ms);
CREATE INDEX approval_state ON approval (state, expires_ms);
CREATE INDEX approval_until ON approval (kind, state, until_ms);
