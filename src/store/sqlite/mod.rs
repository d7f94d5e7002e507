//! SQLite: one file, locked for this process; one writer thread with group commit, two readers.
//!
//! Writing operations queue for the writer. It takes all that wait, runs them in one transaction,
//! appends the events of all, commits once (`synchronous=FULL`: the answer comes after the disk has
//! it) and then answers all. An idle writer starts at once. A caller that goes away changes nothing
//! for the writer: the operation is whole or not at all. A thread beside it brings the write-ahead
//! log into the file, and a close all of it, so that a copy of the file alone is a backup.

mod checkpoint;
mod connection;
mod errors;
pub(crate) mod gated;
pub(crate) mod hot;
mod lock;
pub(crate) mod many;
#[expect(clippy::duplicate_mod, reason = "compiled once per back end on purpose")]
#[path = "../queries/mod.rs"]
pub(crate) mod queries;
mod reader;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::store::shared::Shared;
use crate::store::{StoreError, StoreResult};
use checkpoint::Checkpointer;
use connection::Inline;
use lock::FileLock;
use queries::Op;
use reader::ReadJob;
use writer::WriteJob;

/// The back end's diesel type.
pub(crate) type Db = diesel::sqlite::Sqlite;
/// A connection.
pub(crate) type Conn = SyncConnectionWrapper<SqliteConnection, Inline>;
/// What a transaction holds.
pub(crate) type Handle = Box<Conn>;

/// A row lock: SQLite has none and, with one writer, needs none.
macro_rules! locked {
    ($query:expr) => {
        $query
    };
}
pub(crate) use locked;

/// The same, without the rows that another transaction has locked.
macro_rules! skip_locked {
    ($query:expr) => {
        $query
    };
}
pub(crate) use skip_locked;

/// Operations that may wait for the writer, and for the readers.
const QUEUE_MAX: usize = 4_096;
/// Reading threads.
const READERS: usize = 2;

/// Looks whether the file is there and can be read.
pub(crate) fn probe(path: &Path) -> StoreResult<String> {
    match std::fs::File::open(path) {
        Ok(_) => Ok(format!("{} can be read", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(format!("{} does not exist yet; the first start makes it", path.display()))
        }
        Err(error) => Err(StoreError::Internal(format!("{}: {error}", path.display()))),
    }
}

/// An open file.
pub(crate) struct SqliteStore {
    path: PathBuf,
    acquire: Duration,
    writes: Mutex<Option<mpsc::Sender<Box<dyn WriteJob>>>>,
    reads: Mutex<Option<mpsc::Sender<Box<dyn ReadJob>>>>,
    threads: Mutex<Threads>,
}

/// The threads, in the order in which they end.
#[derive(Default)]
struct Threads {
    readers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens (making and migrating) the file and starts the threads.
    pub(crate) async fn open(
        path: &Path,
        acquire: Duration,
        clock: &Clock,
        shared: &Arc<Shared>,
    ) -> StoreResult<Self> {
        let path = path.to_owned();
        let (path, lock, writer, readers) = tokio::task::spawn_blocking(move || {
            let lock = FileLock::take(&path)?;
            let writer = connection::open_writer(&path)?;
            let readers = (0..READERS)
                .map(|_| connection::open_reader(&path))
                .collect::<StoreResult<Vec<_>>>()?;
            let checkpointer = Checkpointer::start(connection::open_checkpointer(&path)?)?;
            Ok::<_, StoreError>((path, lock, (writer, checkpointer), readers))
        })
        .await
        .map_err(|error| StoreError::Internal(error.to_string()))??;

        let (writes, write_jobs) = mpsc::channel(QUEUE_MAX);
        let (reads, read_jobs) = mpsc::channel(QUEUE_MAX);
        let writer = writer::spawn(writer, write_jobs, clock.clone(), Arc::clone(shared), lock)?;
        let read_jobs = Arc::new(Mutex::new(read_jobs));
        let readers = readers
            .into_iter()
            .map(|connection| reader::spawn(connection, Arc::clone(&read_jobs), clock.clone()))
            .collect::<StoreResult<Vec<_>>>()?;
        Ok(Self {
            path,
            acquire,
            writes: Mutex::new(Some(writes)),
            reads: Mutex::new(Some(reads)),
            threads: Mutex::new(Threads { readers, writer: Some(writer) }),
        })
    }

    /// Runs an operation in a transaction.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        name: &'static str,
        op: Op<T>,
    ) -> StoreResult<T> {
        let (answer, answered) = oneshot::channel();
        let queue = self.writes.lock().clone();
        self.send(queue, writer::job(name, op, answer)).await?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Runs an operation that only reads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        name: &'static str,
        op: Op<T>,
    ) -> StoreResult<T> {
        let (answer, answered) = oneshot::channel();
        let queue = self.reads.lock().clone();
        self.send(queue, reader::job(name, op, answer)).await?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn send<J>(&self, queue: Option<mpsc::Sender<J>>, job: J) -> StoreResult<()> {
        let queue = queue.ok_or_else(closed)?;
        match timeout(self.acquire, queue.send(job)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(StoreError::Unavailable("the writer's queue is full".into())),
        }
    }

    /// Ends the threads after what is queued, and with them the lock. The readers go first: while
    /// one of them looks at the write-ahead log, the writer cannot fold all of it into the file.
    pub(crate) async fn close(&self) {
        drop(self.reads.lock().take());
        let threads = std::mem::take(&mut *self.threads.lock());
        join(&self.path, threads.readers).await;
        drop(self.writes.lock().take());
        join(&self.path, threads.writer.into_iter().collect()).await;
    }
}

/// Waits for the end of threads without holding up the caller's.
async fn join(path: &Path, threads: Vec<JoinHandle<()>>) {
    let joined = tokio::task::spawn_blocking(move || {
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a store thread panicked");
            }
        }
    });
    if joined.await.is_err() {
        tracing::error!(path = %path.display(), "closing the store was interrupted");
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}
