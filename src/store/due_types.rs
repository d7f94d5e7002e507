//! What a reader of due schedules gets.

use crate::clock::Timestamp;
use crate::domain::schedule::Schedule;

/// What of a schedule moves without an edit, and the version of the edit it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleProgress {
    /// Row id of the schedule.
    pub id: i64,
    /// Its version.
    pub version: i64,
    /// The next planned instant.
    pub next_run_at: Option<Timestamp>,
    /// The last planned instant that fired.
    pub last_run_at: Option<Timestamp>,
    /// Planned firings so far.
    pub fired: i64,
    /// The earliest instant at which the next run that is caught up on may start.
    pub catch_up_at: Option<Timestamp>,
    /// Up to here, what calendars and the clock-change policy take away is in the ledger.
    pub settled_at: Option<Timestamp>,
}

impl ScheduleProgress {
    /// Brings a schedule of the same version up to date.
    pub fn put_into(&self, schedule: &mut Schedule) {
        schedule.next_run_at = self.next_run_at;
        schedule.last_run_at = self.last_run_at;
        schedule.fired = self.fired;
        schedule.catch_up_at = self.catch_up_at;
        schedule.settled_at = self.settled_at;
    }
}

/// Schedules that are due, for a reader that knows some of them.
#[derive(Clone, Debug, Default)]
pub struct DueSchedules {
    /// Where each of them stands, oldest `next_run_at` first.
    pub progress: Vec<ScheduleProgress>,
    /// Those that the reader does not know in this version, whole.
    pub unknown: Vec<Schedule>,
}
