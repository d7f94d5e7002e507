//! What happens after a failed attempt: pure.
//!
//! An attempt that failed is charged to one of three accounts. A failure of the task counts
//! against `maxAttempts`; a lost node counts against `maxCrashAttempts` (a task that keeps taking
//! its node down is poison); an interruption by a shutdown counts against neither. The decision is
//! made from the row alone, so that the transaction that ends the attempt can write it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::error_record::{ErrorType, FailureEntry, RecoveryDecision, RecoveryStatus};
use crate::domain::execution::{
    Execution, ExecutionError, ExecutionStatus, NewExecution, Severity, Trigger,
};
use crate::domain::retry::RetryPolicy;

/// Kind of an attempt whose node was lost.
pub const NODE_LOST: &str = "node_lost";
/// Kind of an attempt that a shutdown ended.
pub const INTERRUPTED: &str = "interrupted";
/// Kind of an attempt that ran longer than its timeout.
pub const TIMEOUT: &str = "timeout";
/// How many characters of a normalised message go into a fingerprint.
const FINGERPRINT_MESSAGE_CHARS: usize = 200;

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
            INTERRUPTED => Self::Free,
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

/// Decides what follows a failed attempt. `random` in `0.0..1.0` spreads the delay.
#[must_use]
pub fn plan_failure(
    row: &Execution,
    error: &ExecutionError,
    limits: RecoveryLimits,
    now: DateTime<Utc>,
    random: f64,
) -> FailureEntry {
    let policy = RetryPolicy::from_stored(&row.new.task.retry_policy);
    let (failures, crashes) = counts_after(&row.new, &error.kind);
    let mut severity = row.new.task.severity;
    let decision = match Charge::of(&error.kind) {
        Charge::Crash if crashes >= limits.max_crash_attempts => {
            severity = Severity::Critical;
            give_up(RecoveryStatus::Escalated, "poison")
        }
        Charge::Crash if !policy.retries(NODE_LOST) => {
            give_up(RecoveryStatus::Unresolved, "permanent")
        }
        Charge::Crash | Charge::Free => RecoveryDecision::RetryAt(now),
        Charge::Failure if !is_retried(&policy, error) => {
            give_up(RecoveryStatus::Unresolved, "permanent")
        }
        Charge::Failure if i64::from(failures) >= i64::from(policy.max_attempts) => {
            give_up(RecoveryStatus::Escalated, "attempts_spent")
        }
        Charge::Failure => {
            let attempt = u32::try_from(failures).unwrap_or(u32::MAX);
            RecoveryDecision::RetryAt(later(now, policy.delay(attempt, random)))
        }
    };
    FailureEntry {
        error_type: error_type(&row.new.task.task_type, &error.kind),
        severity,
        fingerprint: fingerprint(&row.new.task.task_type, error),
        max_retry_attempts: i32::try_from(policy.max_attempts).unwrap_or(i32::MAX) - 1,
        decision,
    }
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
        INTERRUPTED | "panic" | "internal" => ErrorType::Internal,
        _ if task_type == "conductor_task" => ErrorType::ConductorError,
        _ => ErrorType::ExecutionFailure,
    }
}

/// A hash that is equal for failures of the same cause: digits and hex runs in the message are
/// taken out, so that ids, times and addresses do not tell two occurrences apart.
#[must_use]
pub fn fingerprint(task_type: &str, error: &ExecutionError) -> String {
    let mut hash = Sha256::new();
    hash.update(task_type.as_bytes());
    hash.update([0]);
    hash.update(error.kind.as_bytes());
    hash.update([0]);
    hash.update(normalise(&error.message).as_bytes());
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The message with every word that holds a digit replaced by `#`.
fn normalise(message: &str) -> String {
    let mut out = String::new();
    for word in message.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        if word.chars().any(|c| c.is_ascii_digit()) {
            out.push('#');
        } else {
            out.push_str(&word.to_lowercase());
        }
        if out.len() >= FINGERPRINT_MESSAGE_CHARS {
            break;
        }
    }
    out
}

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
    NewExecution {
        execution_id,
        trigger: Trigger::Retry,
        attempt: failed.new.attempt.saturating_add(1),
        retry_of: Some(failed.id),
        available_at: now,
        failures_before: failures,
        crashes_before: crashes,
        dedup_key: None,
        ..NewExecution::clone(&failed.new)
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
