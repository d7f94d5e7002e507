-- Where alerts are delivered. `settings` is one document and holds the channel's secrets.
CREATE TABLE alert_channels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    settings TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- What raises alerts. A rule looks at events after `from_seq`.
CREATE TABLE alert_rules (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    enabled INTEGER NOT NULL,
    spec TEXT NOT NULL,
    from_seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- Up to which event alerts were made. `stamp` goes up with every change of a rule. Whoever changes
-- rules or alerts locks this row first.
CREATE TABLE alert_cursor (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL,
    stamp INTEGER NOT NULL
) STRICT;
INSERT INTO alert_cursor (id, seq, stamp) VALUES (1, 0, 0);

-- Alerts. `pending` ones wait for their count or their age and are not shown.
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    rule_id INTEGER NOT NULL,
    rule_name TEXT NOT NULL,
    group_key TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'firing', 'acknowledged', 'cleared')),
    severity TEXT NOT NULL,
    title TEXT NOT NULL,
    schedule_id INTEGER,
    schedule_name TEXT,
    "count" INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    raised_at INTEGER,
    due_at INTEGER,
    next_at INTEGER,
    delivered_at INTEGER,
    deliveries INTEGER NOT NULL,
    held INTEGER NOT NULL,
    news INTEGER NOT NULL,
    follows INTEGER NOT NULL,
    samples TEXT NOT NULL,
    recent TEXT NOT NULL,
    acknowledged_at INTEGER,
    acknowledged_by TEXT,
    acknowledge_reason TEXT,
    cleared_at INTEGER,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX alerts_open ON alerts (rule_id, group_key) WHERE state <> 'cleared';
CREATE INDEX alerts_next ON alerts (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX alerts_state ON alerts (state, id);
CREATE INDEX alerts_cleared ON alerts (cleared_at) WHERE cleared_at IS NOT NULL;

-- What keeps an alert open (an error, a letter, a paused queue), or will once it is old enough.
CREATE TABLE alert_subjects (
    subject TEXT NOT NULL,
    alert_id INTEGER NOT NULL,
    ripe_at INTEGER,
    severity TEXT NOT NULL,
    sample TEXT NOT NULL,
    PRIMARY KEY (subject, alert_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX alert_subjects_alert ON alert_subjects (alert_id);

-- Messages on their way to a channel, one row a channel; sent again until one attempt succeeds.
CREATE TABLE alert_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    channel_id INTEGER NOT NULL,
    channel_name TEXT NOT NULL,
    rule_name TEXT,
    body TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'failed')),
    attempts INTEGER NOT NULL,
    next_at INTEGER,
    created_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE INDEX alert_messages_next ON alert_messages (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX alert_messages_ended ON alert_messages (ended_at) WHERE ended_at IS NOT NULL;

-- The delivery log: a row an attempt.
CREATE TABLE alert_deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id INTEGER NOT NULL,
    webhook_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    channel_name TEXT NOT NULL,
    rule_name TEXT,
    attempt INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('sending', 'delivered', 'failed', 'interrupted')),
    status INTEGER,
    error TEXT,
    started_at INTEGER NOT NULL,
    duration_ms INTEGER,
    next_attempt_at INTEGER
) STRICT;
CREATE UNIQUE INDEX alert_deliveries_attempt ON alert_deliveries (message_id, attempt);
CREATE INDEX alert_deliveries_started ON alert_deliveries (started_at);
