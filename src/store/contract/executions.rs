//! The contract: executions and their output.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::execution::{Execution, NewExecution};
use crate::store::postgres::group::PlainCreation;
use crate::store::{
    CancelResult, ClaimGated, ClaimHere, Creation, ExecutionCounts, ExecutionCreate,
    ExecutionFilter, ExecutionKey, ExecutionShown, Finish, FinishResult, GatedClaimed, LogFilter,
    LogRow, LogTrim, Page, PageRequest, Store, StoreResult, run,
};

impl Store {
    /// Makes an execution (ad-hoc, manual, backfill) in one transaction, on PostgreSQL together
    /// with others that are asked for at the same time. `limit`: refuse with
    /// `WrongState{already_running}` when that many rows of the schedule wait or run.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_create(
        &self,
        request: ExecutionCreate,
    ) -> StoreResult<Creation<Execution>> {
        if let Some(backend) = self.grouping(&request) {
            let act = self.act_of("write");
            let made = backend.create(PlainCreation::new(request, act.clone())).await;
            if let (Ok(_), Some(act)) = (&made, &act) {
                act.settle();
            }
            return made;
        }
        run!(self, write, creating::execution_create(request))
    }

    /// Makes many at once, no idempotency, no limits: the hot path.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_create_batch(
        &self,
        rows: Vec<NewExecution>,
        claim: Option<ClaimHere>,
    ) -> StoreResult<Vec<Execution>> {
        let rows: Vec<_> = rows.into_iter().map(Arc::new).collect();
        run!(self, write, creating::execution_create_batch(rows, claim))
    }

    /// Claims up to `claim.slots` pending rows whose `available_at` has come, by `rank_at`, id.
    /// Rows that are admitted one by one are left out.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_claim(&self, claim: ClaimHere) -> StoreResult<Vec<Execution>> {
        run!(self, write, executions::execution_claim(claim))
    }

    /// Claims among the rows that are admitted one by one: those that every limit, queue and
    /// breaker lets through start, the others are told why not. One at a time over all nodes.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_claim_gated(&self, request: ClaimGated) -> StoreResult<GatedClaimed> {
        run!(self, write, admission::execution_claim_gated(request))
    }

    /// How many rows of high priority, `most` at most, have waited for nothing but a slot for as
    /// long as `since`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_urgent_waiting(
        &self,
        since: Duration,
        most: usize,
    ) -> StoreResult<usize> {
        run!(self, read, admission::execution_urgent_waiting(since, most))
    }

    /// True when any row waits to be admitted one by one.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_gated_waits(&self) -> StoreResult<bool> {
        run!(self, read, admission::execution_gated_waits())
    }

    /// When the next pending row becomes available (in the future or past); rows that are admitted
    /// one by one are left out.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_next_available(&self) -> StoreResult<Option<Timestamp>> {
        run!(self, read, executions::execution_next_available())
    }

    /// The execution, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_get(&self, key: ExecutionKey) -> StoreResult<Execution> {
        run!(self, read, executions::execution_get(key))
    }

    /// A page of executions that match, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_list(
        &self,
        filter: ExecutionFilter,
        page: PageRequest,
    ) -> StoreResult<Page<Execution>> {
        run!(self, read, executions::execution_list(filter, page))
    }

    /// An execution, its chain and what people did to it, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_show(&self, key: ExecutionKey) -> StoreResult<ExecutionShown> {
        run!(self, read, executions::execution_show(key))
    }

    /// Cancels a pending row at once (event), marks a running one.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_cancel(&self, key: ExecutionKey) -> StoreResult<CancelResult> {
        run!(self, write, executions::execution_cancel(key))
    }

    /// Running rows of this boot that were asked to cancel.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_list_cancel_requested(&self, boot_id: Uuid) -> StoreResult<Vec<i64>> {
        run!(self, read, executions::execution_list_cancel_requested(boot_id))
    }

    /// Running rows of this boot: id and more, for adopting what was claimed but never launched.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_list_running(&self, boot_id: Uuid) -> StoreResult<Vec<Execution>> {
        run!(self, read, executions::execution_list_running(boot_id))
    }

    /// Ends running rows in one transaction with events, error records, dead letters, resolved
    /// errors; see `Finish`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_finish(&self, batch: Vec<Finish>) -> StoreResult<Vec<FinishResult>> {
        run!(self, write, finishing::execution_finish(batch))
    }

    /// Running rows whose owner's node lease ran out more than `grace` ago (by the database's
    /// clock), or whose owner is unknown.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_list_expired(
        &self,
        grace: Duration,
        limit: i64,
    ) -> StoreResult<Vec<Execution>> {
        run!(self, read, executions::execution_list_expired(grace, limit))
    }

    /// Pending and running counts by status: `(pending ready, pending later, running)`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_counts(&self) -> StoreResult<ExecutionCounts> {
        run!(self, read, executions::execution_counts())
    }

    /// Appends lines; a line that exists stays as it is, so that a batch may be sent again.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn log_append(&self, rows: Vec<LogRow>) -> StoreResult<()> {
        self.log_roll(rows, Vec::new()).await
    }

    /// Removes what is trimmed and appends lines, in one transaction; may be sent again likewise.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn log_roll(&self, rows: Vec<LogRow>, trims: Vec<LogTrim>) -> StoreResult<()> {
        run!(self, write, logs::log_roll(rows, trims))
    }

    /// Lines of an execution with numbers above `after`, in order.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn log_list(
        &self,
        execution_id: i64,
        after: i64,
        limit: i64,
    ) -> StoreResult<Vec<LogRow>> {
        self.log_search(execution_id, after, limit, LogFilter::default()).await
    }

    /// Those that match, likewise.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn log_search(
        &self,
        execution_id: i64,
        after: i64,
        limit: i64,
        filter: LogFilter,
    ) -> StoreResult<Vec<LogRow>> {
        run!(self, read, logs::log_search(execution_id, after, limit, filter))
    }
}
