DROP INDEX schedule_ledger_instants;
ALTER TABLE execution_logs DROP COLUMN dropped_bytes;
ALTER TABLE execution_logs DROP COLUMN dropped_lines;
ALTER TABLE execution_logs DROP COLUMN continues;
