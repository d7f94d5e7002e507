//! What happens after a failed attempt: pure.
//!
//! An attempt that failed is charged to one of three accounts. A failure of the task counts
//! against `maxAttempts`; a lost node counts against `maxCrashAttempts` (a task that keeps taking
//! its node down is poison); an interruption, by a shutdown or for something urgent, counts against
//! neither. The decision is made from the row alone, with the rules that it carries, so that the
//! transaction that ends the attempt can write it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::classification::{Class, Failure, classify};
use crate::domain::error_record::{ErrorType, FailureEntry, RecoveryDecision, RecoveryStatus};
use crate::domain::execution::{
    Execution, ExecutionError, ExecutionStatus, Gates, NewExecution, Severity, Trigger,
};
use crate::domain::fingerprint::{fingerprint, pattern_of};
use crate::domain::options::Away;
use crate::domain::retry::RetryPolicy;

/// Kind of an attempt whose node was lost.
pub const NODE_LOST: &str = "node_lost";
/// Kind of an attempt that a shutdown ended.
pub const INTERRUPTED: &str = "interrupted";
/// Kind of an attempt that made room for something urgent.
pub const PREEMPTED: &str = "preempted";
/// Kind of an attempt that ran longer than its timeout.
pub const TIMEOUT: &str = "timeout";

/// Limits of recovery that are settings, not policy.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryLimits {
    /// Attempts of one chain that may take their node down.
    pub max_crash_attempts: i32,
}

/// Which account a failed attempt is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// `maxAttempts`.
    Failure,
    /// `maxCrashAttempts`.
    Crash,
    /// None.
    Free,
}

impl Charge {
    /// The account of an error kind.
    #[must_use]
    pub fn of(kind: &str) -> Self {
        match kind {
            NODE_LOST => Self::Crash,
            INTERRUPTED | PREEMPTED => Self::Free,
            _ => Self::Failure,
        }
    }
}

/// Counts of a chain after one more failed attempt: `(failures, crashes)`.
#[must_use]
pub fn counts_after(row: &NewExecution, kind: &str) -> (i32, i32) {
    match Charge::of(kind) {
        Charge::Failure => (row.failures_before.saturating_add(1), row.crashes_before),
        Charge::Crash => (row.failures_before, row.crashes_before.saturating_add(1)),
        Charge::Free => (row.failures_before, row.crashes_before),
    }
}

/// Decides what follows a failed attempt; `None` when a rule says that nothing does. `random` in
/// `0.0..1.0` spreads the delay.
#[must_use]
pub fn plan_failure(
    row: &Execution,
    failure: &Failure<'_>,
    limits: RecoveryLimits,
    now: DateTime<Utc>,
    random: f64,
) -> Option<FailureEntry> {
    let error = failure.error;
    let task = &row.new.task;
    let policy = RetryPolicy::from_stored(&task.retry_policy);
    let (failures, crashes) = counts_after(&row.new, &error.kind);
    let mut severity = task.severity;
    if error.kind == PREEMPTED {
        severity = Severity::Low;
    }
    let decision = match Charge::of(&error.kind) {
        Charge::Crash if crashes >= limits.max_crash_attempts => {
            severity = Severity::Critical;
            give_up(RecoveryStatus::Escalated, "poison")
        }
        Charge::Crash if !policy.retries(NODE_LOST) => {
            give_up(RecoveryStatus::Unresolved, "permanent")
        }
        Charge::Crash | Charge::Free => RecoveryDecision::RetryAt(now),
        Charge::Failure => {
            let is_transient = match classify(&task.options.recovery.rules, failure) {
                Some(Class::Ignore) => return None,
                Some(Class::Transient) => true,
                Some(Class::Permanent) => false,
                None => is_retried(&policy, error),
            };
            if !is_transient {
                give_up(RecoveryStatus::Unresolved, "permanent")
            } else if i64::from(failures) >= i64::from(policy.max_attempts) {
                give_up(RecoveryStatus::Escalated, "attempts_spent")
            } else {
                RecoveryDecision::RetryAt(later(now, wait(&policy, failures, failure, random)))
            }
        }
    };
    let pattern = pattern_of(&error.message);
    Some(FailureEntry {
        error_type: error_type(&task.task_type, &error.kind),
        severity,
        fingerprint: fingerprint(&task.task_type, failure, &pattern),
        pattern,
        exit_code: failure.exit_code,
        max_retry_attempts: i32::try_from(policy.max_attempts).unwrap_or(i32::MAX) - 1,
        decision,
    })
}

/// The policy's delay, and not before the instant that the answer asked for: those that were told
/// the same instant come spread over `baseMs` after it.
fn wait(policy: &RetryPolicy, failures: i32, failure: &Failure<'_>, random: f64) -> Duration {
    let attempt = u32::try_from(failures).unwrap_or(u32::MAX);
    let delay = policy.delay(attempt, random);
    let Some(asked) = failure.asked_wait() else { return delay };
    let spread = Duration::from_millis(policy.base_ms).mul_f64(random.clamp(0.0, 1.0));
    delay.max(asked.saturating_add(spread))
}

/// Transient, and of a class that the policy names; a class-less failure (of the server itself) is
/// always tried again.
fn is_retried(policy: &RetryPolicy, error: &ExecutionError) -> bool {
    error.transient && error.retry_class().is_none_or(|class| policy.retries(class))
}

fn give_up(status: RecoveryStatus, cause: &'static str) -> RecoveryDecision {
    RecoveryDecision::GiveUp { status, cause }
}

fn later(now: DateTime<Utc>, delay: Duration) -> DateTime<Utc> {
    chrono::Duration::from_std(delay)
        .ok()
        .and_then(|delay| now.checked_add_signed(delay))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The error record's type for a failure.
#[must_use]
pub fn error_type(task_type: &str, kind: &str) -> ErrorType {
    match kind {
        TIMEOUT => ErrorType::Timeout,
        NODE_LOST => ErrorType::NodeLost,
        INTERRUPTED | PREEMPTED | "panic" | "internal" => ErrorType::Internal,
        _ if task_type == "conductor_task" => ErrorType::ConductorError,
        _ => ErrorType::ExecutionFailure,
    }
}

/// How long a retry waits for another node than the one on which its chain failed.
pub const AWAY_FOR: chrono::TimeDelta = chrono::TimeDelta::seconds(30);

/// The next attempt of a failed row's chain.
#[must_use]
pub fn next_attempt(failed: &Execution, execution_id: Uuid, now: DateTime<Utc>) -> NewExecution {
    let kind = failed.error.as_ref().map_or("", |error| error.kind.as_str());
    let counted = matches!(failed.status, ExecutionStatus::Failed | ExecutionStatus::Timeout);
    let (failures, crashes) = if counted {
        counts_after(&failed.new, kind)
    } else {
        (failed.new.failures_before, failed.new.crashes_before)
    };
    let mut task = failed.new.task.clone();
    if kind == PREEMPTED {
        task.options.admission.preempted += 1;
    }
    let is_elsewhere = task.options.recovery.retry_on_another_node;
    task.options.admission.away = failed
        .node_id
        .as_ref()
        .filter(|_| is_elsewhere)
        .map(|node| Away { from: node.clone(), until: now + AWAY_FOR });
    NewExecution {
        execution_id,
        trigger: Trigger::Retry,
        attempt: failed.new.attempt.saturating_add(1),
        retry_of: Some(failed.id),
        available_at: now,
        failures_before: failures,
        crashes_before: crashes,
        dedup_key: None,
        gates: Gates::of(&task),
        task,
        ..NewExecution::clone(&failed.new)
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
