//! What the live side reads of the store, and no more: so that tests can stand in for it.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::event::Event;
use crate::store::{Store, StoreResult, Topic};

/// The event log.
#[async_trait]
pub trait EventSource: Send + Sync {
    /// Events after `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// Any [`crate::store::StoreError`]; the caller waits and tries again.
    async fn list(&self, after: i64, limit: i64) -> StoreResult<Vec<Event>>;

    /// `(oldest kept, newest)`; `(0, 0)` when there was none ever.
    ///
    /// # Errors
    /// Any [`crate::store::StoreError`].
    async fn bounds(&self) -> StoreResult<(i64, i64)>;

    /// Changes when events were appended; a hint.
    fn changes(&self) -> watch::Receiver<u64>;
}

#[async_trait]
impl EventSource for Store {
    async fn list(&self, after: i64, limit: i64) -> StoreResult<Vec<Event>> {
        self.event_list(after, limit).await
    }

    async fn bounds(&self) -> StoreResult<(i64, i64)> {
        self.event_bounds().await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        Self::changes(self, Topic::Events)
    }
}
