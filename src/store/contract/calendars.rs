//! The contract: calendars, pauses and backfills.

use std::collections::HashSet;

use crate::clock::Timestamp;
use crate::domain::backfill::Backfill;
use crate::domain::calendar::Calendar;
use crate::domain::schedule::Schedule;
use crate::store::{
    BackfillAdvance, BackfillCreate, BackfillProgress, CalendarChange, CalendarCreate, Creation,
    KeysetPage, KeysetRequest, Pause, SkipAhead, Store, StoreResult, run,
};

impl Store {
    /// Makes a calendar. `Duplicate{name}` when the name is taken.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn calendar_create(
        &self,
        request: CalendarCreate,
    ) -> StoreResult<Creation<Calendar>> {
        run!(self, write, calendars::calendar_create(request))
    }

    /// The calendar, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn calendar_get(&self, id: i64) -> StoreResult<Calendar> {
        run!(self, read, calendars::calendar_get(id))
    }

    /// Those of the names that there are.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn calendars_named(&self, names: Vec<String>) -> StoreResult<Vec<Calendar>> {
        run!(self, read, calendars::calendars_named(names))
    }

    /// A page of calendars, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn calendar_list(&self, request: KeysetRequest) -> StoreResult<KeysetPage<Calendar>> {
        run!(self, read, calendars::calendar_list(request))
    }

    /// Replaces what a calendar covers; the name stays. The schedules that obey it are planned anew
    /// in the same transaction, each with a new version and `schedule_updated`: what the old form
    /// took away up to now goes to the ledger, the new one plans from now on.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn calendar_update(&self, change: CalendarChange) -> StoreResult<Calendar> {
        run!(self, write, calendars::calendar_update(change))
    }

    /// Removes a calendar; `WrongState` (`calendar_in_use`) while a schedule names it.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn calendar_delete(&self, id: i64) -> StoreResult<()> {
        run!(self, write, calendars::calendar_delete(id))
    }

    /// Pauses a schedule, or gives its pause another end and reason. Event `schedule_paused`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_pause(&self, id: i64, pause: Pause) -> StoreResult<Schedule> {
        run!(self, write, pauses::schedule_pause(id, pause))
    }

    /// When the next pause ends by itself.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_next_resume(&self) -> StoreResult<Option<Timestamp>> {
        run!(self, read, pauses::schedule_next_resume())
    }

    /// Resumes schedules whose pause has ended by itself; gives how many. Event `schedule_resumed`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_resume_due(&self) -> StoreResult<usize> {
        run!(self, write, pauses::schedule_resume_due())
    }

    /// Puts planned instants into the ledger before they come and moves the next one behind them;
    /// a schedule without any left becomes paused. Event `schedule_updated`. `WrongState`
    /// ([`MOVED_MEANWHILE`](crate::store::MOVED_MEANWHILE)) when it fired meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_skip(&self, skip: SkipAhead) -> StoreResult<Schedule> {
        run!(self, write, pauses::schedule_skip(skip))
    }

    /// Makes a backfill, which runs from then on.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn backfill_create(
        &self,
        request: BackfillCreate,
    ) -> StoreResult<Creation<Backfill>> {
        run!(self, write, backfills::backfill_create(request))
    }

    /// The backfill, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn backfill_get(&self, id: i64) -> StoreResult<Backfill> {
        run!(self, read, backfills::backfill_get(id))
    }

    /// A page of backfills, of one schedule or of all, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn backfill_list(
        &self,
        schedule_id: Option<i64>,
        request: KeysetRequest,
    ) -> StoreResult<KeysetPage<Backfill>> {
        run!(self, read, backfills::backfill_list(schedule_id, request))
    }

    /// Backfills that are not over, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn backfill_list_running(&self, limit: i64) -> StoreResult<Vec<Backfill>> {
        run!(self, read, backfills::backfill_list_running(limit))
    }

    /// Which of a schedule's instants have an execution, by plan or by a backfill.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn backfill_taken(
        &self,
        schedule_id: i64,
        instants: Vec<Timestamp>,
    ) -> StoreResult<HashSet<Timestamp>> {
        run!(self, read, backfills::backfill_taken(schedule_id, instants))
    }

    /// Moves a backfill on: makes the rows that may start now, leaves out instants that ran before,
    /// and keeps how far it went, in one transaction. True when it moved.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn backfill_advance(&self, plan: BackfillAdvance) -> StoreResult<bool> {
        run!(self, write, backfills::backfill_advance(plan))
    }

    /// Stops a backfill and cancels its executions that wait; those that run go on.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn backfill_stop(&self, id: i64, reason: Option<String>) -> StoreResult<Backfill> {
        run!(self, write, backfills::backfill_stop(id, reason))
    }

    /// Where the executions of a backfill stand.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn backfill_progress(&self, backfill: Backfill) -> StoreResult<BackfillProgress> {
        run!(self, read, backfills::backfill_progress(backfill))
    }
}
