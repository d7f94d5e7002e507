//! The names of all metrics. Labels are few and bounded (a task type, an outcome, a reason, an
//! actor's path), never an id: ten thousand schedules must not grow the number of series.

/// What kind of metric a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in seconds.
    Histogram,
}

/// One metric: its name, kind, labels and meaning.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The labels it has.
    pub labels: &'static [&'static str],
    /// One sentence for `# HELP`.
    pub help: &'static str,
}

/// Declares the constants and the table of all of them.
macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(#[doc = $help] pub const $constant: &str = concat!("carillon_", $name);)+

        /// Every metric there is.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $constant,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        },)+];
    };
}

metrics! {
    SCHEDULE_TICK_SKEW = Histogram "schedule_tick_skew_seconds" []
        "Start minus due instant of scheduled runs.";
    SCHEDULE_MISSED = Counter "schedule_missed_total" ["reason"]
        "Planned instants that did not run, by reason.";
    EXECUTIONS = Counter "executions_total" ["task_type", "outcome"]
        "Executions that ended, by outcome.";
    EXECUTION_QUEUE = Histogram "execution_queue_seconds" ["task_type"]
        "Wait from due to start.";
    EXECUTION_DURATION = Histogram "execution_duration_seconds" ["task_type", "outcome"]
        "Time from start to end.";
    EXECUTIONS_RUNNING = Gauge "executions_running" []
        "Executions running on this node.";
    QUEUE_DEPTH = Gauge "queue_depth" []
        "Executions that wait for a slot.";
    QUEUE_OLDEST = Gauge "queue_oldest_seconds" []
        "Age of the longest-waiting execution.";
    HOST_CPUS = Gauge "host_cpus" []
        "Processors that this node may use.";
    HOST_LOAD = Gauge "host_load" []
        "Load of the machine over one minute.";
    HOST_MEMORY_FREE = Gauge "host_memory_free_bytes" []
        "Memory that this node can still have.";
    HOST_DISK_FREE = Gauge "host_disk_free_bytes" []
        "What is free of the data directory's disk.";
    ADMISSION_PRESSURE = Gauge "admission_pressure" []
        "Work that is turned away for want of memory or disk: 0 none, 1 all but high priority, 2 all.";
    SLA_MISSED = Counter "sla_missed_total" []
        "Chains that had not succeeded by their deadline.";
    SLA_AT_RISK = Counter "sla_at_risk_total" []
        "Chains that had not begun in time to meet their deadline.";
    BACKFILLS_RUNNING = Gauge "backfills_running" []
        "Backfills that are not over.";
    BACKFILL_LEFT = Gauge "backfill_instants_left" []
        "Instants that they have not decided yet.";
    RETRIES = Counter "retries_total" ["kind"]
        "Retries made, by kind of failure.";
    DLQ_DEPTH = Gauge "dlq_depth" []
        "Dead letters that wait for a person.";
    LEASE_EXPIRED = Counter "lease_expired_total" []
        "Running executions taken from a node that went silent.";
    LEASE_SUPERSEDED = Counter "lease_superseded_total" []
        "Results dropped because the lease was lost.";
    PREEMPTED = Counter "preempted_total" []
        "Tasks interrupted to make room for urgent ones.";
    NODE_HEARTBEAT_AGE = Gauge "node_heartbeat_age_seconds" []
        "Age of this node's last confirmed heartbeat.";
    CLOCK_SKEW = Gauge "clock_skew_seconds" []
        "This node's clock minus the database's.";
    BREAKERS_OPEN = Gauge "breakers_open" []
        "Circuit breakers that are open.";
    ACTOR_RESTARTS = Counter "actor_restarts_total" ["actor", "kind"]
        "Restarts of an actor, by kind of crash.";
    MAILBOX_DEPTH = Gauge "mailbox_depth" ["actor"]
        "Messages that wait for an actor.";
    MAILBOX_REJECTED = Counter "mailbox_rejected_total" ["actor"]
        "Messages refused by a full mailbox.";
    EVENT_SEQ = Gauge "event_seq" []
        "Number of the newest event seen.";
    EVENT_LAG = Gauge "event_lag_seconds" []
        "Age of the newest event when it was fanned out.";
    WS_CLIENTS = Gauge "ws_clients" []
        "Open live sessions.";
    WS_SENT = Counter "ws_sent_total" []
        "Messages sent to live sessions.";
    WS_DROPPED = Counter "ws_dropped_total" ["reason"]
        "Messages not sent to a live session.";
    WEBHOOK_DELIVERIES = Counter "webhook_deliveries_total" ["result"]
        "Webhook deliveries, by result.";
    ALERTS = Counter "alerts_total" ["turn"]
        "Alerts that were raised or cleared.";
    ALERT_DELIVERIES = Counter "alert_deliveries_total" ["kind", "result"]
        "Attempts to deliver a message about alerts, by kind of channel and result.";
    DB_POOL_IN_USE = Gauge "db_pool_in_use" []
        "Database connections in use.";
    DB_WAIT = Histogram "db_pool_wait_seconds" []
        "Wait for a database connection.";
    DB_ERRORS = Counter "db_errors_total" ["kind"]
        "Failed database operations.";
    ORPHANS_REAPED = Counter "orphans_reaped_total" []
        "Processes that outlived their task and were ended.";
    AUTH_FAILURES = Counter "auth_failures_total" ["reason"]
        "Refused credentials.";
    RATE_LIMITED = Counter "rate_limited_total" []
        "Requests refused with 429.";
    HTTP_REQUESTS = Counter "http_requests_total" ["method", "status"]
        "HTTP requests answered.";
    HTTP_DURATION = Histogram "http_request_duration_seconds" ["method"]
        "Time to answer an HTTP request.";
    BUILD_INFO = Gauge "build_info" ["version"]
        "Always 1; the version is its label.";
}
