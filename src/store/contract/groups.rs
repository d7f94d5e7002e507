//! The contract: groups of errors, and dead letters by the many.

use std::time::Duration;

use crate::domain::error_record::{DeadLetter, ErrorRecord};
use crate::domain::execution::Execution;
use crate::store::{
    Chosen, Creation, DeadLetterFilter, DeadLetterGroup, ErrorGroup, ErrorGroupFilter,
    GroupResolution, Idempotency, KeysetPage, KeysetRequest, LetterChoice, LettersDiscard,
    Resubmission, Store, StoreResult, run,
};

impl Store {
    /// A page of groups that match, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_group_list(
        &self,
        filter: ErrorGroupFilter,
        page: KeysetRequest,
    ) -> StoreResult<KeysetPage<ErrorGroup>> {
        run!(self, read, error_groups::error_group_list(filter, page))
    }

    /// The group of a fingerprint, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_group_get(&self, fingerprint: String) -> StoreResult<ErrorGroup> {
        run!(self, read, error_groups::error_group_get(fingerprint))
    }

    /// Resolves a group with its records; see `ErrorVerdict::Resolve`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn error_group_resolve(
        &self,
        order: GroupResolution,
    ) -> StoreResult<(ErrorGroup, Chosen<ErrorRecord>)> {
        run!(self, write, error_groups::error_group_resolve(order))
    }

    /// A page of letters that match, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letter_page(
        &self,
        filter: DeadLetterFilter,
        page: KeysetRequest,
    ) -> StoreResult<KeysetPage<DeadLetter>> {
        run!(self, read, letters::dead_letter_page(filter, page))
    }

    /// Pending letters by cause and failure, the largest group first, 500 at most.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letter_groups(&self) -> StoreResult<Vec<DeadLetterGroup>> {
        run!(self, read, letters::dead_letter_groups())
    }

    /// The pending letters that an order is about, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letter_choose(
        &self,
        choice: LetterChoice,
    ) -> StoreResult<Chosen<DeadLetter>> {
        run!(self, read, letters::dead_letter_choose(choice))
    }

    /// Makes new chains from letters in one transaction; those that are no longer pending are left
    /// out of the answer.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letters_resubmit(
        &self,
        batch: Vec<Resubmission>,
        idempotency: Option<Idempotency<Vec<(i64, Execution)>>>,
    ) -> StoreResult<Creation<Vec<(i64, Execution)>>> {
        run!(self, write, letters::dead_letters_resubmit(batch, idempotency))
    }

    /// Takes letters out of the queue in one transaction; those that are no longer pending are left
    /// out of the answer.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letters_discard(
        &self,
        order: LettersDiscard,
    ) -> StoreResult<Vec<DeadLetter>> {
        run!(self, write, letters::dead_letters_discard(order))
    }

    /// Raises the alert `dead_letters_growing` when `threshold` letters were added within `window`,
    /// once a window; true when it was raised now.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn dead_letters_watch(&self, threshold: i64, window: Duration) -> StoreResult<bool> {
        let added = async { run!(self, read, letters::dead_letters_added(window)) };
        if added.await? < threshold {
            return Ok(false);
        }
        run!(self, write, letters::dead_letters_alert(threshold, window))
    }
}
