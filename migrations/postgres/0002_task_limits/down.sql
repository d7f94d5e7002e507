ALTER TABLE task_executions DROP COLUMN usage;
