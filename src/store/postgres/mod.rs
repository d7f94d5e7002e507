//! PostgreSQL: a pool of connections, and the store's own small runtime for the operations.
//!
//! Each operation is a task of that runtime, so that a caller who goes away never ends a
//! transaction half way: it commits or rolls back, and its connection goes back to the pool
//! whole. Requests for one execution each share a transaction ([`group`]), reads of one schedule
//! each a statement ([`lookups`]). Serialization failures
//! and deadlocks run the operation again from the start. What the database cannot answer for now is
//! `Unavailable`, within a second also when it says nothing at all ([`pulse`]); broken connections
//! are thrown away when they are handed out.

mod connect;
mod errors;
pub(crate) mod gated;
pub(crate) mod group;
pub(crate) mod hot;
mod lookups;
mod migrate;
mod notify;
mod pulse;
#[expect(clippy::duplicate_mod, reason = "compiled once per back end on purpose")]
#[path = "../queries/mod.rs"]
pub(crate) mod queries;
mod tls;
mod together;

use std::sync::Arc;
use std::time::Duration;

use diesel::ConnectionError;
use diesel::dsl::sql;
use diesel::sql_types::Text;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, TransactionManager};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::domain::execution::Execution;
use crate::domain::schedule::Schedule;
use crate::store::faulty::FaultPoint;
use crate::store::op::OpResult;
use crate::store::shared::Shared;
use crate::store::{Creation, StoreError, StoreOptions, StoreResult};
use connect::Target;
use group::{Groups, PlainCreation};
use lookups::Lookups;
use notify::Notifier;
use pulse::Pulse;
use queries::{Op, Tx, events};

/// The back end's diesel type.
pub(crate) type Db = diesel::pg::Pg;
/// A connection.
pub(crate) type Conn = AsyncPgConnection;
/// What a transaction holds.
pub(crate) type Handle = Object<AsyncPgConnection>;

type Manager = <Conn as AsyncConnection>::TransactionManager;

/// A row lock, held to the end of the transaction.
macro_rules! locked {
    ($query:expr) => {
        diesel::prelude::QueryDsl::for_update($query)
    };
}
pub(crate) use locked;

/// The same, without the rows that another transaction has locked.
macro_rules! skip_locked {
    ($query:expr) => {
        $query.for_update().skip_locked()
    };
}
pub(crate) use skip_locked;

/// Begins the transaction of an operation. Until its end a plan that sorts is the last resort: what
/// writes in an order has an index for it, and the planner, which believes that nearly nothing
/// waits (what waits now was not there when it last looked), would rather read all that does and
/// sort it. Lists, which may well sort, have no transaction.
const BEGIN: &str = "BEGIN; SET LOCAL enable_sort = off";
/// Threads of the store's runtime: they wait for the network, nothing else.
const THREADS: usize = 2;
/// Runs of an operation that meets serialization failures or deadlocks.
const RUNS_MAX: u32 = 5;
/// A statement longer than this is ended by the server (set on each connection); an operation that
/// is not done in twice that has lost its server.
pub(super) const STATEMENT_MAX: Duration = Duration::from_secs(15);

/// Connects and asks for the server's version.
pub(crate) async fn probe(url: &str) -> StoreResult<String> {
    let unreachable = |error: ConnectionError| StoreError::Unavailable(error.to_string());
    let mut connection = Target::parse(url)?.connect().await.map_err(unreachable)?;
    let version: String = diesel::select(sql::<Text>("version()"))
        .get_result(&mut connection)
        .await
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(format!("it answers: {version}"))
}

/// A reachable database.
pub(crate) struct PostgresStore {
    core: Arc<Core>,
    groups: Groups,
    lookups: Lookups,
    runtime: Mutex<Option<Runtime>>,
}

struct Core {
    pool: Pool<AsyncPgConnection>,
    acquire: Duration,
    clock: Clock,
    shared: Arc<Shared>,
    notifier: Notifier,
    pulse: Arc<Pulse>,
}

impl PostgresStore {
    /// Connects, migrates, starts the runtime and the listener.
    pub(crate) async fn open(
        url: &str,
        options: &StoreOptions,
        clock: &Clock,
        shared: &Arc<Shared>,
    ) -> StoreResult<Self> {
        let target = connect::Target::parse(url)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("store-postgres")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Internal(format!("cannot start a runtime: {error}")))?;
        let held = RuntimeGuard(Some(runtime));
        let handle = held.handle()?;
        let migrating = handle.spawn(migrate::run(target.clone()));
        migrating.await.map_err(|error| StoreError::Internal(error.to_string()))??;
        let pool = connect::pool(target.clone(), options)?;
        let pulse = Arc::new(Pulse::new(options.acquire));
        let notifier = Notifier::start(&handle, &pool, &target, shared, &pulse);
        let core = Core {
            pool,
            acquire: options.acquire,
            clock: clock.clone(),
            shared: Arc::clone(shared),
            notifier,
            pulse,
        };
        let core = Arc::new(core);
        let groups = Groups::start(&handle, &core);
        let lookups = Lookups::start(&handle, &core);
        Ok(Self { core, groups, lookups, runtime: Mutex::new(held.keep()) })
    }

    /// Runs an operation in a transaction.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        name: &'static str,
        op: Op<T>,
    ) -> StoreResult<T> {
        let core = Arc::clone(&self.core);
        self.spawn(name, async move { core.write(name, &op).await }).await
    }

    /// Makes an execution, with others that are asked for at the same time.
    pub(crate) async fn create(&self, asked: PlainCreation) -> StoreResult<Creation<Execution>> {
        self.groups.create(asked).await
    }

    /// Reads a schedule, with others that are read at the same time.
    pub(crate) async fn schedule(&self, id: i64) -> StoreResult<Schedule> {
        self.lookups.schedule(id).await
    }

    /// Runs an operation that only reads, without a transaction.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        name: &'static str,
        op: Op<T>,
    ) -> StoreResult<T> {
        let core = Arc::clone(&self.core);
        self.spawn(name, async move { core.read(name, &op).await }).await
    }

    async fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = StoreResult<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let handle = self.runtime.lock().as_ref().map(|runtime| runtime.handle().clone());
        let handle = handle.ok_or_else(|| StoreError::Unavailable("the store is closed".into()))?;
        let bounded = handle.spawn(async move {
            timeout(STATEMENT_MAX * 2, work)
                .await
                .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("{name} took too long"))))
        });
        bounded.await.unwrap_or_else(|error| {
            if error.is_panic() {
                Err(StoreError::Internal(format!("{name} panicked")))
            } else {
                Err(StoreError::Unavailable("the store is closed".into()))
            }
        })
    }

    /// Waits for what runs, then ends the runtime.
    pub(crate) async fn close(&self) {
        self.core.notifier.stop();
        let runtime = self.runtime.lock().take();
        // Operations hold a connection each; once the pool is closed and theirs are back, none
        // runs.
        self.core.pool.close();
        let drained = async {
            while self.core.pool.status().size > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(STATEMENT_MAX, drained).await.is_err() {
            tracing::warn!("the store was closed while operations ran");
        }
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.core.notifier.stop();
        if let Some(runtime) = self.runtime.get_mut().take() {
            // A runtime may not wait for its end where futures run.
            runtime.shutdown_background();
        }
    }
}

/// Keeps a runtime from being dropped where futures run, when opening fails half way.
struct RuntimeGuard(Option<Runtime>);

impl RuntimeGuard {
    fn handle(&self) -> StoreResult<tokio::runtime::Handle> {
        self.0
            .as_ref()
            .map(|runtime| runtime.handle().clone())
            .ok_or_else(|| StoreError::Internal("the runtime is gone".into()))
    }

    fn keep(mut self) -> Option<Runtime> {
        self.0.take()
    }
}

impl Drop for RuntimeGuard {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Gives up the connection of an operation whose server fell silent: an answer that comes late must
/// not meet another question.
fn silent(tx: &mut Tx) -> StoreError {
    give_up(tx.conn());
    StoreError::Unavailable("the server does not answer".into())
}

/// Marks a connection, so that the pool throws it away.
fn give_up(connection: &mut Conn) {
    Manager::transaction_manager_status_mut(connection).set_in_error();
}

impl Core {
    async fn acquire(&self) -> StoreResult<Tx> {
        match timeout(self.acquire, self.pool.get()).await {
            Ok(Ok(connection)) => Ok(Tx::new(connection, self.clock.clone())),
            Ok(Err(error)) => Err(errors::pool_error(&error)),
            Err(_) => Err(StoreError::Unavailable("no connection became free in time".into())),
        }
    }

    async fn read<T>(&self, name: &'static str, op: &Op<T>) -> StoreResult<T> {
        let mut run = 1;
        loop {
            let mut tx = self.acquire().await?;
            let Some(outcome) = self.pulse.watch_over(op(&mut tx)).await else {
                return Err(silent(&mut tx));
            };
            match outcome {
                Ok(value) => return Ok(value),
                Err(error) if run < RUNS_MAX && errors::may_run_again(&error) => run += 1,
                Err(error) => return Err(errors::store_error(name, error)),
            }
        }
    }

    async fn write<T>(&self, name: &'static str, op: &Op<T>) -> StoreResult<T> {
        let mut run = 1;
        loop {
            let mut tx = self.acquire().await?;
            let work = self.transaction(name, op, &mut tx);
            let Some(outcome) = self.pulse.watch_over(work).await else {
                return Err(silent(&mut tx));
            };
            match outcome {
                Ok(value) => {
                    let topics = tx.effects.topics;
                    drop(tx);
                    // Before anybody is told: a crash here loses the hints too.
                    let fault = self.shared.faults.check(name, FaultPoint::AfterCommit);
                    self.shared.changes.bump(topics);
                    self.notifier.tell(topics);
                    fault?;
                    return Ok(value);
                }
                Err(error) if run < RUNS_MAX && errors::may_run_again(&error) => run += 1,
                Err(error) => return Err(errors::store_error(name, error)),
            }
        }
    }

    /// The transaction manager knows of the transaction while it is open: a connection that comes
    /// back to the pool with one (a panic, the time limit) is thrown away.
    async fn transaction<T>(&self, name: &'static str, op: &Op<T>, tx: &mut Tx) -> OpResult<T> {
        tx.renew();
        Manager::begin_transaction_sql(tx.conn(), BEGIN).await?;
        match self.work(name, op, tx).await {
            Ok(value) => {
                Manager::commit_transaction(tx.conn()).await?;
                Ok(value)
            }
            Err(error) => {
                if let Err(error) = Manager::rollback_transaction(tx.conn()).await {
                    tracing::debug!(%error, operation = name, "rollback failed");
                }
                Err(error)
            }
        }
    }

    async fn work<T>(&self, name: &'static str, op: &Op<T>, tx: &mut Tx) -> OpResult<T> {
        let value = op(tx).await?;
        self.shared.faults.check(name, FaultPoint::BeforeCommit)?;
        events::flush(tx).await?;
        Ok(value)
    }
}
