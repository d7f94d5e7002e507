//! The contract: errors, retries, dead letters.

use crate::clock::Timestamp;
use crate::domain::error_record::{DeadLetter, ErrorRecord};
use crate::domain::execution::{Execution, NewExecution};
use crate::store::{
    ClaimHere, Creation, DeadLetterFilter, DeadLetterStats, ErrorFilter, ErrorVerdict, Idempotency,
    Page, PageRequest, RetryStart, Store, StoreResult, run,
};

impl Store {
    /// The record, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_get(&self, id: i64) -> StoreResult<ErrorRecord> {
        run!(self, read, errors::error_get(id))
    }

    /// A page of records that match, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_list(
        &self,
        filter: ErrorFilter,
        page: PageRequest,
    ) -> StoreResult<Page<ErrorRecord>> {
        run!(self, read, errors::error_list(filter, page))
    }

    /// Records whose retry is due at or before `until`, with the newest failed execution of the
    /// chain, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_list_due(
        &self,
        until: Timestamp,
        limit: i64,
    ) -> StoreResult<Vec<(ErrorRecord, Execution)>> {
        run!(self, read, recovery::error_list_due(until, limit))
    }

    /// The next instant a retry is due.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_next_due(&self) -> StoreResult<Option<Timestamp>> {
        run!(self, read, recovery::error_next_due())
    }

    /// Starts retries: record to `retrying`, attempts + 1, row made, events; claims here what it
    /// may. A stale one is left out of the answer.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_start_retries(
        &self,
        batch: Vec<RetryStart>,
        claim: Option<ClaimHere>,
    ) -> StoreResult<Vec<(ErrorRecord, Execution)>> {
        run!(self, write, recovery::error_start_retries(batch, claim))
    }

    /// Starts one retry by a person's word (`expected_next_retry_at` is `None`); `WrongState` when
    /// the record is `resolved` or `retrying`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_retry(
        &self,
        start: RetryStart,
        claim: Option<ClaimHere>,
        idempotency: Option<Idempotency<(ErrorRecord, Execution)>>,
    ) -> StoreResult<Creation<(ErrorRecord, Execution)>> {
        run!(self, write, recovery::error_retry(start, claim, idempotency))
    }

    /// Resolve, ignore or escalate by a person: see `ErrorVerdict`; withdraws a waiting retry
    /// (resolve, ignore), letter leaves the queue (resolve, ignore) or is added (escalate). Events.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_decide(&self, id: i64, verdict: ErrorVerdict) -> StoreResult<ErrorRecord> {
        run!(self, write, errors::error_decide(id, verdict))
    }

    /// The letter, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letter_get(&self, id: i64) -> StoreResult<DeadLetter> {
        run!(self, read, dead_letters::dead_letter_get(id))
    }

    /// A page of letters that match, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letter_list(
        &self,
        filter: DeadLetterFilter,
        page: PageRequest,
    ) -> StoreResult<Page<DeadLetter>> {
        run!(self, read, dead_letters::dead_letter_list(filter, page))
    }

    /// The numbers of the queue.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letter_stats(&self) -> StoreResult<DeadLetterStats> {
        run!(self, read, dead_letters::dead_letter_stats())
    }

    /// Makes a new chain from the letter (the caller gives the execution, `dead_letter_id` set);
    /// status `resubmitted`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letter_resubmit(
        &self,
        id: i64,
        execution: NewExecution,
        claim: Option<ClaimHere>,
        idempotency: Option<Idempotency<(DeadLetter, Execution)>>,
    ) -> StoreResult<Creation<(DeadLetter, Execution)>> {
        run!(self, write, dead_letters::dead_letter_resubmit(id, execution, claim, idempotency))
    }

    /// Takes a letter out of the queue by a person's word; `WrongState` when it left before.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letter_discard(
        &self,
        id: i64,
        reason: Option<String>,
    ) -> StoreResult<DeadLetter> {
        run!(self, write, dead_letters::dead_letter_discard(id, reason))
    }
}
