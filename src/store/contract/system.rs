//! The contract: events, nodes, state, keys, sessions, kept answers, retention.

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::event::{Event, NewEvent};
use crate::domain::execution::ExecutionStatus;
use crate::store::{
    ApiKeyRow, Claimant, NewApiKey, NewSession, NodeRow, Retention, Store, StoreResult,
    StoredAnswer, run,
};

impl Store {
    /// Appends events that belong to no other change (`actor_restarted`, `server_shutdown`).
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn event_append(&self, events: Vec<NewEvent>) -> StoreResult<()> {
        run!(self, write, events::event_append(events))
    }

    /// Events after `seq`, in order.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn event_list(&self, after: i64, limit: i64) -> StoreResult<Vec<Event>> {
        run!(self, read, events::event_list(after, limit))
    }

    /// `(oldest kept, newest)`; `(0, 0)` when there was none; oldest kept is `newest + 1` when all
    /// were deleted.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn event_bounds(&self) -> StoreResult<(i64, i64)> {
        run!(self, read, events::event_bounds())
    }

    /// Registers this boot with a lease of `lease`; on SQLite voids earlier boots' leases two
    /// seconds from now.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn node_register(&self, claimant: Claimant, lease: Duration) -> StoreResult<NodeRow> {
        run!(self, write, nodes::node_register(claimant, lease))
    }

    /// Extends this boot's lease; false when its row is gone or was voided.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn node_beat(&self, boot_id: Uuid, lease: Duration) -> StoreResult<bool> {
        run!(self, write, nodes::node_beat(boot_id, lease))
    }

    /// Notes that this boot said goodbye; its leases end.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn node_stop(&self, boot_id: Uuid) -> StoreResult<()> {
        run!(self, write, nodes::node_stop(boot_id))
    }

    /// All boots kept, newest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn node_list(&self) -> StoreResult<Vec<NodeRow>> {
        run!(self, read, nodes::node_list())
    }

    /// After the clock was set back: what waits for an instant and was written in what is the
    /// future now gets the wait that it had then. May be asked for at any time; gives how many rows
    /// changed.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn clock_set_back(&self) -> StoreResult<u64> {
        run!(self, write, clock::clock_set_back())
    }

    /// The value kept under `key`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn state_get(&self, key: String) -> StoreResult<Option<Value>> {
        run!(self, read, state::state_get(key))
    }

    /// Keeps a value under `key` and bumps [`Topic::State`](crate::store::Topic::State).
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn state_set(&self, key: String, value: Value) -> StoreResult<()> {
        run!(self, write, state::state_set(key, value))
    }

    /// Makes a key; `Duplicate{prefix}` when the prefix is taken.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn key_create(&self, row: NewApiKey) -> StoreResult<ApiKeyRow> {
        run!(self, write, keys::key_create(row))
    }

    /// All keys, newest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn key_list(&self) -> StoreResult<Vec<ApiKeyRow>> {
        run!(self, read, keys::key_list())
    }

    /// The key with that prefix, revoked and expired ones too.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn key_find(&self, prefix: String) -> StoreResult<Option<ApiKeyRow>> {
        run!(self, read, keys::key_find(prefix))
    }

    /// Ends a key now; again is no error.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn key_revoke(&self, id: i64) -> StoreResult<ApiKeyRow> {
        run!(self, write, keys::key_revoke(id))
    }

    /// Notes that keys were used now.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn key_touch(&self, ids: Vec<i64>) -> StoreResult<()> {
        run!(self, write, keys::key_touch(ids))
    }

    /// How many keys there are, revoked ones too.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn key_count(&self) -> StoreResult<i64> {
        run!(self, read, keys::key_count())
    }

    /// Notes an open session.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn session_open(&self, session: NewSession) -> StoreResult<()> {
        run!(self, write, sessions::session_open(session))
    }

    /// Notes a session's subscriptions.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn session_subscribe(
        &self,
        session_id: Uuid,
        subscriptions: Value,
    ) -> StoreResult<()> {
        run!(self, write, sessions::session_subscribe(session_id, subscriptions))
    }

    /// Notes that a session ended.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn session_close(&self, session_id: Uuid) -> StoreResult<()> {
        run!(self, write, sessions::session_close(session_id))
    }

    /// Makes the rows in `alive` this boot's and open, whatever boot they were made under; then
    /// closes the rows of this boot that are not in `alive`, and of boots that are gone. Gives how
    /// many it closed.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn session_close_stale(&self, boot_id: Uuid, alive: Vec<Uuid>) -> StoreResult<u64> {
        run!(self, write, sessions::session_close_stale(boot_id, alive))
    }

    /// The answer kept for the key of an [`Idempotency`](crate::store::Idempotency);
    /// `IdempotencyMismatch` when it was given to another body.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn answer_find(
        &self,
        key: String,
        body_hash: String,
    ) -> StoreResult<Option<StoredAnswer>> {
        run!(self, read, idempotency::answer_find(key, body_hash))
    }

    /// Deletes one batch of each kind that is past its time; true when there may be more.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn retention_sweep(&self, retention: Retention) -> StoreResult<bool> {
        run!(self, write, retention::retention_sweep(retention))
    }

    /// Deletes up to `limit` executions that ended before `before` in one of `statuses`, but none
    /// of a chain whose retry waits or runs; gives how many, and whether there may be more.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn execution_delete_ended(
        &self,
        before: Timestamp,
        statuses: Vec<ExecutionStatus>,
        limit: i64,
    ) -> StoreResult<(u64, bool)> {
        run!(self, write, retention::execution_delete_ended(before, statuses, limit))
    }
}
