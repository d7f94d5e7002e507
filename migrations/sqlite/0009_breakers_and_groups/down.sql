DROP INDEX dead_letters_group;
ALTER TABLE dead_letters DROP COLUMN fingerprint;
DROP TABLE retry_budgets;
DROP INDEX error_records_fingerprint;
DROP TABLE error_groups;
DROP INDEX task_executions_target;
DROP TABLE breaker_history;
DROP TABLE breakers;
