//! What callers of the store say and get about calendars, pauses and backfills.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::backfill::{Backfill, BackfillForm};
use crate::domain::calendar::{Calendar, CalendarDefinition};
use crate::domain::execution::NewExecution;
use crate::domain::schedule::LedgerRange;
use crate::store::Idempotency;

/// A calendar to be made.
pub struct CalendarCreate {
    /// What it says.
    pub definition: CalendarDefinition,
    /// At most once for a key.
    pub idempotency: Option<Idempotency<Calendar>>,
}

/// An edit of a calendar.
#[derive(Clone, Debug)]
pub struct CalendarChange {
    /// Which.
    pub id: i64,
    /// The version the edit was made from.
    pub expected_version: i64,
    /// The whole new definition; the name stays.
    pub definition: CalendarDefinition,
    /// The zone of schedules that name none.
    pub default_zone: String,
}

/// A pause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// When it ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// Why.
    pub reason: Option<String>,
}

/// Planned instants that are not to run, before they have come.
#[derive(Clone, Debug)]
pub struct SkipAhead {
    /// Which schedule.
    pub id: i64,
    /// The version the plan was made from.
    pub expected_version: i64,
    /// The `next_run_at` the plan was made from.
    pub expected_next: DateTime<Utc>,
    /// The instants.
    pub range: LedgerRange,
    /// The next one after them.
    pub next_run_at: Option<DateTime<Utc>>,
}

/// A backfill to be made.
pub struct BackfillCreate {
    /// What is asked for.
    pub form: BackfillForm,
    /// At most once for a key.
    pub idempotency: Option<Idempotency<Backfill>>,
}

/// A step of a backfill.
#[derive(Clone, Debug)]
pub struct BackfillAdvance {
    /// Which.
    pub id: i64,
    /// The position the plan was made from; another one means that somebody else moved it.
    pub expected_position: Option<DateTime<Utc>>,
    /// Rows for the next instants, in its order; those that may not run yet are left for later.
    pub rows: Vec<Arc<NewExecution>>,
    /// No instants come after these.
    pub is_last: bool,
}

/// Where the executions of a backfill stand: first attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackfillProgress {
    /// Wait.
    pub pending: i64,
    /// Run.
    pub running: i64,
    /// Ended well.
    pub completed: i64,
    /// Ended `failed` or `timeout`; some may be tried again.
    pub failed: i64,
    /// Ended `cancelled` or `skipped`.
    pub cancelled: i64,
}
