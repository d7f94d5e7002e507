DROP INDEX task_executions_pending;
DROP INDEX task_executions_short;
CREATE INDEX task_executions_status ON task_executions (status, id);
CREATE INDEX task_schedules_enabled ON task_schedules (enabled, id);
CREATE INDEX task_schedules_task_type ON task_schedules (task_type, id);
