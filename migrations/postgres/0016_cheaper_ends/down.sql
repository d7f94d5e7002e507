DROP INDEX task_executions_short;
CREATE INDEX task_executions_short ON task_executions (status, id) WHERE status IN ('failed', 'timeout', 'cancelled', 'skipped');
CREATE INDEX task_executions_active ON task_executions (schedule_id) WHERE schedule_id IS NOT NULL AND status IN ('pending', 'running');
