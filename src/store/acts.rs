//! Acts of people and what they leave: the audit log, pauses, outcomes set by hand.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::Value;

use crate::domain::act::Act;
use crate::domain::error_record::RecoveryStatus;
use crate::domain::execution::{Execution, Severity};
use crate::domain::text_enum;

/// An act that a store handle carries: each operation that writes through it leaves an audit row in
/// its own transaction.
#[derive(Debug)]
pub(crate) struct BoundAct {
    pub(crate) act: Act,
    settled: AtomicBool,
    /// What it changes, where only the caller can tell.
    change: Mutex<Option<(Value, Value)>>,
}

impl BoundAct {
    pub(crate) fn new(act: Act) -> Self {
        Self { act, settled: AtomicBool::new(false), change: Mutex::new(None) }
    }

    /// An operation of it was committed.
    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    pub(crate) fn tell_change(&self, change: (Value, Value)) {
        *self.change.lock() = Some(change);
    }

    /// Kept, as the operation may run again.
    pub(crate) fn told_change(&self) -> Option<(Value, Value)> {
        self.change.lock().clone()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }
}

/// Which audit rows to list; `None` means any.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Done by this key.
    pub who: Option<String>,
    /// This action.
    pub action: Option<String>,
    /// Done to this kind of thing.
    pub subject_kind: Option<String>,
    /// And to this one of them.
    pub subject_id: Option<String>,
    /// At or after this instant.
    pub since: Option<DateTime<Utc>>,
}

/// Which error records a v2 list shows; empty means any.
#[derive(Clone, Debug, Default)]
pub struct ErrorPageFilter {
    /// In one of these.
    pub recovery_statuses: Vec<RecoveryStatus>,
    /// With one of these.
    pub severities: Vec<Severity>,
    /// Of this schedule.
    pub schedule_id: Option<i64>,
    /// Given to this person.
    pub assignee: Option<String>,
}

text_enum! {
    /// How a person says that a chain ended, whatever its attempts say.
    pub enum OverrideOutcome {
        /// What it was for is done.
        Succeeded = "succeeded",
        /// It failed, for good.
        Failed = "failed",
    }
}

/// An outcome that a person set; the statuses of the attempts stay as they were.
#[derive(Clone, Debug, PartialEq)]
pub struct OutcomeOverride {
    /// The outcome.
    pub outcome: OverrideOutcome,
    /// Who set it.
    pub by: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: Option<String>,
    /// What it gave, in the person's words.
    pub result: Option<Value>,
}

/// What people did to an execution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecutionActs {
    /// Since when its processes stand still.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub pause_reason: Option<String>,
    /// The outcome that a person set.
    pub outcome_override: Option<OutcomeOverride>,
}

/// An outcome to be set.
#[derive(Clone, Debug)]
pub struct OutcomeSetting {
    /// The outcome.
    pub outcome: OverrideOutcome,
    /// Who sets it.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What it gave.
    pub result: Option<Value>,
}

/// What became of an act on an execution.
#[derive(Clone, Debug)]
pub struct ActedExecution {
    /// The row after it.
    pub execution: Execution,
    /// What people did to it, this act included.
    pub acts: ExecutionActs,
}

/// An execution and what a page about it shows beside it.
#[derive(Clone, Debug)]
pub struct ExecutionShown {
    /// The row.
    pub execution: Execution,
    /// All attempts of its chain, oldest first.
    pub chain: Vec<Execution>,
    /// What people did to it.
    pub acts: ExecutionActs,
}

/// From when on what is late needs a person.
#[derive(Clone, Copy, Debug)]
pub struct AttentionLimits {
    /// A schedule is overdue when its instant is longer ago.
    pub overdue_after: chrono::Duration,
    /// An execution waits too long when it could have started longer ago.
    pub waiting_after: chrono::Duration,
    /// How long a pause lasts at most.
    pub pause_max: chrono::Duration,
    /// Letters added within the window that are too many; 0 for never.
    pub letters_max: u64,
    /// How far back they are counted.
    pub letters_window: std::time::Duration,
}
