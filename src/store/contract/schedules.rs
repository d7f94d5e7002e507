//! The contract: schedules and their ledger.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::domain::schedule::{Schedule, ScheduleDefinition, ScheduleStats};
use crate::store::{
    Backend, ClaimHere, Creation, DueSchedules, Firing, FiringResult, Idempotency, LedgerRow,
    OutcomeRow, OutcomeSpan, Page, PageRequest, ScheduleChange, ScheduleCounts, ScheduleFilter,
    ScheduleRemoval, Store, StoreResult, run,
};

impl Store {
    /// Makes a schedule and its `schedule_created` event. `Duplicate{name}` when the name is taken.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_create(
        &self,
        definition: ScheduleDefinition,
        next_run_at: Option<Timestamp>,
        idempotency: Option<Idempotency<Schedule>>,
    ) -> StoreResult<Creation<Schedule>> {
        run!(self, write, schedules::schedule_create(definition, next_run_at, idempotency))
    }

    /// The schedule, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_get(&self, id: i64) -> StoreResult<Schedule> {
        if let Backend::Postgres(backend) = &self.inner.backend {
            return backend.schedule(id).await;
        }
        run!(self, read, schedules::schedule_get(id))
    }

    /// The schedule of that name.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_find_by_name(&self, name: String) -> StoreResult<Option<Schedule>> {
        run!(self, read, schedules::schedule_find_by_name(name))
    }

    /// A page of schedules that match, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_list(
        &self,
        filter: ScheduleFilter,
        page: PageRequest,
    ) -> StoreResult<Page<Schedule>> {
        run!(self, read, schedules::schedule_list(filter, page))
    }

    /// Replaces the definition; `expected_version` must be current. `next_run_at`: `Some` sets it
    /// (the cadence changed), `None` leaves it. The ledger rows are written too. Event
    /// `schedule_updated`. An edit that sets the next instant is refused (`WrongState`,
    /// [`MOVED_MEANWHILE`](crate::store::MOVED_MEANWHILE)) when the schedule fired meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_update(&self, change: ScheduleChange) -> StoreResult<Schedule> {
        run!(self, write, schedules::schedule_update(change))
    }

    /// Pauses (`false`) or resumes; idempotent; events `schedule_paused` / `schedule_resumed` only
    /// on a change. Keeps `next_run_at`; sets `paused_at` or `resumed_at`;
    /// what a resume leaves in `paused_at` is when the pause began.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_set_enabled(&self, id: i64, enabled: bool) -> StoreResult<Schedule> {
        run!(self, write, schedules::schedule_set_enabled(id, enabled))
    }

    /// Removes it: cancels its pending rows, withdraws waiting retries (their errors become
    /// `unresolved`), open errors become `unresolved`, history stays with the name. Event
    /// `schedule_deleted`. With a removal, what was planned and will not run goes to the ledger;
    /// `WrongState` with [`MOVED_MEANWHILE`](crate::store::MOVED_MEANWHILE) when it fired since.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_delete(
        &self,
        id: i64,
        removal: Option<ScheduleRemoval>,
    ) -> StoreResult<Schedule> {
        run!(self, write, schedules::schedule_delete(id, removal))
    }

    /// Enabled schedules due at or before `until`, at most `limit`, oldest `next_run_at` first.
    /// `known` has the versions of those that the caller knows by id: of them comes only what moves
    /// without an edit, which costs a fraction of the whole.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_list_due(
        &self,
        until: Timestamp,
        limit: i64,
        known: HashMap<i64, i64>,
    ) -> StoreResult<DueSchedules> {
        run!(self, read, schedules::schedule_list_due(until, limit, known))
    }

    /// `(id, next_run_at)` of the next enabled schedule due.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_next_due(&self) -> StoreResult<Option<(i64, Timestamp)>> {
        run!(self, read, schedules::schedule_next_due())
    }

    /// Fires a batch in one transaction: compare-and-set of each schedule, rows (unique by schedule
    /// and instant), ledger, events; claims here what it may.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_fire(
        &self,
        firings: Vec<Firing>,
        claim: Option<ClaimHere>,
    ) -> StoreResult<FiringResult> {
        run!(self, write, firing::schedule_fire(firings, claim))
    }

    /// Counts of executions for each of `ids`; those without any have zeros.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_stats(&self, ids: Vec<i64>) -> StoreResult<HashMap<i64, ScheduleStats>> {
        run!(self, read, schedules::schedule_stats(ids))
    }

    /// How many schedules are enabled and paused.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn schedule_counts(&self) -> StoreResult<ScheduleCounts> {
        run!(self, read, schedules::schedule_counts())
    }

    /// Planned instants that did not run, newest first: `(id, range)`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn ledger_list(
        &self,
        schedule_id: i64,
        page: PageRequest,
    ) -> StoreResult<Page<LedgerRow>> {
        run!(self, read, ledger::ledger_list(schedule_id, page))
    }

    /// The last instant of the schedule in the ledger.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn ledger_last(&self, schedule_id: i64) -> StoreResult<Option<Timestamp>> {
        run!(self, read, ledger::ledger_last(schedule_id))
    }

    /// What became of a schedule's planned instants, in the order of time: executions of trigger
    /// `schedule`, and ledger ranges that touch the span.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn ledger_outcomes(
        &self,
        span: OutcomeSpan,
        page: PageRequest,
    ) -> StoreResult<Page<OutcomeRow>> {
        run!(self, read, ledger::ledger_outcomes(span, page))
    }
}
