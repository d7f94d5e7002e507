-- A breaker a target that ever failed: `recent` has a character a run that said something, oldest
-- first, `1` where it failed; empty while nothing failed.
CREATE TABLE breakers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    "key" TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('closed', 'open', 'half_open')),
    recent TEXT NOT NULL,
    in_a_row INTEGER NOT NULL,
    policy_failures INTEGER NOT NULL,
    policy_window INTEGER NOT NULL,
    policy_open_ms INTEGER NOT NULL,
    opened_at INTEGER,
    probe_at INTEGER,
    probe_id INTEGER,
    forced TEXT CHECK (forced IN ('open', 'closed')),
    forced_until INTEGER,
    forced_by TEXT,
    forced_reason TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- What became of a breaker, and by whom.
CREATE TABLE breaker_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    breaker_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    cause TEXT NOT NULL,
    execution_id INTEGER,
    by_whom TEXT,
    reason TEXT
) STRICT;
CREATE INDEX breaker_history_breaker ON breaker_history (breaker_id, id);

-- What waits for a target is set aside when its breaker opens.
CREATE INDEX task_executions_target ON task_executions (target) WHERE target IS NOT NULL AND status = 'pending';

-- Failures of one cause, counted an attempt.
CREATE TABLE error_groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    fingerprint TEXT NOT NULL UNIQUE,
    error_type TEXT NOT NULL,
    task_type TEXT NOT NULL,
    kind TEXT NOT NULL,
    exit_code INTEGER,
    pattern TEXT NOT NULL,
    message TEXT NOT NULL,
    occurrences INTEGER NOT NULL,
    first_seen_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    last_execution_id INTEGER NOT NULL,
    last_schedule_id INTEGER,
    status TEXT NOT NULL CHECK (status IN ('open', 'resolved', 'regressed')),
    resolved_at INTEGER,
    resolved_by TEXT,
    resolution_notes TEXT,
    regressed_at INTEGER,
    regressions INTEGER NOT NULL
) STRICT;
CREATE INDEX error_groups_status ON error_groups (status, id);
CREATE INDEX error_groups_seen ON error_groups (last_seen_at);
CREATE INDEX error_records_fingerprint ON error_records (fingerprint, id);

-- When retries were granted to a schedule, or to a chain without one.
CREATE TABLE retry_budgets (
    "key" TEXT PRIMARY KEY,
    taken TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX retry_budgets_updated ON retry_budgets (updated_at);

ALTER TABLE dead_letters ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
UPDATE dead_letters SET fingerprint = coalesce((SELECT r.fingerprint FROM error_records r WHERE r.id = dead_letters.error_id), '');
CREATE INDEX dead_letters_group ON dead_letters (fingerprint, cause, id);
