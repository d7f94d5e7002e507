//! What goes into and comes out of operations on breakers, groups of errors and dead letters.

use chrono::{DateTime, Utc};

use crate::domain::breaker::{Breaker, BreakerState};
use crate::domain::error_record::{ErrorType, GroupStatus};
use crate::domain::execution::NewExecution;
use crate::store::DeadLetterFilter;

/// A breaker as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerRow {
    /// Row id.
    pub id: i64,
    /// Its target: `http:<host>[:port]`, `conductor`, or `key:<name>`.
    pub key: String,
    /// What it is.
    pub breaker: Breaker,
    /// When its target failed first.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// A change of a breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerChange {
    /// Row id.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Where it stood.
    pub from: BreakerState,
    /// Where it stood then.
    pub to: BreakerState,
    /// Why; see [`Transition`](crate::domain::breaker::Transition), and `probe_asked`.
    pub cause: String,
    /// The run that changed it.
    pub execution_id: Option<i64>,
    /// Who changed it.
    pub by: Option<String>,
    /// Why they did.
    pub reason: Option<String>,
}

/// What an operator does to a breaker.
#[derive(Clone, Debug)]
pub enum BreakerAct {
    /// Lets a probe go now; `WrongState` when there is nothing to find out.
    Probe,
    /// Opens it until an instant, or until it is reset. Made when it is not there.
    ForceOpen(Option<DateTime<Utc>>),
    /// Closes it likewise.
    ForceClosed(Option<DateTime<Utc>>),
    /// Closes it and forgets everything.
    Reset,
}

/// An operator's act on the breaker of a target.
#[derive(Clone, Debug)]
pub struct BreakerOrder {
    /// The target.
    pub key: String,
    /// What is done.
    pub act: BreakerAct,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
}

/// How many breakers are not closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerCounts {
    /// Open, forced included.
    pub open: i64,
    /// Half open.
    pub half_open: i64,
}

/// Failures of one cause.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorGroup {
    /// Row id.
    pub id: i64,
    /// Equal for the same cause.
    pub fingerprint: String,
    /// The records' type.
    pub error_type: ErrorType,
    /// The task's type.
    pub task_type: String,
    /// The errors' kind.
    pub kind: String,
    /// The commands' exit code.
    pub exit_code: Option<i64>,
    /// The message without what differs between two occurrences.
    pub pattern: String,
    /// The newest message.
    pub message: String,
    /// Attempts that ended so.
    pub occurrences: i64,
    /// The first.
    pub first_seen_at: DateTime<Utc>,
    /// The newest.
    pub last_seen_at: DateTime<Utc>,
    /// The newest one's row id.
    pub last_execution_id: i64,
    /// Its schedule.
    pub last_schedule_id: Option<i64>,
    /// Where it stands.
    pub status: GroupStatus,
    /// When it was resolved.
    pub resolved_at: Option<DateTime<Utc>>,
    /// By whom.
    pub resolved_by: Option<String>,
    /// How.
    pub resolution_notes: Option<String>,
    /// When it came back after that.
    pub regressed_at: Option<DateTime<Utc>>,
    /// How often it did.
    pub regressions: i64,
}

/// Which groups to list; `None` means any.
#[derive(Clone, Debug, Default)]
pub struct ErrorGroupFilter {
    /// In one of these.
    pub statuses: Vec<GroupStatus>,
    /// Seen at or after it.
    pub since: Option<DateTime<Utc>>,
}

/// Resolving a group.
#[derive(Clone, Debug)]
pub struct GroupResolution {
    /// Which.
    pub fingerprint: String,
    /// Who says so.
    pub by: String,
    /// How.
    pub notes: Option<String>,
    /// Records at most; those past it stay as they are.
    pub limit: i64,
}

/// Dead letters of one cause.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetterGroup {
    /// Why they were given up.
    pub cause: String,
    /// Equal for the same failure.
    pub fingerprint: String,
    /// How many wait.
    pub count: i64,
    /// The oldest one's row id.
    pub first_id: i64,
    /// When it was added.
    pub oldest_at: DateTime<Utc>,
    /// When the newest was added.
    pub newest_at: DateTime<Utc>,
    /// What the failure says, while the group of errors is kept.
    pub message: Option<String>,
}

/// Which dead letters an order is about.
#[derive(Clone, Debug)]
pub struct LetterChoice {
    /// These; empty means all that match.
    pub ids: Vec<i64>,
    /// What must match too; its statuses are not looked at.
    pub filter: DeadLetterFilter,
    /// Letters at most, oldest first.
    pub limit: i64,
}

/// Letters chosen, and how many more match.
#[derive(Clone, Debug)]
pub struct Chosen<T> {
    /// Those taken.
    pub items: Vec<T>,
    /// Those past the limit.
    pub remaining: i64,
}

/// Taking letters out of the queue by a person's word.
#[derive(Clone, Debug)]
pub struct LettersDiscard {
    /// Which.
    pub ids: Vec<i64>,
    /// Why.
    pub reason: Option<String>,
}

/// A dead letter to be tried again.
#[derive(Clone, Debug)]
pub struct Resubmission {
    /// Which.
    pub letter_id: i64,
    /// What to run.
    pub execution: NewExecution,
}
