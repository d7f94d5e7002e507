DROP INDEX task_executions_chain;
CREATE INDEX task_executions_chain ON task_executions (chain_id, id);
DROP INDEX task_executions_schedule;
CREATE INDEX task_executions_schedule ON task_executions (schedule_id, status, id);
DROP INDEX task_executions_schedule_newest;
CREATE INDEX task_executions_schedule_newest ON task_executions (schedule_id, id);
DROP INDEX task_executions_active;
CREATE INDEX task_executions_active ON task_executions (schedule_id) WHERE status IN ('pending', 'running');
