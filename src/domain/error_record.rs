//! The record of a chain that failed, and the dead letter of one that was given up.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::execution::{Severity, TaskSnapshot};
use crate::domain::text_enum;

text_enum! {
    /// What kind of failure opened the record.
    pub enum ErrorType {
        /// The task failed.
        ExecutionFailure = "execution_failure",
        /// The task ran longer than its timeout.
        Timeout = "timeout",
        /// The conductor failed.
        ConductorError = "conductor_error",
        /// The node that ran it was lost.
        NodeLost = "node_lost",
        /// Carillon itself: a panic, a shutdown.
        Internal = "internal",
    }
}

text_enum! {
    /// Where recovery stands.
    pub enum RecoveryStatus {
        /// Needs a person.
        Unresolved = "unresolved",
        /// A retry waits for its instant.
        RetryScheduled = "retry_scheduled",
        /// A retry is pending or runs.
        Retrying = "retrying",
        /// An attempt succeeded, or a person said so.
        Resolved = "resolved",
        /// A person said to leave it.
        Ignored = "ignored",
        /// Attempts are spent, or a person asked for help.
        Escalated = "escalated",
    }
}

text_enum! {
    /// Where a dead letter stands.
    pub enum DeadLetterStatus {
        /// In the queue.
        Pending = "pending",
        /// In the queue, a new chain tries again.
        Resubmitted = "resubmitted",
        /// Left the queue: its new chain succeeded, or its error was resolved or ignored.
        Recovered = "recovered",
        /// Left the queue by a person's word.
        Discarded = "discarded",
    }
}

text_enum! {
    /// Where a group of errors stands.
    pub enum GroupStatus {
        /// Seen, and not resolved.
        Open = "open",
        /// A person said that it is solved.
        Resolved = "resolved",
        /// It came back after that.
        Regressed = "regressed",
    }
}

/// One record a chain, opened at its first failure.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorRecord {
    /// Row id.
    pub id: i64,
    /// The chain that failed.
    pub chain_id: Uuid,
    /// What opened it.
    pub error_type: ErrorType,
    /// How bad.
    pub severity: Severity,
    /// Where recovery stands.
    pub recovery_status: RecoveryStatus,
    /// Row id of the newest failed execution of the chain.
    pub execution_id: i64,
    /// The schedule, if any.
    pub schedule_id: Option<i64>,
    /// That schedule's name.
    pub schedule_name: Option<String>,
    /// The newest failure's kind.
    pub kind: String,
    /// The newest failure's message.
    pub message: String,
    /// Hash of task type, kind and normalised message; equal for the same cause.
    pub fingerprint: String,
    /// Retries started so far.
    pub recovery_attempts: i32,
    /// `maxAttempts - 1`.
    pub max_retry_attempts: i32,
    /// When the waiting retry is due.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// When it was resolved or ignored.
    pub resolved_at: Option<DateTime<Utc>>,
    /// What the resolver said.
    pub resolution_notes: Option<String>,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Who looks after it.
    pub assignee: Option<String>,
}

/// A chain that recovery gave up on, with everything needed to run it again.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Row id.
    pub id: i64,
    /// The error record it belongs to.
    pub error_id: i64,
    /// The chain that died.
    pub chain_id: Uuid,
    /// The schedule, if any.
    pub schedule_id: Option<i64>,
    /// That schedule's name.
    pub schedule_name: Option<String>,
    /// What to run.
    pub task: TaskSnapshot,
    /// Why: `attempts_spent`, `permanent`, `poison`, `retry_budget_spent`, `escalated`.
    pub cause: String,
    /// The newest failure's; equal for the same cause.
    pub fingerprint: String,
    /// Every attempt: `[{id, executionId, attempt, status, startedAt, completedAt, error}]`.
    pub attempts: Value,
    /// Where it stands.
    pub status: DeadLetterStatus,
    /// The newest chain made from it.
    pub resubmitted_chain_id: Option<Uuid>,
    /// Why it was discarded.
    pub discard_reason: Option<String>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// What recovery decided about a failed attempt; written in the transaction that ends it.
#[derive(Clone, Debug, PartialEq)]
pub enum RecoveryDecision {
    /// A retry waits until the instant.
    RetryAt(DateTime<Utc>),
    /// Nothing more is tried: `escalated` (attempts spent, poison) or `unresolved` (permanent),
    /// with a dead letter either way.
    GiveUp {
        /// `Escalated` or `Unresolved`.
        status: RecoveryStatus,
        /// The dead letter's cause.
        cause: &'static str,
    },
}

/// The part of a failed attempt's end that concerns its error record.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureEntry {
    /// What kind of failure (used when the record is opened).
    pub error_type: ErrorType,
    /// How bad.
    pub severity: Severity,
    /// Equal for the same cause.
    pub fingerprint: String,
    /// The message without what differs between two occurrences.
    pub pattern: String,
    /// The command's exit code.
    pub exit_code: Option<i64>,
    /// `maxAttempts - 1`.
    pub max_retry_attempts: i32,
    /// What happens next.
    pub decision: RecoveryDecision,
}
