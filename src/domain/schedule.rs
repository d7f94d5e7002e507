//! A schedule: when, and what.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::domain::cadence::{Cadence, ParseContext};
use crate::domain::calendar::Coverage;
use crate::domain::execution::{Priority, Severity, TaskSnapshot};
use crate::domain::fault::Fault;
use crate::domain::options::ScheduleOptions;
use crate::domain::text_enum;

text_enum! {
    /// How a schedule's instants are given.
    pub enum ScheduleType {
        /// A cron expression with a zone, or the plain form.
        Cron = "cron",
        /// A grid of equal steps.
        Interval = "interval",
        /// One instant.
        OneTime = "one_time",
        /// No instants: events fire it.
        Event = "event",
    }
}

text_enum! {
    /// What happens when an instant comes while earlier runs still wait or run.
    pub enum OverlapPolicy {
        /// The instant goes to the ledger.
        Skip = "skip",
        /// It waits for its turn; when too many wait already, it goes to the ledger.
        Queue = "queue",
        /// What waits and runs is cancelled, and it runs when that is over.
        CancelRunning = "cancel_running",
        /// Run beside them.
        Allow = "allow",
    }
}

text_enum! {
    /// What happens to instants that were missed.
    pub enum MisfirePolicy {
        /// Run the newest one.
        Coalesce = "coalesce",
        /// Run each, oldest first, within window and cap.
        RunAll = "run_all",
        /// Run none.
        Skip = "skip",
    }
}

text_enum! {
    /// Why a planned instant did not run.
    pub enum LedgerReason {
        /// Earlier runs still waited or ran.
        Overlap = "overlap",
        /// The schedule was paused.
        Paused = "paused",
        /// It was missed and the policy does not run it.
        Misfire = "misfire",
        /// It lies outside the catch-up window or past its cap.
        Window = "window",
        /// A calendar excludes it.
        Calendar = "calendar",
        /// The zone's clock change removed it.
        ClockChange = "clock_change",
        /// No capacity.
        NoCapacity = "no_capacity",
        /// The scheduler was stopped.
        Stopped = "stopped",
        /// Somebody asked to skip it.
        Skipped = "skipped",
    }
}

/// Planned instants that did not run: one row a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRange {
    /// First instant of the range.
    pub from: DateTime<Utc>,
    /// Last instant of the range.
    pub to: DateTime<Utc>,
    /// How many planned instants it covers.
    pub count: i64,
    /// Why they did not run.
    pub reason: LedgerReason,
}

/// Everything a user says about a schedule, validated, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleDefinition {
    /// Unique among the schedules that exist.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// See `domain::task`.
    pub task_type: String,
    /// The task's configuration as given.
    pub task_config: Value,
    /// How instants are given.
    pub schedule_type: ScheduleType,
    /// The cadence's configuration as given (an interval's anchor filled in).
    pub schedule_config: Value,
    /// False is paused.
    pub enabled: bool,
    /// Priority of its executions.
    pub priority: Priority,
    /// Timeout of an execution in milliseconds when the task has none.
    pub timeout_ms: Option<i64>,
    /// How many may wait or run at once under `skip`, and run at once under `queue` and
    /// `cancel_running`; `None` is unlimited under `allow`.
    pub max_concurrent: Option<i32>,
    /// What happens when runs would overlap.
    pub overlap_policy: OverlapPolicy,
    /// What happens to missed instants.
    pub misfire_policy: MisfirePolicy,
    /// Later than this is missed, milliseconds.
    pub misfire_grace_ms: i64,
    /// How far back `run_all` reaches, milliseconds.
    pub catchup_window_ms: i64,
    /// How many `run_all` runs at most.
    pub catchup_max: i32,
    /// How many caught-up runs may start a minute; `None` is unlimited.
    pub catchup_per_minute: Option<i32>,
    /// The retry policy as JSON; `null` for the default.
    pub retry_policy: Value,
    /// Severity of error records.
    pub severity: Severity,
    /// Cost of an hour of running.
    pub cost_per_hour: Option<f64>,
    /// No instant before it.
    pub start_at: Option<DateTime<Utc>>,
    /// No instant after it.
    pub end_at: Option<DateTime<Utc>>,
    /// No more planned firings than this.
    pub max_executions: Option<i64>,
    /// Labels.
    pub tags: Vec<String>,
    /// Who owns it.
    pub owner: Option<String>,
    /// What it says beyond the basics.
    pub options: ScheduleOptions,
}

impl ScheduleDefinition {
    /// What goes with an execution that is made now.
    #[must_use]
    pub fn snapshot(&self) -> TaskSnapshot {
        let mut options = self.options.task.clone();
        options.admission.overlap_limit = self.running_limit();
        options.pause_after_failures = self.options.cadence.pause_after_failures;
        TaskSnapshot {
            task_type: self.task_type.clone(),
            task_config: self.task_config.clone(),
            timeout_ms: self.timeout_ms,
            retry_policy: self.retry_policy.clone(),
            severity: self.severity,
            cost_per_hour: self.cost_per_hour,
            tags: self.tags.clone(),
            owner: self.owner.clone(),
            options,
        }
    }

    /// How many of its executions may run at once when the others wait for them.
    #[must_use]
    pub fn running_limit(&self) -> Option<i32> {
        match self.overlap_policy {
            OverlapPolicy::Queue | OverlapPolicy::CancelRunning => {
                Some(self.max_concurrent.unwrap_or(1))
            }
            OverlapPolicy::Skip | OverlapPolicy::Allow => None,
        }
    }

    /// How many of its rows may wait or run at once; `None` is no limit.
    #[must_use]
    pub fn overlap_limit(&self) -> Option<i32> {
        match self.overlap_policy {
            OverlapPolicy::Skip | OverlapPolicy::CancelRunning => {
                Some(self.max_concurrent.unwrap_or(1))
            }
            OverlapPolicy::Queue => {
                let waiting = self.options.cadence.queue_limit.unwrap_or(QUEUE_LIMIT_DEFAULT);
                Some(self.max_concurrent.unwrap_or(1).saturating_add(waiting))
            }
            OverlapPolicy::Allow => self.max_concurrent,
        }
    }

    /// Puts what it says of calendars and clock changes over its grid; see
    /// [`CadenceOptions::over`](crate::domain::options::CadenceOptions::over).
    ///
    /// # Errors
    /// The names of the calendars that are missing.
    pub fn ruled(
        &self,
        grid: Cadence,
        found: impl Fn(&str) -> Option<Arc<Coverage>>,
    ) -> Result<Cadence, Vec<String>> {
        self.options.cadence.over(grid, found)
    }
}

/// How many may wait under `queue` when the schedule does not say.
pub const QUEUE_LIMIT_DEFAULT: i32 = 100;

/// A schedule as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Row id, never used again.
    pub id: i64,
    /// What the user said.
    pub definition: ScheduleDefinition,
    /// The next planned instant; moves only by firing (or an edit of the cadence).
    pub next_run_at: Option<DateTime<Utc>>,
    /// The last planned instant that fired.
    pub last_run_at: Option<DateTime<Utc>>,
    /// Planned firings so far (for `max_executions`).
    pub fired: i64,
    /// When it was last paused; it is paused while `enabled` is false.
    pub paused_at: Option<DateTime<Utc>>,
    /// When it was last resumed; what was missed between the pause and this was missed by it.
    pub resumed_at: Option<DateTime<Utc>>,
    /// The earliest instant at which the next run that is caught up on may start.
    pub catch_up_at: Option<DateTime<Utc>>,
    /// Up to here, what calendars and the clock-change policy take away is in the ledger.
    pub settled_at: Option<DateTime<Utc>>,
    /// When its pause ends by itself.
    pub paused_until: Option<DateTime<Utc>>,
    /// Why it is paused.
    pub pause_reason: Option<String>,
    /// Failed chains in a row, counted while it asks for that.
    pub failure_streak: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last edited, paused or resumed.
    pub updated_at: DateTime<Utc>,
    /// Goes up by one with each edit; the `ETag`.
    pub version: i64,
}

impl Schedule {
    /// Its grid: the cadence without calendars and clock-change policy.
    ///
    /// # Errors
    /// What is wrong with the stored configuration, which was sound when it was stored.
    pub fn grid(&self, default_zone: &str) -> Result<Cadence, Vec<Fault>> {
        let definition = &self.definition;
        let context =
            ParseContext { created_at: self.created_at, default_zone: default_zone.to_owned() };
        Cadence::parse(definition.schedule_type.as_str(), &definition.schedule_config, &context)
    }
}

/// Counts of a schedule's executions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScheduleStats {
    /// All executions kept.
    pub total: i64,
    /// Ended well.
    pub completed: i64,
    /// Ended `failed` or `timeout`.
    pub failed: i64,
    /// Running or pending now.
    pub active: i64,
    /// Mean duration of completed ones, milliseconds.
    pub mean_duration_ms: Option<f64>,
}
