-- People and groups as a directory provisions them (RFC 7643).
-- Keep in step with ../sqlite/0008_scim.sql.

-- user_name is folded for comparison; name_id and email_id are ids of principals, where the
-- text can be one. person is who this turned out to be.
CREATE TABLE scim_user (
    id          TEXT   NOT NULL PRIMARY KEY,
    user_name   TEXT   NOT NULL,
    name_id     TEXT,
    email_id    TEXT,
    external_id TEXT,
    active      BIGINT NOT NULL,
    person      TEXT,
    content     TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL,
    modified_ms BIGINT NOT NULL
);

CREATE UNIQUE INDEX scim_user_name ON scim_user (user_name);
CREATE UNIQUE INDEX scim_user_person ON scim_user (person);
CREATE INDEX scim_user_name_id ON scim_user (name_id);
CREATE INDEX scim_user_email_id ON scim_user (email_id);
CREATE INDEX scim_user_external ON scim_user (external_id);

CREATE TABLE scim_group (
    id          TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    external_id TEXT,
    content     TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL,
    modified_ms BIGINT NOT NULL
);

-- Policies name groups, so no two may have one name.
CREATE UNIQUE INDEX scim_group_name ON scim_group (name);
CREATE INDEX scim_group_external ON scim_group (external_id);

CREATE TABLE scim_member (
    group_id TEXT NOT NULL,
    user_id  TEXT NOT NULL,
    PRIMARY KEY (group_id, user_id)
);

CREATE INDEX scim_member_user ON scim_member (user_id);

-- Who deactivated a person: 'scim', 'unprovisioned', or nothing for an administrator.
ALTER TABLE person ADD COLUMN deactivated_by TEXT;
-- Groups as the identity provider said; groups_json is what counts. Nothing: they are the same.
ALTER TABLE person ADD COLUMN claims_json TEXT;
