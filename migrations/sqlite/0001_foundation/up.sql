-- Times are INTEGER microseconds since 1970; JSON is TEXT; enums are text with a CHECK.

-- The definition of each schedule and where its planned instants stand.
CREATE TABLE task_schedules (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    task_type TEXT NOT NULL,
    task_config TEXT NOT NULL,
    schedule_type TEXT NOT NULL CHECK (schedule_type IN ('cron', 'interval', 'one_time')),
    schedule_config TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    priority_rank INTEGER NOT NULL CHECK (priority_rank BETWEEN 0 AND 2),
    timeout_ms INTEGER,
    max_concurrent INTEGER,
    overlap_policy TEXT NOT NULL CHECK (overlap_policy IN ('skip', 'allow')),
    misfire_policy TEXT NOT NULL CHECK (misfire_policy IN ('coalesce', 'run_all', 'skip')),
    misfire_grace_ms INTEGER NOT NULL,
    catchup_window_ms INTEGER NOT NULL,
    catchup_max INTEGER NOT NULL,
    catchup_per_minute INTEGER,
    retry_policy TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    cost_per_hour REAL,
    start_at INTEGER,
    end_at INTEGER,
    max_executions INTEGER,
    tags TEXT NOT NULL,
    owner TEXT,
    next_run_at INTEGER,
    last_run_at INTEGER,
    fired INTEGER NOT NULL DEFAULT 0,
    paused_at INTEGER,
    resumed_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX task_schedules_due ON task_schedules (next_run_at, id) WHERE enabled AND next_run_at IS NOT NULL;
CREATE INDEX task_schedules_enabled ON task_schedules (enabled, id);
CREATE INDEX task_schedules_task_type ON task_schedules (task_type, id);

-- One row an attempt to run a task; no foreign key, as history outlives its schedule. The checks are
-- spelled out: for an `IN` SQLite builds a table of its values with each row it writes.
CREATE TABLE task_executions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT NOT NULL UNIQUE,
    chain_id TEXT NOT NULL,
    schedule_id INTEGER,
    schedule_name TEXT,
    "trigger" TEXT NOT NULL CHECK ("trigger" = 'schedule' OR "trigger" = 'manual' OR "trigger" = 'api' OR "trigger" = 'event' OR "trigger" = 'retry' OR "trigger" = 'backfill'),
    task_type TEXT NOT NULL,
    task_config TEXT NOT NULL,
    timeout_ms INTEGER,
    retry_policy TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity = 'low' OR severity = 'medium' OR severity = 'high' OR severity = 'critical'),
    cost_per_hour REAL,
    tags TEXT NOT NULL,
    owner TEXT,
    priority_rank INTEGER NOT NULL CHECK (priority_rank BETWEEN 0 AND 2),
    attempt INTEGER NOT NULL,
    retry_of INTEGER,
    scheduled_at INTEGER NOT NULL,
    available_at INTEGER NOT NULL,
    failures_before INTEGER NOT NULL,
    crashes_before INTEGER NOT NULL,
    dead_letter_id INTEGER,
    dedup_key TEXT,
    traceparent TEXT,
    created_by TEXT,
    status TEXT NOT NULL CHECK (status = 'pending' OR status = 'running' OR status = 'completed' OR status = 'failed' OR status = 'timeout' OR status = 'cancelled' OR status = 'skipped'),
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    completed_at INTEGER,
    duration_ms INTEGER,
    lateness_ms INTEGER,
    result TEXT,
    error TEXT,
    node_id TEXT,
    lease_owner TEXT,
    cancel_requested_at INTEGER,
    conductor_thread_id TEXT,
    conductor_status TEXT,
    cost REAL
) STRICT;
CREATE UNIQUE INDEX task_executions_instant ON task_executions (schedule_id, scheduled_at) WHERE "trigger" = 'schedule';
CREATE UNIQUE INDEX task_executions_dedup ON task_executions (dedup_key) WHERE dedup_key IS NOT NULL AND status IN ('pending', 'running');
CREATE INDEX task_executions_claim ON task_executions (priority_rank, available_at, id) WHERE status = 'pending';
CREATE INDEX task_executions_available ON task_executions (available_at) WHERE status = 'pending';
CREATE INDEX task_executions_running ON task_executions (lease_owner, id) WHERE status = 'running';
CREATE INDEX task_executions_active ON task_executions (schedule_id) WHERE status IN ('pending', 'running');
CREATE INDEX task_executions_status ON task_executions (status, id);
CREATE INDEX task_executions_schedule ON task_executions (schedule_id, status, id);
CREATE INDEX task_executions_schedule_newest ON task_executions (schedule_id, id);
CREATE INDEX task_executions_chain ON task_executions (chain_id, id);
CREATE INDEX task_executions_completed ON task_executions (completed_at) WHERE completed_at IS NOT NULL;

-- What tasks said, a line a row.
CREATE TABLE execution_logs (
    execution_id INTEGER NOT NULL,
    line INTEGER NOT NULL,
    at INTEGER NOT NULL,
    stream TEXT NOT NULL CHECK (stream IN ('stdout', 'stderr', 'system')),
    "text" TEXT NOT NULL,
    PRIMARY KEY (execution_id, line)
) STRICT, WITHOUT ROWID;
CREATE INDEX execution_logs_at ON execution_logs (at);

-- One record a chain that failed.
CREATE TABLE error_records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chain_id TEXT NOT NULL UNIQUE,
    error_type TEXT NOT NULL CHECK (error_type IN ('execution_failure', 'timeout', 'conductor_error', 'node_lost', 'internal')),
    severity TEXT NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    recovery_status TEXT NOT NULL CHECK (recovery_status IN ('unresolved', 'retry_scheduled', 'retrying', 'resolved', 'ignored', 'escalated')),
    execution_id INTEGER NOT NULL,
    schedule_id INTEGER,
    schedule_name TEXT,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    recovery_attempts INTEGER NOT NULL DEFAULT 0,
    max_retry_attempts INTEGER NOT NULL,
    next_retry_at INTEGER,
    resolved_at INTEGER,
    resolution_notes TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX error_records_due ON error_records (next_retry_at, id) WHERE next_retry_at IS NOT NULL;
CREATE INDEX error_records_status ON error_records (recovery_status, id);
CREATE INDEX error_records_severity ON error_records (severity, id);
CREATE INDEX error_records_schedule ON error_records (schedule_id, id);
CREATE INDEX error_records_updated ON error_records (updated_at);

-- One row a chain that recovery gave up on.
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    error_id INTEGER NOT NULL,
    chain_id TEXT NOT NULL,
    schedule_id INTEGER,
    schedule_name TEXT,
    task TEXT NOT NULL,
    cause TEXT NOT NULL,
    attempts TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'resubmitted', 'recovered', 'discarded')),
    resubmitted_chain_id TEXT,
    resubmitted_at INTEGER,
    discard_reason TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letters_status ON dead_letters (status, id);
CREATE INDEX dead_letters_schedule ON dead_letters (schedule_id, id);
CREATE INDEX dead_letters_chain ON dead_letters (chain_id);
CREATE INDEX dead_letters_resubmitted_chain ON dead_letters (resubmitted_chain_id);
CREATE INDEX dead_letters_created ON dead_letters (created_at);

-- Planned instants that did not run, a range a row.
CREATE TABLE schedule_ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule_id INTEGER NOT NULL,
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    instants INTEGER NOT NULL,
    reason TEXT NOT NULL CHECK (reason IN ('overlap', 'paused', 'misfire', 'window', 'calendar', 'clock_change', 'no_capacity', 'stopped')),
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX schedule_ledger_schedule ON schedule_ledger (schedule_id, id);
CREATE INDEX schedule_ledger_created ON schedule_ledger (created_at);

-- The number of the newest event; its row lock orders commits.
CREATE TABLE event_counter (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL
) STRICT;
INSERT INTO event_counter (id, last) VALUES (1, 0);

-- Committed facts, numbered densely in commit order.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    room TEXT NOT NULL CHECK (room IN ('tasks', 'workflows', 'alerts', 'admin')),
    schedule_id INTEGER,
    execution_id INTEGER,
    severity TEXT,
    tags TEXT NOT NULL,
    owner TEXT,
    payload TEXT NOT NULL
) STRICT;

-- Running servers; a node's lease covers every execution it runs.
CREATE TABLE nodes (
    boot_id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    stopped_at INTEGER
) STRICT;

-- Answers kept for a day, so that a repeated request is applied once.
CREATE TABLE idempotency_keys (
    "key" TEXT PRIMARY KEY,
    body_hash TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

-- Small facts that hold for the whole system.
CREATE TABLE system_state (
    "key" TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- API keys; the secret itself is never stored.
CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    prefix TEXT NOT NULL UNIQUE,
    secret_hash TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    revoked_at INTEGER
) STRICT;

-- WebSocket sessions, open and recently closed.
CREATE TABLE websocket_sessions (
    session_id TEXT PRIMARY KEY,
    boot_id TEXT NOT NULL,
    key_name TEXT,
    client_info TEXT NOT NULL,
    subscriptions TEXT,
    connected_at INTEGER NOT NULL,
    closed_at INTEGER
) STRICT;
CREATE INDEX websocket_sessions_open ON websocket_sessions (boot_id) WHERE closed_at IS NULL;
CREATE INDEX websocket_sessions_closed ON websocket_sessions (closed_at) WHERE closed_at IS NOT NULL;
