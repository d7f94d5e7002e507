-- A line whose text goes on in the next line of its stream.
ALTER TABLE execution_logs ADD COLUMN continues INTEGER NOT NULL DEFAULT 0;
-- Set together, on a line that stands for lines which were not kept: how much was here. Its own
-- number is that of the first of them.
ALTER TABLE execution_logs ADD COLUMN dropped_lines INTEGER;
ALTER TABLE execution_logs ADD COLUMN dropped_bytes INTEGER;

-- Serves the outcomes of a schedule in the order of time.
CREATE INDEX schedule_ledger_instants ON schedule_ledger (schedule_id, to_at);
