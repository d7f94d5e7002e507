-- Who did what and why; written in the transaction of the act.
CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    key_id INTEGER,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject_id TEXT,
    reason TEXT,
    before TEXT,
    after TEXT,
    request_id TEXT
) STRICT;
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_who ON audit_log (who, id);
CREATE INDEX audit_log_action ON audit_log (action, id);
CREATE INDEX audit_log_subject ON audit_log (subject_kind, subject_id, id);

-- What people did to an execution beside running it. A table of its own: the rows that run have
-- none, and nothing of it is read or written on their way.
CREATE TABLE execution_acts (
    execution_id INTEGER PRIMARY KEY,
    paused_at INTEGER,
    paused_by TEXT,
    pause_reason TEXT,
    outcome TEXT CHECK (outcome = 'succeeded' OR outcome = 'failed'),
    outcome_by TEXT,
    outcome_at INTEGER,
    outcome_reason TEXT,
    outcome_result TEXT
) STRICT;
CREATE INDEX execution_acts_paused ON execution_acts (paused_at) WHERE paused_at IS NOT NULL;

ALTER TABLE error_records ADD COLUMN assignee TEXT;
CREATE INDEX error_records_assignee ON error_records (assignee, id) WHERE assignee IS NOT NULL;

-- Schedules that failures paused, for those who mend them.
CREATE INDEX task_schedules_failures ON task_schedules (id) WHERE failure_streak > 0;
