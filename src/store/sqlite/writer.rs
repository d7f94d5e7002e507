//! The writer: all writing operations, one transaction a group.
//!
//! A group is what waits when the writer looks, at most [`GROUP_MAX`]; there is no delay to wait
//! for more, so an idle writer answers one operation after one commit. An operation that fails or
//! panics is undone; the others of the group go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Checkpointer;
use super::lock::FileLock;
use super::queries::{Effects, Op, Tx, events};
use super::{Conn, errors};
use crate::clock::Clock;
use crate::store::faulty::FaultPoint;
use crate::store::op::{OpError, OpResult};
use crate::store::shared::Shared;
use crate::store::{StoreError, StoreResult};

/// Operations in one transaction at most: bounds how long the first of them waits.
const GROUP_MAX: usize = 256;

/// An operation that waits for the writer.
pub(super) trait WriteJob: Send {
    /// Its name, for messages and planned faults.
    fn name(&self) -> &'static str;
    /// Does the work and keeps what came of it; true when there is something to commit.
    fn run(&mut self, tx: &mut Tx) -> bool;
    /// Gives the caller what came of it, or the error that spoilt the commit.
    fn answer(self: Box<Self>, spoilt: Option<StoreError>);
    /// Puts an error in place of the result.
    fn spoil(&mut self, error: StoreError);
}

struct Job<T> {
    name: &'static str,
    op: Op<T>,
    result: Option<StoreResult<T>>,
    answer: oneshot::Sender<StoreResult<T>>,
}

/// Packs an operation for the queue.
pub(super) fn job<T: Send + 'static>(
    name: &'static str,
    op: Op<T>,
    answer: oneshot::Sender<StoreResult<T>>,
) -> Box<dyn WriteJob> {
    Box::new(Job { name, op, result: None, answer })
}

/// Runs an operation to its end on this thread: everything below it completes in place.
pub(super) fn run_here<T>(name: &'static str, op: &Op<T>, tx: &mut Tx) -> StoreResult<T> {
    match catch_unwind(AssertUnwindSafe(|| op(tx).now_or_never())) {
        Ok(Some(result)) => result.map_err(|error| errors::store_error(name, error)),
        Ok(None) => Err(StoreError::Internal(format!("{name} waited for something"))),
        Err(_) => Err(StoreError::Internal(format!("{name} panicked"))),
    }
}

impl<T: Send> WriteJob for Job<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, tx: &mut Tx) -> bool {
        let result = run_here(self.name, &self.op, tx);
        let good = result.is_ok();
        self.result = Some(result);
        good
    }

    fn answer(self: Box<Self>, spoilt: Option<StoreError>) {
        let result = match (self.result, spoilt) {
            (Some(Err(error)), _) | (_, Some(error)) => Err(error),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(StoreError::Internal(format!("{} was not run", self.name))),
        };
        // A caller that went away does not want its answer.
        drop(self.answer.send(result));
    }

    fn spoil(&mut self, error: StoreError) {
        self.result = Some(Err(error));
    }
}

/// Starts the thread; it ends, and lets go of the file's lock, when the queue is closed and empty.
pub(super) fn spawn(
    (connection, checkpointer): (Conn, Checkpointer),
    mut jobs: mpsc::Receiver<Box<dyn WriteJob>>,
    clock: Clock,
    shared: Arc<Shared>,
    lock: FileLock,
) -> StoreResult<JoinHandle<()>> {
    Builder::new()
        .name("store-writer".into())
        .spawn(move || {
            let tx = Tx::new(Box::new(connection), clock);
            let mut writer = Writer { tx, shared, checkpointer };
            let mut group = Vec::with_capacity(GROUP_MAX);
            while let Some(first) = jobs.blocking_recv() {
                group.push(first);
                while group.len() < GROUP_MAX {
                    match jobs.try_recv() {
                        Ok(next) => group.push(next),
                        Err(_) => break,
                    }
                }
                writer.run_group(&mut group);
            }
            writer.checkpointer.stop();
            writer.fold_log();
            drop(writer);
            drop(lock);
        })
        .map_err(|error| StoreError::Internal(format!("cannot start the writer: {error}")))
}

#[derive(QueryableByName)]
struct FoldRow {
    #[diesel(sql_type = Integer)]
    busy: i32,
}

#[derive(QueryableByName)]
struct ChangesRow {
    #[diesel(sql_type = BigInt)]
    changes: i64,
}

/// How an operation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ran {
    /// There is something to commit.
    Well,
    /// It failed.
    Badly,
    /// A planned fault struck it; what it found is its answer.
    Spoilt,
}

struct Writer {
    tx: Tx,
    shared: Arc<Shared>,
    checkpointer: Checkpointer,
}

impl Writer {
    fn execute(&mut self, statement: &'static str) -> OpResult<()> {
        match self.tx.conn().batch_execute(statement).now_or_never() {
            Some(result) => Ok(result?),
            None => Err(OpError::Rule(StoreError::Internal("a statement waited".into()))),
        }
    }

    /// Brings all of the write-ahead log into the file and empties it. What cannot be folded now is
    /// not lost: the next open finds it in the log.
    fn fold_log(&mut self) {
        let folding = diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)")
            .get_result::<FoldRow>(self.tx.conn())
            .now_or_never();
        match folding {
            Some(Ok(row)) if row.busy == 0 => {}
            Some(Ok(_)) => tracing::warn!("another process reads the file: copy its -wal file too"),
            Some(Err(error)) => tracing::warn!(%error, "the write-ahead log was not folded in"),
            None => tracing::warn!("folding in the write-ahead log waited"),
        }
    }

    /// Brings in what was committed while the log was brought in, after all answers: a few pages.
    fn bring_in_rest(&mut self) {
        if let Err(error) = self.execute("PRAGMA wal_checkpoint(PASSIVE)") {
            tracing::debug!(?error, "the rest of the write-ahead log was not brought in");
        }
    }

    /// Rows changed over this connection so far.
    fn changes(&mut self) -> Option<i64> {
        let row = diesel::sql_query("SELECT total_changes() AS changes")
            .get_result::<ChangesRow>(self.tx.conn())
            .now_or_never()?;
        row.ok().map(|row| row.changes)
    }

    /// Notes whether the disk takes what is written. Only a commit that changed something shows
    /// that it does again; `before` counts the changes before the group if it did not take any.
    fn note_disk(&mut self, spoilt: Option<&StoreError>, before: Option<i64>) {
        match spoilt {
            Some(StoreError::Unwritable(reason)) => {
                let earlier = self.shared.unwritable.lock().replace(reason.clone());
                if earlier.is_none() {
                    tracing::error!(reason, "nothing can be stored; work waits, reading goes on");
                }
            }
            None if before.is_some() && self.changes() > before => {
                *self.shared.unwritable.lock() = None;
                tracing::info!("the disk takes what is written again");
            }
            _ => {}
        }
    }

    fn run_group(&mut self, group: &mut Vec<Box<dyn WriteJob>>) {
        let was_unwritable = self.shared.unwritable.lock().is_some();
        let before = if was_unwritable { self.changes() } else { None };
        let committed = self.commit_group(group);
        let has_committed = matches!(committed, Ok(true));
        let before = before.filter(|_| has_committed);
        let spoilt = committed.err().map(|error| {
            if let Err(error) = self.execute("ROLLBACK") {
                tracing::debug!(?error, "nothing to roll back");
            }
            errors::store_error("commit", error)
        });
        self.note_disk(spoilt.as_ref(), before);
        let topics = self.tx.effects.topics;
        if spoilt.is_none() {
            self.shared.changes.bump(topics);
        }
        for mut job in group.drain(..) {
            if spoilt.is_none()
                && let Err(error) = self.shared.faults.check(job.name(), FaultPoint::AfterCommit)
            {
                job.spoil(error);
            }
            job.answer(spoilt.as_ref().map(StoreError::repeated));
        }
        if has_committed && self.checkpointer.committed() {
            self.bring_in_rest();
        }
    }

    /// Runs the operations of a group; false when there was nothing to commit. As a rule all of
    /// them succeed, so that they are run without a savepoint each, which keeps a copy of every
    /// page that is changed. When one fails all are undone, and run again so that each can be
    /// undone alone.
    fn commit_group(&mut self, group: &mut [Box<dyn WriteJob>]) -> OpResult<bool> {
        self.tx.renew();
        self.execute("BEGIN IMMEDIATE")?;
        let mut all = Effects::default();
        for (place, job) in group.iter_mut().enumerate() {
            match self.run_one(job.as_mut()) {
                Ran::Well => self.take_effects(&mut all),
                bad => return self.commit_apart(group, place, bad),
            }
        }
        self.close(all)
    }

    /// Runs a group of which the operation at `place` has failed once more, each in a savepoint.
    fn commit_apart(
        &mut self,
        group: &mut [Box<dyn WriteJob>],
        place: usize,
        bad: Ran,
    ) -> OpResult<bool> {
        self.tx.renew();
        // Some errors have rolled back already.
        if let Err(error) = self.execute("ROLLBACK") {
            tracing::debug!(?error, "nothing to roll back");
        }
        if group.len() == 1 {
            return Ok(false);
        }
        self.execute("BEGIN IMMEDIATE")?;
        let mut all = Effects::default();
        for (at, job) in group.iter_mut().enumerate() {
            if at == place && bad == Ran::Spoilt {
                continue;
            }
            self.execute("SAVEPOINT operation")?;
            if self.run_one(job.as_mut()) == Ran::Well {
                self.take_effects(&mut all);
            } else {
                self.tx.renew();
                self.execute("ROLLBACK TO operation")?;
            }
            self.execute("RELEASE operation")?;
        }
        self.close(all)
    }

    /// Runs an operation.
    fn run_one(&mut self, job: &mut dyn WriteJob) -> Ran {
        self.tx.renew();
        if !job.run(&mut self.tx) {
            return Ran::Badly;
        }
        match self.shared.faults.check(job.name(), FaultPoint::BeforeCommit) {
            Ok(()) => Ran::Well,
            Err(error) => {
                job.spoil(error);
                Ran::Spoilt
            }
        }
    }

    /// Adds what the last operation did beside its rows.
    fn take_effects(&mut self, all: &mut Effects) {
        let mut effects = std::mem::take(&mut self.tx.effects);
        all.topics = all.topics.union(effects.topics);
        all.events.append(&mut effects.events);
    }

    /// Appends the events of all operations and commits.
    fn close(&mut self, all: Effects) -> OpResult<bool> {
        self.tx.renew();
        self.tx.effects = all;
        match events::flush(&mut self.tx).now_or_never() {
            Some(result) => result?,
            None => return Err(OpError::Rule(StoreError::Internal("events waited".into()))),
        }
        self.execute("COMMIT")?;
        Ok(true)
    }
}
