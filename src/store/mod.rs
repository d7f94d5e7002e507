//! The store: one contract, two back ends. The truth of the system lives here.
//!
//! What it promises, whichever back end is underneath (one conformance suite holds both to it):
//! - Every change of state and the events that tell of it are one transaction. Events are numbered
//!   densely, in commit order.
//! - An answer comes after the commit. An error other than `Unavailable` means nothing was
//!   changed; after `Unavailable` a write may or may not have been made, and is asked for again by
//!   something that notices (compare-and-set, unique keys, lease owners).
//! - A caller may drop any future at any time: the operation is then whole or not at all, and no
//!   connection is left broken.
//! - A write about a running execution names its lease owner, and changes nothing when the lease
//!   was lost. An execution's lease is the lease of its owner's row in `nodes`.
//! - Leases, due instants and `started_at` go by one clock: the database's on PostgreSQL, the
//!   injected one on SQLite (where one process owns the file) and whenever it is a manual clock.
//!   On SQLite leases go by its steady hand: a step of the wall clock changes none.
//!
//! Not here: what to fire, retry or give up (that is decided by pure functions elsewhere), and
//! waiting for changes (callers watch [`Store::changes`] and read again).
//!
//! The contract's functions are in `contract/`, their work in `queries/` (compiled once per back
//! end), connections and hot statements in `sqlite/` and `postgres/`.

mod acts;
mod admission_types;
mod alert_rows;
mod alert_types;
mod changes;
mod contract;
mod conversions;
mod due_types;
mod error;
mod event_chunk;
mod faulty;
mod inbox;
mod models;
mod op;
mod page;
mod policies;
mod postgres;
mod recovery_rows;
mod recovery_types;
mod shared;
mod sql_types;
mod sqlite;
mod statement;
mod types;

use std::sync::Arc;

use carillon_schema::tables as schema;

pub use acts::{
    ActedExecution, AttentionLimits, AuditFilter, ErrorPageFilter, ExecutionActs, ExecutionShown,
    OutcomeOverride, OutcomeSetting, OverrideOutcome,
};
pub use admission_types::*;
pub use alert_types::*;
pub use due_types::*;
pub use error::{StoreError, StoreResult};
pub use faulty::{BOUNDARIES, FaultPlan, FaultPoint};
pub use inbox::*;
pub use page::*;
pub use policies::*;
pub use recovery_types::*;
pub use types::*;

use crate::clock::{Clock, Timestamp};
use crate::domain::act::Act;
use acts::BoundAct;
use postgres::PostgresStore;
use postgres::group::PlainCreation;
use shared::Shared;
use sqlite::SqliteStore;

/// What changed, for whoever waits for it. A change is a hint: the store is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A schedule was made, edited, paused, resumed or deleted (not: fired).
    Schedules,
    /// Executions wait to be claimed.
    Pending,
    /// An execution was asked to cancel.
    Cancels,
    /// A retry was planned or withdrawn.
    Retries,
    /// Events were appended.
    Events,
    /// The system state changed.
    State,
    /// Executions wait to be admitted one by one, or what holds them may have changed.
    Gated,
    /// Something that may set schedules off was stored, or a schedule that listens changed.
    Inbox,
}

/// The code of a change that was planned before its schedule fired; it is to be planned again.
pub const MOVED_MEANWHILE: &str = "moved_meanwhile";

/// The executions of a schedule's (`$1`) planned instants from `$2` to `$3`, the first `$4`.
/// Served by an index, as is the next one; tests explain both on both back ends.
pub const RAN_OF_SCHEDULE: &str = "SELECT scheduled_at AS from_at, scheduled_at AS to_at, \
    CAST(1 AS bigint) AS instants, CAST(NULL AS text) AS reason, id, execution_id, status, \
    started_at, lateness_ms FROM task_executions WHERE schedule_id = $1 \
    AND \"trigger\" = 'schedule' AND scheduled_at >= $2 AND scheduled_at <= $3 \
    ORDER BY scheduled_at LIMIT $4";

/// The ledger ranges of a schedule (`$1`) that touch the span from `$2` to `$3`, the first `$4`.
pub const MISSED_OF_SCHEDULE: &str = "SELECT from_at, to_at, instants, reason, \
    CAST(NULL AS bigint) AS id, CAST(NULL AS uuid) AS execution_id, CAST(NULL AS text) AS status, \
    CAST(NULL AS timestamptz) AS started_at, CAST(NULL AS bigint) AS lateness_ms \
    FROM schedule_ledger WHERE schedule_id = $1 AND to_at >= $2 AND from_at <= $3 \
    ORDER BY to_at LIMIT $4";

/// A cheap handle on the store; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// The act that what is written through this handle belongs to.
    act: Option<Arc<BoundAct>>,
}

struct Inner {
    backend: Backend,
    shared: Arc<Shared>,
    acquire: std::time::Duration,
}

enum Backend {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

/// Runs an operation of `queries/` on whichever back end this is. The arguments are shared, not
/// moved into it, as PostgreSQL may ask for another run.
macro_rules! run {
    ($store:expr, $kind:ident, $file:ident :: $name:ident ($($argument:ident),*)) => {{
        #[expect(clippy::allow_attributes, reason = "some operations have arguments, some do not")]
        #[allow(unused_variables, clippy::unit_arg, reason = "likewise")]
        let arguments = ::std::sync::Arc::new(($($argument,)*));
        $crate::store::faulty::listed!($kind, $name);
        let act = $store.act_of(stringify!($kind));
        let result = match &$store.inner.backend {
            $crate::store::Backend::Sqlite(backend) => {
                let act = ::std::option::Option::clone(&act);
                let op = $crate::store::sqlite::queries::op(move |tx| {
                    let arguments = ::std::sync::Arc::clone(&arguments);
                    let act = ::std::option::Option::clone(&act);
                    Box::pin(async move {
                        tx.begin_act(act);
                        let ($($argument,)*) = &*arguments;
                        let done =
                            $crate::store::sqlite::queries::$file::$name(tx, $($argument),*).await?;
                        $crate::store::sqlite::queries::audit::close(tx).await?;
                        Ok(done)
                    })
                });
                backend.$kind(stringify!($name), op).await
            }
            $crate::store::Backend::Postgres(backend) => {
                let act = ::std::option::Option::clone(&act);
                let op = $crate::store::postgres::queries::op(move |tx| {
                    let arguments = ::std::sync::Arc::clone(&arguments);
                    let act = ::std::option::Option::clone(&act);
                    Box::pin(async move {
                        tx.begin_act(act);
                        let ($($argument,)*) = &*arguments;
                        let done =
                            $crate::store::postgres::queries::$file::$name(tx, $($argument),*).await?;
                        $crate::store::postgres::queries::audit::close(tx).await?;
                        Ok(done)
                    })
                });
                backend.$kind(stringify!($name), op).await
            }
        };
        if let (Ok(_), Some(act)) = (&result, &act) {
            act.settle();
        }
        result
    }};
}
pub(crate) use run;

impl Store {
    /// Says what is at the place that `options` name, and changes nothing there.
    ///
    /// # Errors
    /// `Unavailable` when the database does not answer, `Internal` when the file cannot be used.
    pub async fn probe(options: &StoreOptions) -> StoreResult<String> {
        match &options.location {
            StoreLocation::Sqlite(path) => sqlite::probe(path),
            StoreLocation::Postgres(url) => postgres::probe(url).await,
        }
    }

    /// Opens (creating and migrating) the store that `options` names and starts its threads.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot be reached (the caller waits and tries again),
    /// `Internal` when it is broken, locked by another process or cannot be migrated.
    pub async fn open(options: StoreOptions, clock: Clock) -> StoreResult<Self> {
        let shared = Arc::new(Shared::new());
        let backend = match &options.location {
            StoreLocation::Sqlite(path) => {
                Backend::Sqlite(SqliteStore::open(path, options.acquire, &clock, &shared).await?)
            }
            StoreLocation::Postgres(url) => {
                Backend::Postgres(PostgresStore::open(url, &options, &clock, &shared).await?)
            }
        };
        let inner = Arc::new(Inner { backend, shared, acquire: options.acquire });
        Ok(Self { inner, act: None })
    }

    /// A handle on the same store for one act: each operation that writes through it leaves an
    /// audit row in its own transaction.
    #[must_use]
    pub fn acting(&self, act: Act) -> Self {
        Self { inner: Arc::clone(&self.inner), act: Some(Arc::new(BoundAct::new(act))) }
    }

    /// The act of this handle, unless an operation of it was committed.
    #[must_use]
    pub fn unsettled_act(&self) -> Option<Act> {
        let act = self.act.as_ref().filter(|act| !act.is_settled())?;
        Some(act.act.clone())
    }

    /// Tells what the act of this handle changes: for operations that cannot tell themselves.
    pub fn tell_change(&self, before: serde_json::Value, after: serde_json::Value) {
        if let Some(act) = &self.act {
            act.tell_change((before, after));
        }
    }

    /// The back end that makes this request together with others, if it does.
    fn grouping(&self, request: &ExecutionCreate) -> Option<&PostgresStore> {
        match &self.inner.backend {
            Backend::Postgres(backend) if PlainCreation::fits(request) => Some(backend),
            Backend::Postgres(_) | Backend::Sqlite(_) => None,
        }
    }

    /// The act that an operation of this kind (`read`, `write`) belongs to.
    fn act_of(&self, kind: &str) -> Option<Arc<BoundAct>> {
        self.act.clone().filter(|_| kind == "write")
    }

    /// A receiver whose value goes up with each change of `topic`, on this node at once and on
    /// other nodes of the same PostgreSQL soon after.
    #[must_use]
    pub fn changes(&self, topic: Topic) -> tokio::sync::watch::Receiver<u64> {
        self.inner.shared.changes.subscribe(topic)
    }

    /// `sqlite` or `postgres`, for people.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        match &self.inner.backend {
            Backend::Sqlite(_) => "sqlite",
            Backend::Postgres(_) => "postgres",
        }
    }

    /// The planned failures of this store; tests add to them, and `admin.kill_at` does.
    #[must_use]
    pub fn faults(&self) -> &FaultPlan {
        &self.inner.shared.faults
    }

    /// Why nothing can be written, while that is so; reading works then.
    #[must_use]
    pub fn unwritable(&self) -> Option<String> {
        self.inner.shared.unwritable.lock().clone()
    }

    /// Waits for what is queued, ends the threads and releases the file. Operations asked for later
    /// are `Unavailable`.
    pub async fn close(&self) {
        match &self.inner.backend {
            Backend::Sqlite(backend) => backend.close().await,
            Backend::Postgres(backend) => backend.close().await,
        }
    }

    /// A cheap round trip; `Unavailable` when the database does not answer within the acquire
    /// timeout.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ping(&self) -> StoreResult<()> {
        let trip = async { run!(self, read, state::ping()) };
        tokio::time::timeout(self.inner.acquire, trip)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("no answer to a ping".into())))
    }

    /// The database's own clock (PostgreSQL) or the injected one (SQLite).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn now(&self) -> StoreResult<Timestamp> {
        run!(self, read, state::now())
    }
}
