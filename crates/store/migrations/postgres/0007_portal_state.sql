-- What changes about legacy sessions, and what is switched off for a credential.
-- Keep in step with ../sqlite/0007_portal_state.sql.

-- Of a session (s:ID) or of a credential at an endpoint (c:ID@ENDPOINT). counted is whose
-- sessions it is among, empty for credentials; off is a JSON list of server ids.
CREATE TABLE portal_state (
    id         TEXT   NOT NULL PRIMARY KEY,
    counted    TEXT   NOT NULL,
    profile    TEXT   NOT NULL,
    off        TEXT   NOT NULL,
    log_level  TEXT,
    created_ms BIGINT NOT NULL,
    seen_ms    BIGINT NOT NULL
);

CREATE INDEX portal_state_counted ON portal_state (counted, seen_ms);
CREATE INDEX portal_state_profile ON portal_state (profile);
CREATE INDEX portal_state_seen ON portal_state (seen_ms);

-- Which servers of a portal a person was shown on its selection page.
CREATE TABLE portal_shown (
    person   TEXT   NOT NULL,
    portal   TEXT   NOT NULL,
    servers  TEXT   NOT NULL,
    shown_ms BIGINT NOT NULL,
    PRIMARY KEY (person, portal)
);
