ALTER TABLE task_executions DROP COLUMN held_reason;
ALTER TABLE task_executions DROP COLUMN gated;
ALTER TABLE task_executions DROP COLUMN target;
ALTER TABLE task_executions DROP COLUMN concurrency_key;
ALTER TABLE task_executions DROP COLUMN queue;
ALTER TABLE task_executions DROP COLUMN options;
ALTER TABLE task_schedules ADD CONSTRAINT task_schedules_overlap_policy_check CHECK (overlap_policy IN ('skip', 'allow'));
ALTER TABLE task_schedules ADD CONSTRAINT task_schedules_schedule_type_check CHECK (schedule_type IN ('cron', 'interval', 'one_time'));
ALTER TABLE task_schedules DROP COLUMN options;
