//! What the runtime counts, one function a fact, so that a name and its labels stand in one place.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::clock::Timestamp;
use crate::domain::execution::Execution;
use crate::domain::schedule::LedgerRange;
use crate::store::AlertsDone;
use crate::telemetry::host::HostSample;
use crate::telemetry::names;

/// An execution started here.
pub fn execution_started(row: &Execution) {
    let due = row.new.available_at.max(row.new.scheduled_at);
    let wait = row.started_at.map_or(Duration::ZERO, |at| (at - due).to_std().unwrap_or_default());
    histogram!(names::EXECUTION_QUEUE, "task_type" => row.new.task.task_type.clone()).record(wait);
    if let Some(lateness) = row.lateness_ms.and_then(|ms| u64::try_from(ms).ok()) {
        histogram!(names::SCHEDULE_TICK_SKEW).record(Duration::from_millis(lateness));
    }
}

/// An execution ended here.
pub fn execution_ended(task_type: &str, outcome: &'static str, took: Duration) {
    counter!(names::EXECUTIONS, "task_type" => task_type.to_owned(), "outcome" => outcome)
        .increment(1);
    histogram!(names::EXECUTION_DURATION, "task_type" => task_type.to_owned(), "outcome" => outcome)
        .record(took);
}

/// A result was dropped because the lease was lost.
pub fn superseded() {
    counter!(names::LEASE_SUPERSEDED).increment(1);
}

/// Tasks were interrupted to make room for urgent ones.
pub fn preempted(count: usize) {
    counter!(names::PREEMPTED).increment(count as u64);
}

/// Rows of lost nodes were ended.
pub fn leases_expired(count: usize) {
    counter!(names::LEASE_EXPIRED).increment(count as u64);
}

/// Recovery started the next attempt after a failure of `kind`.
pub fn retry_started(kind: &str) {
    counter!(names::RETRIES, "kind" => kind.to_owned()).increment(1);
}

/// Alerts were raised and cleared.
pub fn alerts(done: AlertsDone) {
    counter!(names::ALERTS, "turn" => "raised").increment(done.raised);
    counter!(names::ALERTS, "turn" => "cleared").increment(done.cleared);
}

/// An attempt to deliver a message over a channel of `kind` ended.
pub fn alert_delivery(kind: &'static str, delivered: bool) {
    let result = if delivered { "delivered" } else { "failed" };
    counter!(names::ALERT_DELIVERIES, "kind" => kind, "result" => result).increment(1);
}

/// Planned instants went to the ledger.
pub fn missed(ranges: &[LedgerRange]) {
    for range in ranges {
        counter!(names::SCHEDULE_MISSED, "reason" => range.reason.as_str())
            .increment(u64::try_from(range.count).unwrap_or(0));
    }
}

/// Planned instants went to the ledger because earlier runs were not over.
pub fn overlapped(count: u64) {
    counter!(names::SCHEDULE_MISSED, "reason" => "overlap").increment(count);
}

/// How far this node's clock is from the database's.
pub fn clock_skew(ours: Timestamp, database: Timestamp) {
    #[expect(clippy::cast_precision_loss, reason = "a skew of years is exact enough")]
    let seconds = (ours - database).num_milliseconds() as f64 / 1000.0;
    gauge!(names::CLOCK_SKEW).set(seconds);
}

/// An actor crashed (and is restarted within its limits).
pub fn actor_crashed(path: &str, kind: &str) {
    counter!(names::ACTOR_RESTARTS, "actor" => path.to_owned(), "kind" => kind.to_owned())
        .increment(1);
}

/// Numbers that are read when somebody looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Tasks running here.
    pub running: usize,
    /// Executions that may be claimed.
    pub ready: i64,
    /// Dead letters in the queue.
    pub dead_letters: i64,
    /// Breakers that are open or half open.
    pub breakers_open: i64,
    /// Number of the newest event.
    pub event_seq: i64,
    /// Open sessions.
    pub sessions: usize,
}

/// Sets the gauges.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; these counts are far below 2^53"
)]
pub fn gauges(values: Gauges) {
    gauge!(names::EXECUTIONS_RUNNING).set(values.running as f64);
    gauge!(names::QUEUE_DEPTH).set(values.ready as f64);
    gauge!(names::DLQ_DEPTH).set(values.dead_letters as f64);
    gauge!(names::BREAKERS_OPEN).set(values.breakers_open as f64);
    gauge!(names::EVENT_SEQ).set(values.event_seq as f64);
    gauge!(names::WS_CLIENTS).set(values.sessions as f64);
}

/// The machine, and how much of the work it turns away: 0 none, 1 all but the urgent, 2 all.
pub fn host(host: &HostSample, level: u8) {
    const MEBIBYTE: f64 = 1_048_576.0;
    gauge!(names::HOST_CPUS).set(host.cpus);
    gauge!(names::HOST_LOAD).set(host.load);
    gauge!(names::HOST_MEMORY_FREE).set(host.memory_free_mb * MEBIBYTE);
    gauge!(names::HOST_DISK_FREE).set(host.disk_free_mb * MEBIBYTE);
    gauge!(names::ADMISSION_PRESSURE).set(f64::from(level));
}

/// Backfills that are not over, and the instants before them.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
pub fn backfills(running: usize, left: i64) {
    gauge!(names::BACKFILLS_RUNNING).set(running as f64);
    gauge!(names::BACKFILL_LEFT).set(left.max(0) as f64);
}

/// Deadlines that passed, and those in doubt.
pub fn deadlines(missed: usize, at_risk: usize) {
    counter!(names::SLA_MISSED).increment(missed as u64);
    counter!(names::SLA_AT_RISK).increment(at_risk as u64);
}

/// The mailbox of an actor: how many wait.
pub fn mailbox(path: &str, depth: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a mailbox holds at most thousands")]
    gauge!(names::MAILBOX_DEPTH, "actor" => path.to_owned()).set(depth as f64);
}
