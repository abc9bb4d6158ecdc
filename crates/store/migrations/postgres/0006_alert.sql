-- Keep in step with ../sqlite/0006_alert.sql: a test compares the canonical
-- descriptions of both.

-- Audit events that an alert rule is about; written together with their index rows.
CREATE TABLE alert_hit (
    writer   TEXT   NOT NULL,
    seq      BIGINT NOT NULL,
    rule     TEXT   NOT NULL,
    at_ms    BIGINT NOT NULL,
    cause    TEXT   NOT NULL,
    resolves BIGINT NOT NULL,
    event_id TEXT   NOT NULL,
    summary  TEXT   NOT NULL,
    seen     BIGINT NOT NULL,
    PRIMARY KEY (writer, seq, rule)
);

CREATE INDEX alert_hit_seen ON alert_hit (seen, at_ms);
CREATE INDEX alert_hit_cause ON alert_hit (rule, cause, at_ms);

-- One alert per rule and cause. resolved_ms is NULL while it fires.
CREATE TABLE alert (
    rule        TEXT   NOT NULL,
    cause       TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    hits        BIGINT NOT NULL,
    first_ms    BIGINT NOT NULL,
    last_ms     BIGINT NOT NULL,
    fired_ms    BIGINT NOT NULL,
    resolved_ms BIGINT,
    event_id    TEXT   NOT NULL,
    summary     TEXT   NOT NULL,
    told        BIGINT NOT NULL,
    PRIMARY KEY (rule, cause)
);

CREATE INDEX alert_fired ON alert (rule, fired_ms);
CREATE INDEX alert_open ON alert (resolved_ms, last_ms);

-- What is on its way to a destination, until it arrived or is too old.
CREATE TABLE alert_delivery (
    id          TEXT   NOT NULL PRIMARY KEY,
    destination TEXT   NOT NULL,
    body        TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    attempts    BIGINT NOT NULL,
    next_ms     BIGINT NOT NULL
);

CREATE INDEX alert_delivery_next ON alert_delivery (next_ms);
