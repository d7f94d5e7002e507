-- The same rule in the words that are cheap on the other back end too.
DROP INDEX task_executions_short;
CREATE INDEX task_executions_short ON task_executions (status, id) WHERE status <> 'completed' AND status <> 'pending' AND status <> 'running';
-- A schedule's rows have an index by status already, which finds the active ones as well.
DROP INDEX task_executions_active;
