DROP INDEX task_executions_pending;
DROP INDEX task_executions_short;
CREATE INDEX task_executions_status ON task_executions (status, id);
