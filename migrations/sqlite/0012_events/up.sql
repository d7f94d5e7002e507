-- Facts that may set schedules off: posted events, ends of executions that somebody listens to,
-- webhooks. `keys` is a JSON array: under what their listeners are found.
CREATE TABLE event_inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    keys TEXT NOT NULL,
    payload TEXT NOT NULL,
    depth INTEGER NOT NULL,
    traceparent TEXT,
    created_by TEXT,
    dedup_key TEXT,
    source_execution_id INTEGER,
    occurred_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    handled_at INTEGER
) STRICT;
CREATE INDEX event_inbox_waiting ON event_inbox (id) WHERE handled_at IS NULL;
CREATE UNIQUE INDEX event_inbox_dedup ON event_inbox (name, dedup_key) WHERE dedup_key IS NOT NULL;
CREATE UNIQUE INDEX event_inbox_source ON event_inbox (source_execution_id) WHERE source_execution_id IS NOT NULL;
CREATE INDEX event_inbox_name ON event_inbox (name, id);
CREATE INDEX event_inbox_created ON event_inbox (created_at, id);

-- Who listens to what: one row a key of a schedule's rule, written with the schedule.
CREATE TABLE event_listeners (
    source TEXT NOT NULL,
    schedule_id INTEGER NOT NULL,
    of_execution INTEGER NOT NULL,
    PRIMARY KEY (source, schedule_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_listeners_schedule ON event_listeners (schedule_id);
CREATE INDEX event_listeners_of_execution ON event_listeners (schedule_id) WHERE of_execution;

-- What became of an event at a schedule: once, and once more each replay.
CREATE TABLE event_deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL,
    schedule_id INTEGER NOT NULL,
    replay TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL,
    execution_id INTEGER,
    dedup_hash TEXT,
    size INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX event_deliveries_once ON event_deliveries (event_id, schedule_id, replay);
CREATE INDEX event_deliveries_held ON event_deliveries (schedule_id, id) WHERE outcome = 'held';
CREATE INDEX event_deliveries_dedup ON event_deliveries (schedule_id, dedup_hash, at) WHERE dedup_hash IS NOT NULL;
CREATE INDEX event_deliveries_schedule ON event_deliveries (schedule_id, id);
CREATE INDEX event_deliveries_at ON event_deliveries (at);

-- Webhooks that come in. `secrets` is a JSON array of {text, createdAt, expiresAt}.
CREATE TABLE inbound_webhooks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hook_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    scheme TEXT NOT NULL,
    secrets TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- What came in by them; an id is accepted once.
CREATE TABLE inbound_requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id INTEGER NOT NULL,
    message_id TEXT,
    outcome TEXT NOT NULL,
    event_id INTEGER,
    size INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX inbound_requests_once ON inbound_requests (webhook_id, message_id) WHERE message_id IS NOT NULL AND outcome = 'accepted';
CREATE INDEX inbound_requests_webhook ON inbound_requests (webhook_id, id);
CREATE INDEX inbound_requests_at ON inbound_requests (at);
