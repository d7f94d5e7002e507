ALTER TABLE task_executions DROP COLUMN held_reason;
ALTER TABLE task_executions DROP COLUMN gated;
ALTER TABLE task_executions DROP COLUMN target;
ALTER TABLE task_executions DROP COLUMN concurrency_key;
ALTER TABLE task_executions DROP COLUMN queue;
ALTER TABLE task_executions DROP COLUMN options;
CREATE TABLE task_schedules_made (
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
    version INTEGER NOT NULL DEFAULT 1,
    catch_up_at INTEGER
) STRICT;
INSERT INTO task_schedules_made (id, name, description, task_type, task_config, schedule_type, schedule_config, enabled, priority_rank, timeout_ms, max_concurrent, overlap_policy, misfire_policy, misfire_grace_ms, catchup_window_ms, catchup_max, catchup_per_minute, retry_policy, severity, cost_per_hour, start_at, end_at, max_executions, tags, owner, next_run_at, last_run_at, fired, paused_at, resumed_at, created_at, updated_at, version, catch_up_at)
    SELECT id, name, description, task_type, task_config, schedule_type, schedule_config, enabled, priority_rank, timeout_ms, max_concurrent, overlap_policy, misfire_policy, misfire_grace_ms, catchup_window_ms, catchup_max, catchup_per_minute, retry_policy, severity, cost_per_hour, start_at, end_at, max_executions, tags, owner, next_run_at, last_run_at, fired, paused_at, resumed_at, created_at, updated_at, version, catch_up_at FROM task_schedules;
-- Ids are not used again, also those of schedules that were deleted.
DELETE FROM sqlite_sequence WHERE name = 'task_schedules_made';
INSERT INTO sqlite_sequence (name, seq) SELECT 'task_schedules_made', seq FROM sqlite_sequence WHERE name = 'task_schedules';
DROP TABLE task_schedules;
ALTER TABLE task_schedules_made RENAME TO task_schedules;
CREATE INDEX task_schedules_due ON task_schedules (next_run_at, id) WHERE enabled AND next_run_at IS NOT NULL;
CREATE INDEX task_schedules_enabled ON task_schedules (enabled, id);
CREATE INDEX task_schedules_task_type ON task_schedules (task_type, id);
