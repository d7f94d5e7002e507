-- What the processes of a command used, and how many of them had to be ended: {"processesKilled",
-- "peakMemoryBytes", "cpuMs"}. One column, for only commands have it.
ALTER TABLE task_executions ADD COLUMN usage jsonb;
