-- What a schedule says beyond the basics, one document; the words of a closed set are the code's.
ALTER TABLE task_schedules ADD COLUMN options jsonb NOT NULL DEFAULT '{}';
ALTER TABLE task_schedules DROP CONSTRAINT task_schedules_schedule_type_check;
ALTER TABLE task_schedules DROP CONSTRAINT task_schedules_overlap_policy_check;

-- What goes with an execution, and what it waits for beside its instant and a free slot: a queue, a
-- key whose holders are counted, a target whose breaker may be open. `gated` rows are claimed apart.
ALTER TABLE task_executions ADD COLUMN options jsonb;
ALTER TABLE task_executions ADD COLUMN queue text;
ALTER TABLE task_executions ADD COLUMN concurrency_key text;
ALTER TABLE task_executions ADD COLUMN target text;
ALTER TABLE task_executions ADD COLUMN gated boolean NOT NULL DEFAULT false;
ALTER TABLE task_executions ADD COLUMN held_reason text;
