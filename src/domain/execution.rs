//! An execution: one attempt to run a task, started at most once, ever.
//!
//! A retry is a new execution with `attempt + 1` and the same `chain_id`. The state machine is
//! small on purpose: `pending` may become `running`, `cancelled` or `skipped`; `running` may become
//! any of the four ends; an end never changes.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::breaker;
use crate::domain::options::TaskOptions;
pub use crate::domain::task::TaskError as ExecutionError;
use crate::domain::text_enum;

text_enum! {
    /// Where an execution stands.
    pub enum ExecutionStatus {
        /// Waits for its instant and a free slot.
        Pending = "pending",
        /// A node holds its lease and runs it.
        Running = "running",
        /// Ended well.
        Completed = "completed",
        /// Ended badly.
        Failed = "failed",
        /// Ended because it ran longer than its timeout.
        Timeout = "timeout",
        /// Ended by a person or by `cancel_running`.
        Cancelled = "cancelled",
        /// Dropped by policy before it started.
        Skipped = "skipped",
    }
}

impl ExecutionStatus {
    /// True for a state that never changes again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// True when the state machine allows going from `self` to `next`.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => matches!(next, Self::Running | Self::Cancelled | Self::Skipped),
            Self::Running => next.is_terminal() && !matches!(next, Self::Skipped),
            Self::Completed | Self::Failed | Self::Timeout | Self::Cancelled | Self::Skipped => {
                false
            }
        }
    }
}

text_enum! {
    /// What made an execution.
    pub enum Trigger {
        /// A planned instant of its schedule.
        Schedule = "schedule",
        /// A person ran its schedule now, or ran a finished execution again.
        Manual = "manual",
        /// An ad-hoc request without a schedule.
        Api = "api",
        /// An event.
        Event = "event",
        /// Recovery: the next attempt of a chain.
        Retry = "retry",
        /// A past instant, run on purpose.
        Backfill = "backfill",
    }
}

text_enum! {
    /// How urgent an execution is; claims go by age, less a head start for what is urgent.
    pub enum Priority {
        /// Before all others.
        High = "high",
        /// The default.
        Medium = "medium",
        /// After all others.
        Low = "low",
    }
}

impl Priority {
    /// How much later than a high one of the same age it is claimed: less urgent work waits that
    /// much longer than its turn, and never for ever.
    #[must_use]
    pub const fn penalty(self) -> TimeDelta {
        match self {
            Self::High => TimeDelta::zero(),
            Self::Medium => TimeDelta::seconds(60),
            Self::Low => TimeDelta::seconds(300),
        }
    }

    /// The number that the stores keep for it.
    #[must_use]
    pub const fn rank(self) -> i16 {
        match self {
            Self::High => 0,
            Self::Medium => 1,
            Self::Low => 2,
        }
    }
}

/// What an execution runs and under which rules; copied from the schedule when the row is made, so
/// that a later edit does not change what waits, retries included.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSnapshot {
    /// `shell_command`, `http_request`, `conductor_task` or `function`.
    pub task_type: String,
    /// The task's configuration as the API took it.
    pub task_config: Value,
    /// The schedule's timeout in milliseconds, if it has one.
    pub timeout_ms: Option<i64>,
    /// The retry policy as JSON; `null` for the default.
    pub retry_policy: Value,
    /// Severity of the error record, should the chain fail.
    pub severity: Severity,
    /// Cost of an hour of running, in the user's currency.
    pub cost_per_hour: Option<f64>,
    /// Labels.
    pub tags: Vec<String>,
    /// Who owns the work.
    pub owner: Option<String>,
    /// What else goes with it.
    pub options: TaskOptions,
}

impl TaskSnapshot {
    /// A task under the default rules.
    #[must_use]
    pub fn new(task_type: &str, task_config: Value) -> Self {
        Self {
            task_type: task_type.to_owned(),
            task_config,
            timeout_ms: None,
            retry_policy: Value::Null,
            severity: Severity::High,
            cost_per_hour: None,
            tags: Vec::new(),
            owner: None,
            options: TaskOptions::default(),
        }
    }
}

text_enum! {
    /// How bad a failure is.
    pub enum Severity {
        /// Can wait.
        Low = "low",
        /// Worth a look.
        Medium = "medium",
        /// The default.
        High = "high",
        /// Wakes people.
        Critical = "critical",
    }
}

/// An execution to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewExecution {
    /// Its public id, a `UUIDv7`.
    pub execution_id: Uuid,
    /// The first attempt's `execution_id`.
    pub chain_id: Uuid,
    /// The schedule it belongs to.
    pub schedule_id: Option<i64>,
    /// That schedule's name when the row was made; kept after the schedule is deleted.
    pub schedule_name: Option<String>,
    /// What made it.
    pub trigger: Trigger,
    /// What it runs.
    pub task: TaskSnapshot,
    /// How urgent it is.
    pub priority: Priority,
    /// 1 for the first attempt.
    pub attempt: i32,
    /// The row before: the attempt this one repeats, or the finished execution run again.
    pub retry_of: Option<i64>,
    /// The planned instant (`runAt`, the due instant, or the instant of acceptance).
    pub scheduled_at: DateTime<Utc>,
    /// The instant from which it may be claimed.
    pub available_at: DateTime<Utc>,
    /// Failures of this chain so far that count against `maxAttempts`.
    pub failures_before: i32,
    /// Lost nodes of this chain so far, which count against `maxCrashAttempts`.
    pub crashes_before: i32,
    /// The dead letter that leaves the queue when this chain succeeds.
    pub dead_letter_id: Option<i64>,
    /// At most one pending or running execution may carry the same key.
    pub dedup_key: Option<String>,
    /// W3C `traceparent` of the request or a fresh one.
    pub traceparent: Option<String>,
    /// Who asked for it (a key's name), for events.
    pub created_by: Option<String>,
    /// What it waits for beside its instant and a free slot.
    pub gates: Gates,
}

/// What a step of the fine order (`order`, -100 to 100) is worth: a hundred of them never reach
/// from one priority to the next.
const ORDER_STEP: TimeDelta = TimeDelta::milliseconds(250);

/// How far behind its instant any execution can be ranked: what may run now is ranked before now
/// plus this, which is also the longest that anything waits beyond its turn.
pub const RANK_SPAN: TimeDelta = TimeDelta::seconds(325);

impl NewExecution {
    /// The first attempt of a chain of its own that is due at `at`, without a schedule.
    #[must_use]
    pub fn first(
        trigger: Trigger,
        task: TaskSnapshot,
        priority: Priority,
        at: DateTime<Utc>,
    ) -> Self {
        let execution_id = Uuid::now_v7();
        Self {
            execution_id,
            chain_id: execution_id,
            schedule_id: None,
            schedule_name: None,
            trigger,
            gates: Gates::of(&task),
            task,
            priority,
            attempt: 1,
            retry_of: None,
            scheduled_at: at,
            available_at: at,
            failures_before: 0,
            crashes_before: 0,
            dead_letter_id: None,
            dedup_key: None,
            traceparent: None,
            created_by: None,
        }
    }

    /// The order of claims, smallest first: the instant from which it may run, later by the penalty
    /// of its priority, less its fine order.
    #[must_use]
    pub fn rank_at(&self) -> DateTime<Utc> {
        rank_at(self.available_at, self.priority, self.task.options.admission.order)
    }
}

/// The order of claims; see [`NewExecution::rank_at`].
#[must_use]
pub fn rank_at(
    available_at: DateTime<Utc>,
    priority: Priority,
    order: Option<i32>,
) -> DateTime<Utc> {
    available_at + priority.penalty() - ORDER_STEP * order.unwrap_or(0)
}

/// What an execution waits for beside its instant and a free slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// The queue it stands in.
    pub queue: Option<String>,
    /// A key whose running holders are counted.
    pub concurrency_key: Option<String>,
    /// What it depends on and may find broken: a host, a conductor, or a key of the user's.
    pub target: Option<String>,
    /// True when it is admitted one by one, and not with whatever else waits.
    pub is_gated: bool,
}

impl Gates {
    /// The gates of a task.
    #[must_use]
    pub fn of(task: &TaskSnapshot) -> Self {
        let admission = &task.options.admission;
        Self {
            queue: admission.queue.clone(),
            concurrency_key: admission.concurrency_key.clone(),
            target: breaker::target_of(task),
            is_gated: admission.is_gated(),
        }
    }
}

/// An execution as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// Row id; also the fencing token.
    pub id: i64,
    /// Everything known when it was made; never changes, so that it is shared.
    pub new: Arc<NewExecution>,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When it was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// `completed_at - started_at` in milliseconds.
    pub duration_ms: Option<i64>,
    /// Start minus due in milliseconds; set for trigger `schedule`, attempt 1.
    pub lateness_ms: Option<i64>,
    /// What the task gave back.
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<ExecutionError>,
    /// Name of the node that ran it.
    pub node_id: Option<String>,
    /// Boot id of the node that holds or held the lease.
    pub lease_owner: Option<Uuid>,
    /// When somebody asked to cancel it while it ran.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// The conductor's thread.
    pub conductor_thread_id: Option<String>,
    /// The conductor's word on it.
    pub conductor_status: Option<String>,
    /// What the run cost.
    pub cost: Option<f64>,
    /// What a command used; `None` for other tasks and for commands that never ran.
    pub usage: Option<ExecutionUsage>,
    /// Why it still waits although its instant has come.
    pub held_reason: Option<String>,
}

impl Execution {
    /// One that waits and that no store has given a number yet.
    #[must_use]
    pub const fn waiting(new: Arc<NewExecution>, now: DateTime<Utc>) -> Self {
        Self {
            id: 0,
            new,
            status: ExecutionStatus::Pending,
            created_at: now,
            started_at: None,
            completed_at: None,
            duration_ms: None,
            lateness_ms: None,
            result: None,
            error: None,
            node_id: None,
            lease_owner: None,
            cancel_requested_at: None,
            conductor_thread_id: None,
            conductor_status: None,
            cost: None,
            usage: None,
            held_reason: None,
        }
    }
}

/// What the processes of a command used, and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionUsage {
    /// How many had to be ended: all of a stopped command's, or those that one left behind.
    pub processes_killed: u32,
    /// The most memory seen, in bytes: of the largest process, or of the whole tree where a limit
    /// or a control group has it measured.
    pub peak_memory_bytes: u64,
    /// Processor time of all of them, in milliseconds.
    pub cpu_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_a_terminal_state() {
        for from in ExecutionStatus::ALL {
            for to in ExecutionStatus::ALL {
                if from.is_terminal() {
                    assert!(!from.may_become(*to), "{from:?} -> {to:?}");
                }
            }
        }
    }

    #[test]
    fn a_running_execution_is_never_skipped_and_never_waits_again() {
        assert!(!ExecutionStatus::Running.may_become(ExecutionStatus::Skipped));
        assert!(!ExecutionStatus::Running.may_become(ExecutionStatus::Pending));
    }

    #[test]
    fn every_text_parses_back() {
        for status in ExecutionStatus::ALL {
            assert_eq!(ExecutionStatus::parse(status.as_str()), Some(*status));
        }
    }
}
