-- Named calendars, and which schedules obey them.
CREATE TABLE calendars (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    timezone TEXT NOT NULL,
    entries TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE TABLE schedule_calendars (
    schedule_id INTEGER NOT NULL,
    calendar_id INTEGER NOT NULL,
    PRIMARY KEY (schedule_id, calendar_id)
) STRICT;
CREATE INDEX schedule_calendars_calendar ON schedule_calendars (calendar_id, schedule_id);

-- Up to where the ledger tells of what calendars and clock changes take away; a pause that ends by
-- itself and why there is one; failed chains in a row.
ALTER TABLE task_schedules ADD COLUMN settled_at INTEGER;
ALTER TABLE task_schedules ADD COLUMN paused_until INTEGER;
ALTER TABLE task_schedules ADD COLUMN pause_reason TEXT;
ALTER TABLE task_schedules ADD COLUMN failure_streak INTEGER NOT NULL DEFAULT 0;
CREATE INDEX task_schedules_resumes ON task_schedules (paused_until, id) WHERE paused_until IS NOT NULL;

-- The words of the ledger are the code's. A check cannot be taken from a table here, so that it is
-- made anew.
CREATE TABLE schedule_ledger_made (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule_id INTEGER NOT NULL,
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    instants INTEGER NOT NULL,
    reason TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO schedule_ledger_made (id, schedule_id, from_at, to_at, instants, reason, created_at)
    SELECT id, schedule_id, from_at, to_at, instants, reason, created_at FROM schedule_ledger;
DROP TABLE schedule_ledger;
ALTER TABLE schedule_ledger_made RENAME TO schedule_ledger;
CREATE INDEX schedule_ledger_schedule ON schedule_ledger (schedule_id, id);
CREATE INDEX schedule_ledger_created ON schedule_ledger (created_at);
CREATE INDEX schedule_ledger_instants ON schedule_ledger (schedule_id, to_at);

-- Past instants that are run on purpose. `position` is the last instant that was decided.
CREATE TABLE backfills (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule_id INTEGER NOT NULL,
    schedule_name TEXT NOT NULL,
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    run_order TEXT NOT NULL,
    again INTEGER NOT NULL,
    per_minute INTEGER,
    max_concurrent INTEGER NOT NULL,
    status TEXT NOT NULL,
    position INTEGER,
    planned INTEGER NOT NULL,
    made INTEGER NOT NULL DEFAULT 0,
    left_out INTEGER NOT NULL DEFAULT 0,
    next_start_at INTEGER,
    created_by TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ended_at INTEGER,
    reason TEXT
) STRICT;
CREATE INDEX backfills_running ON backfills (id) WHERE status = 'running';
CREATE INDEX backfills_schedule ON backfills (schedule_id, id);

-- An instant is backfilled once, and once more by each backfill that is to run it again.
CREATE UNIQUE INDEX task_executions_backfill ON task_executions (
    schedule_id,
    scheduled_at,
    (CASE WHEN json_extract(options, '$.backfill.again') THEN json_extract(options, '$.backfill.id') ELSE 0 END)
) WHERE "trigger" = 'backfill' AND attempt = 1;
