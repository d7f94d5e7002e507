-- The earliest instant at which the schedule may start the next run it catches up on.
ALTER TABLE task_schedules ADD COLUMN catch_up_at INTEGER;
