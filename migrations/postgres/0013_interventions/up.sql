-- Who did what and why; written in the transaction of the act.
CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    who text NOT NULL,
    key_id bigint,
    role text NOT NULL,
    action text NOT NULL,
    subject_kind text NOT NULL,
    subject_id text,
    reason text,
    before jsonb,
    after jsonb,
    request_id text
);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_who ON audit_log (who, id);
CREATE INDEX audit_log_action ON audit_log (action, id);
CREATE INDEX audit_log_subject ON audit_log (subject_kind, subject_id, id);

-- What people did to an execution beside running it. A table of its own: the rows that run have
-- none, and nothing of it is read or written on their way.
CREATE TABLE execution_acts (
    execution_id bigint PRIMARY KEY,
    paused_at timestamptz,
    paused_by text,
    pause_reason text,
    outcome text CHECK (outcome IN ('succeeded', 'failed')),
    outcome_by text,
    outcome_at timestamptz,
    outcome_reason text,
    outcome_result jsonb
);
CREATE INDEX execution_acts_paused ON execution_acts (paused_at) WHERE paused_at IS NOT NULL;

ALTER TABLE error_records ADD COLUMN assignee text;
CREATE INDEX error_records_assignee ON error_records (assignee, id) WHERE assignee IS NOT NULL;

-- Schedules that failures paused, for those who mend them.
CREATE INDEX task_schedules_failures ON task_schedules (id) WHERE failure_streak > 0;
