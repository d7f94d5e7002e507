-- One key orders claims: the instant from which a row may run, and a fixed time on top for what is
-- less urgent, so that age outweighs priority in the end. Rows that are admitted one by one are in
-- indexes of their own, by what holds them.
ALTER TABLE task_executions ADD COLUMN rank_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task_executions ADD COLUMN held_by TEXT NOT NULL DEFAULT '';
UPDATE task_executions SET rank_at = available_at + CASE priority_rank WHEN 0 THEN 0 WHEN 1 THEN 60000000 ELSE 300000000 END WHERE status = 'pending';
DROP INDEX task_executions_claim;
CREATE INDEX task_executions_claim ON task_executions (rank_at, id) WHERE status = 'pending' AND NOT gated;
DROP INDEX task_executions_available;
CREATE INDEX task_executions_available ON task_executions (available_at) WHERE status = 'pending' AND NOT gated;
CREATE INDEX task_executions_urgent ON task_executions (rank_at, id) WHERE status = 'pending' AND NOT gated AND priority_rank = 0;
CREATE INDEX task_executions_gated ON task_executions (held_by, rank_at, id) WHERE status = 'pending' AND gated;
CREATE INDEX task_executions_gated_available ON task_executions (available_at) WHERE status = 'pending' AND gated;
CREATE INDEX task_executions_elders ON task_executions (rank_at, id) WHERE status = 'pending' AND gated AND held_by >= '~';
CREATE INDEX task_executions_queue ON task_executions (queue, status) WHERE queue IS NOT NULL AND status IN ('pending', 'running');
CREATE INDEX task_executions_queue_starts ON task_executions (queue, started_at) WHERE queue IS NOT NULL AND started_at IS NOT NULL;
CREATE INDEX task_executions_key ON task_executions (concurrency_key, status) WHERE concurrency_key IS NOT NULL AND status IN ('pending', 'running');
CREATE INDEX task_executions_key_starts ON task_executions (concurrency_key, started_at) WHERE concurrency_key IS NOT NULL AND started_at IS NOT NULL;

-- Queues that somebody named limits for, or paused.
CREATE TABLE task_queues (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    max_concurrent INTEGER,
    rate_per_minute INTEGER,
    paused_at INTEGER,
    pause_reason TEXT,
    paused_by TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- Chains that are to succeed by an instant. `risk_at`: when they must run at the latest, by what
-- their schedule's runs take; empty once that was told or is past.
CREATE TABLE chain_deadlines (
    chain_id TEXT NOT NULL PRIMARY KEY,
    schedule_id INTEGER,
    schedule_name TEXT,
    execution_id INTEGER NOT NULL,
    deadline_at INTEGER NOT NULL,
    risk_at INTEGER,
    expected_ms INTEGER
) STRICT;
CREATE INDEX chain_deadlines_deadline ON chain_deadlines (deadline_at);
CREATE INDEX chain_deadlines_risk ON chain_deadlines (risk_at) WHERE risk_at IS NOT NULL;
