//! The contract: queues, urgency and deadlines.

use crate::domain::advice::{PastLoad, PastRun};
use crate::domain::execution::Execution;
use crate::store::{
    DeadlineNews, ExecutionKey, KeysetPage, KeysetRequest, QueueChange, QueueRow, Reranking, Store,
    StoreResult, run,
};

impl Store {
    /// A page of the queues that were ever named, newest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn queue_list(&self, page: KeysetRequest) -> StoreResult<KeysetPage<QueueRow>> {
        run!(self, read, queues::queue_list(page))
    }

    /// The queue, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn queue_get(&self, name: String) -> StoreResult<QueueRow> {
        run!(self, read, queues::queue_get(name))
    }

    /// Sets limits, pauses or resumes (events); makes the queue when it was never named.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn queue_put(&self, name: String, change: QueueChange) -> StoreResult<QueueRow> {
        run!(self, write, queues::queue_put(name, change))
    }

    /// Forgets a queue in which nothing waits or runs; `WrongState{queue_not_empty}` otherwise.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn queue_delete(&self, name: String) -> StoreResult<()> {
        run!(self, write, queues::queue_delete(name))
    }

    /// Gives an execution that waits another urgency (event); `WrongState{not_waiting}` otherwise.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_rerank(
        &self,
        key: ExecutionKey,
        change: Reranking,
    ) -> StoreResult<Execution> {
        run!(self, write, ranking::execution_rerank(key, change))
    }

    /// The last runs of a schedule that succeeded, and the newest of all others.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_past(
        &self,
        schedule: i64,
    ) -> StoreResult<(Vec<PastRun>, Vec<PastLoad>)> {
        run!(self, read, past::execution_past(schedule))
    }

    /// True when a deadline has passed, or one is in doubt.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn deadline_due(&self) -> StoreResult<bool> {
        run!(self, read, deadlines::deadline_due())
    }

    /// Tells (events) of chains whose deadline has passed, and of those that will probably be late;
    /// each once, whoever looks.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn deadline_sweep(&self) -> StoreResult<DeadlineNews> {
        run!(self, write, deadlines::deadline_sweep())
    }
}
