//! The contract: circuit breakers.

use crate::store::{
    BreakerChange, BreakerCounts, BreakerOrder, BreakerRow, KeysetPage, KeysetRequest, Store,
    StoreResult, run,
};

impl Store {
    /// A page of breakers, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn breaker_list(&self, page: KeysetRequest) -> StoreResult<KeysetPage<BreakerRow>> {
        run!(self, read, breakers::breaker_list(page))
    }

    /// The breaker of a target with its changes, newest first, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn breaker_get(&self, key: String) -> StoreResult<(BreakerRow, Vec<BreakerChange>)> {
        run!(self, read, breakers::breaker_get(key))
    }

    /// How many are not closed.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn breaker_counts(&self) -> StoreResult<BreakerCounts> {
        run!(self, read, breakers::breaker_counts())
    }

    /// An operator's act, with its event; sets aside what waits for a target that it opens.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`; see [`StoreError`](crate::store::StoreError).
    pub async fn breaker_act(&self, order: BreakerOrder) -> StoreResult<BreakerRow> {
        run!(self, write, breakers::breaker_act(order))
    }
}
