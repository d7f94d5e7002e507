DROP INDEX task_schedules_failures;
DROP INDEX error_records_assignee;
ALTER TABLE error_records DROP COLUMN assignee;
DROP TABLE execution_acts;
DROP TABLE audit_log;
