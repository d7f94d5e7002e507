//! Bringing the write-ahead log into the file beside the writer.
//!
//! A checkpoint writes every page that changed since the last and waits for the disk: a tenth of
//! a second and more under load, in which nothing would be committed if the writer did it. A thread
//! of its own does nearly all of it. What was committed meanwhile is little; the writer brings in
//! that rest between two groups, since only a log without a rest starts again from its beginning
//! and stays small.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::Integer;
use parking_lot::{Condvar, Mutex};

use crate::store::{StoreError, StoreResult};

/// Pages in the log from which it is brought in: a page that changes often is written once.
const LOG_FULL: i32 = 8_000;
/// Pages that the writer brings in without being missed.
const REST_SMALL: i32 = 500;
/// Passes over what is committed meanwhile, at most.
const PASSES_MAX: usize = 4;
/// Time between two looks at the log while there are commits.
const PAUSE: Duration = Duration::from_millis(25);

/// What a checkpoint, or a look at the log, answers.
#[derive(Clone, Copy, Debug, QueryableByName)]
struct LogRow {
    /// Pages in the log.
    #[diesel(sql_type = Integer)]
    log: i32,
    /// How many of them are in the file.
    #[diesel(sql_type = Integer)]
    checkpointed: i32,
}

impl LogRow {
    const fn rest(self) -> i32 {
        self.log - self.checkpointed
    }
}

#[derive(Debug, Default)]
struct State {
    has_commits: bool,
    is_closed: bool,
}

/// What the writer and the thread share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// The writer is asked to bring in the rest.
    is_rest_wanted: AtomicBool,
}

impl Shared {
    /// Waits for commits; false when it is over.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.has_commits && !state.is_closed {
            self.changed.wait(&mut state);
        }
        state.has_commits = false;
        !state.is_closed
    }

    /// Lets commits gather; false when it is over.
    fn pause(&self) -> bool {
        let mut state = self.state.lock();
        let over = |state: &mut State| !state.is_closed;
        self.changed.wait_while_for(&mut state, over, PAUSE);
        !state.is_closed
    }
}

/// The writer's end of the thread.
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread with a connection of its own.
    pub(super) fn start(connection: SqliteConnection) -> StoreResult<Self> {
        let shared = Arc::<Shared>::default();
        let thread = Builder::new()
            .name("store-checkpoint".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(connection, &shared)
            })
            .map_err(|error| StoreError::Internal(format!("cannot start a thread: {error}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Tells of a commit; true when the writer shall bring in the rest of the log.
    pub(super) fn committed(&self) -> bool {
        let mut state = self.shared.state.lock();
        if !state.has_commits {
            state.has_commits = true;
            self.shared.changed.notify_one();
        }
        drop(state);
        self.shared.is_rest_wanted.swap(false, Ordering::Relaxed)
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.changed.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that brings in the log panicked");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut connection: SqliteConnection, shared: &Shared) {
    while shared.wait() {
        match bring_in(&mut connection, LOG_FULL) {
            Ok(log) => shared.is_rest_wanted.store(log.log >= LOG_FULL, Ordering::Relaxed),
            // A full disk, as a rule: the writer meets it too and says so.
            Err(error) => tracing::debug!(%error, "the write-ahead log was not brought in"),
        }
        if !shared.pause() {
            return;
        }
    }
}

/// Brings in a log of `full` pages but for a small rest; how it stands then.
fn bring_in(connection: &mut SqliteConnection, full: i32) -> QueryResult<LogRow> {
    let mut log: LogRow =
        diesel::sql_query("PRAGMA wal_checkpoint(NOOP)").get_result(connection)?;
    if log.rest() < full {
        return Ok(log);
    }
    for _ in 0..PASSES_MAX {
        log = diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(connection)?;
        if log.rest() < REST_SMALL {
            break;
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;

    use super::*;

    fn open(path: &std::path::Path) -> SqliteConnection {
        let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        let setting = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;";
        connection.batch_execute(setting).unwrap();
        connection
    }

    fn write(connection: &mut SqliteConnection) {
        let rows = "INSERT INTO t SELECT randomblob(4000) FROM json_each('[1,2,3,4,5,6,7,8,9,10]')";
        connection.batch_execute(rows).unwrap();
    }

    #[test]
    fn a_long_log_is_brought_in_and_then_starts_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.db");
        let (mut writer, mut beside) = (open(&path), open(&path));
        writer.batch_execute("CREATE TABLE t (x BLOB)").unwrap();
        write(&mut writer);
        let short = bring_in(&mut beside, 1_000).unwrap();
        assert!(short.rest() >= 10, "{short:?}");
        let whole = bring_in(&mut beside, 10).unwrap();
        assert_eq!((whole.rest(), whole.log), (0, short.log));
        write(&mut writer);
        let again = bring_in(&mut beside, 1_000).unwrap();
        assert!(again.log < whole.log + 10, "{again:?} after {whole:?}");
    }

    #[test]
    fn a_commit_wakes_the_thread_and_the_writer_is_asked_once() {
        let shared = Shared::default();
        shared.state.lock().has_commits = true;
        assert!(shared.wait());
        shared.is_rest_wanted.store(true, Ordering::Relaxed);
        let mut checkpointer = Checkpointer { shared: Arc::new(shared), thread: None };
        assert!(checkpointer.committed());
        assert!(!checkpointer.committed());
        checkpointer.stop();
        assert!(!checkpointer.shared.wait());
        assert!(!checkpointer.shared.pause());
    }
}
