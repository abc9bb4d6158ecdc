-- Kill switches (G24). A row stays when its switch is lifted: it is the history.
CREATE TABLE kill_switch (
    id TEXT NOT NULL PRIMARY KEY,
    scope TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_ms BIGINT NOT NULL,
    until_ms BIGINT,
    lift_asked_by TEXT,
    lifted_by TEXT,
    lifted_ms BIGINT,
    lift_reason TEXT
);
CREATE INDEX kill_switch_set ON kill_switch (set_ms);
CREATE INDEX kill_switch_active ON kill_switch (set_ms) WHERE lifted_ms IS NULL;
