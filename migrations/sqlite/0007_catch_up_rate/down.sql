ALTER TABLE task_schedules DROP COLUMN catch_up_at;
