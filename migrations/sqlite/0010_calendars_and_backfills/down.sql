DROP INDEX task_executions_backfill;
DROP TABLE backfills;
CREATE TABLE schedule_ledger_made (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule_id INTEGER NOT NULL,
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    instants INTEGER NOT NULL,
    reason TEXT NOT NULL CHECK (reason IN ('overlap', 'paused', 'misfire', 'window', 'calendar', 'clock_change', 'no_capacity', 'stopped')),
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO schedule_ledger_made (id, schedule_id, from_at, to_at, instants, reason, created_at)
    SELECT id, schedule_id, from_at, to_at, instants, CASE reason WHEN 'skipped' THEN 'paused' ELSE reason END, created_at FROM schedule_ledger;
DROP TABLE schedule_ledger;
ALTER TABLE schedule_ledger_made RENAME TO schedule_ledger;
CREATE INDEX schedule_ledger_schedule ON schedule_ledger (schedule_id, id);
CREATE INDEX schedule_ledger_created ON schedule_ledger (created_at);
CREATE INDEX schedule_ledger_instants ON schedule_ledger (schedule_id, to_at);
DROP INDEX task_schedules_resumes;
ALTER TABLE task_schedules DROP COLUMN failure_streak;
ALTER TABLE task_schedules DROP COLUMN pause_reason;
ALTER TABLE task_schedules DROP COLUMN paused_until;
ALTER TABLE task_schedules DROP COLUMN settled_at;
DROP TABLE schedule_calendars;
DROP TABLE calendars;
