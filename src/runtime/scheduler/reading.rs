//! A reading of the store: what is due soon, and what else the scheduler must know.
//!
//! It goes on beside the firing, so that nothing that is due waits for it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::clock::{Clock, Timestamp};
use crate::domain::calendar::Calendar;
use crate::runtime::meter;
use crate::runtime::scheduler::stop::StopWindow;
use crate::store::{DueSchedules, Store, StoreError};

/// Where the stored state of the scheduler is kept.
pub const STATE_KEY: &str = "scheduler";
/// How far ahead of now a reading reaches, in ticks: nothing due is missed between two readings,
/// even when one of them is late.
const LOOKAHEAD_TICKS: u32 = 3;
/// Schedules read at most; more than this due within the look-ahead are read in further passes.
const WINDOW_MAX: i64 = 20_000;
/// A difference between the database's clock and ours that is noise, not skew.
const SKEW_NOISE: chrono::Duration = chrono::Duration::milliseconds(100);
/// A step of the clock that is noticed.
const STEP: chrono::Duration = chrono::Duration::seconds(1);

/// What a reading starts from.
pub(super) struct Reader {
    pub(super) store: Store,
    pub(super) clock: Clock,
    /// How often the store is read whatever was announced.
    pub(super) tick: Duration,
    /// How far the clock was ahead of time that only passes, when last read.
    pub(super) offset: Option<chrono::Duration>,
    /// The versions of the schedules that are known, by id.
    pub(super) known: HashMap<i64, i64>,
}

/// What was read.
pub(super) struct Seen {
    /// How far the clock is ahead of time that only passes.
    pub(super) offset: chrono::Duration,
    /// The database's clock minus ours.
    pub(super) skew: chrono::Duration,
    /// When the next pause ends by itself.
    pub(super) next_resume: Option<Timestamp>,
    /// Whether the scheduler fires.
    pub(super) stop: StopWindow,
    /// What is due soon.
    pub(super) due: DueSchedules,
    /// The calendars of the schedules that were not known.
    pub(super) calendars: Vec<Calendar>,
    /// What is due next, though not soon: asked for when nothing is due soon.
    pub(super) later: Option<(i64, Timestamp)>,
}

impl Reader {
    /// Begins to read, beside whatever else is done.
    pub(super) fn begin(self) -> Reading {
        Reading(actix_rt::spawn(self.read()))
    }

    /// Reads.
    pub(super) async fn read(self) -> Result<Seen, StoreError> {
        let offset = self.mend_after_a_step().await?;
        let database = self.store.now().await?;
        let skew = database - self.clock.now();
        let skew = if skew.abs() < SKEW_NOISE { chrono::Duration::zero() } else { skew };
        meter::clock_skew(self.clock.machine(), database);
        let next_resume = self.resume_due(database).await?;
        let state = self.store.state_get(STATE_KEY.to_owned()).await?;
        let until = self.clock.now() + skew + self.tick * LOOKAHEAD_TICKS;
        let due = self.store.schedule_list_due(until, WINDOW_MAX, self.known).await?;
        let names = calendars_of(&due);
        let calendars =
            if names.is_empty() { Vec::new() } else { self.store.calendars_named(names).await? };
        let later =
            if due.progress.is_empty() { self.store.schedule_next_due().await? } else { None };
        let stop = StopWindow::from_state(state.as_ref());
        Ok(Seen { offset, skew, next_resume, stop, due, calendars, later })
    }

    /// A clock that was set back leaves rows that wait for instants of the old one: they are given
    /// back the time they had left. A step may have been made while no process looked, so the
    /// first reading sees to it as well.
    async fn mend_after_a_step(&self) -> Result<chrono::Duration, StoreError> {
        let offset = self.clock.now() - self.clock.steady();
        if self.offset.is_none_or(|before| offset < before - STEP) {
            let mended = self.store.clock_set_back().await?;
            if mended > 0 {
                tracing::warn!(rows = mended, "the clock was set back; what waited does not");
            }
        }
        Ok(offset)
    }

    /// Resumes what was paused until `now`, and finds when the next pause ends.
    async fn resume_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let next = self.store.schedule_next_resume().await?;
        if next.is_some_and(|at| at <= now) {
            self.store.schedule_resume_due().await?;
            return self.store.schedule_next_resume().await;
        }
        Ok(next)
    }
}

/// The calendars that are needed to parse what was not known. An edit of a calendar gives its
/// schedules a new version, so that what is known is current.
fn calendars_of(due: &DueSchedules) -> Vec<String> {
    let used =
        due.unknown.iter().flat_map(|schedule| &schedule.definition.options.cadence.calendars);
    let mut names: Vec<String> = used.map(|used| used.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A reading that is under way.
pub(super) struct Reading(JoinHandle<Result<Seen, StoreError>>);

impl Reading {
    /// Waits for what it reads; the wait may be given up and begun again.
    pub(super) async fn seen(&mut self) -> Result<Seen, StoreError> {
        let answer = (&mut self.0).await;
        answer.unwrap_or_else(|error| Err(StoreError::Internal(format!("reading: {error}"))))
    }
}
