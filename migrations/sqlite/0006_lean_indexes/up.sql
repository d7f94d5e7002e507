-- An index costs every run that it holds. First attempts are found by their public id, which is
-- their chain's; work without a schedule has no place among a schedule's.
DROP INDEX task_executions_chain;
CREATE INDEX task_executions_chain ON task_executions (chain_id, id) WHERE attempt > 1;
DROP INDEX task_executions_schedule;
CREATE INDEX task_executions_schedule ON task_executions (schedule_id, status, id) WHERE schedule_id IS NOT NULL;
DROP INDEX task_executions_schedule_newest;
CREATE INDEX task_executions_schedule_newest ON task_executions (schedule_id, id) WHERE schedule_id IS NOT NULL;
DROP INDEX task_executions_active;
CREATE INDEX task_executions_active ON task_executions (schedule_id) WHERE schedule_id IS NOT NULL AND status IN ('pending', 'running');
