-- A line whose text goes on in the next line of its stream.
ALTER TABLE execution_logs ADD COLUMN continues boolean NOT NULL DEFAULT false;
-- Set together, on a line that stands for lines which were not kept: how much was here. Its own
-- number is that of the first of them.
ALTER TABLE execution_logs ADD COLUMN dropped_lines bigint;
ALTER TABLE execution_logs ADD COLUMN dropped_bytes bigint;

-- Serves the outcomes of a schedule in the order of time.
CREATE INDEX schedule_ledger_instants ON schedule_ledger (schedule_id, to_at);
