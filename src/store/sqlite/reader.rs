//! The readers: operations that only read, beside the writer (the write-ahead log lets them).

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::Conn;
use super::queries::{Op, Tx};
use super::writer::run_here;
use crate::clock::Clock;
use crate::store::{StoreError, StoreResult};

/// An operation that waits for a reader.
pub(super) trait ReadJob: Send {
    /// Does the work and gives the caller what came of it.
    fn run(self: Box<Self>, tx: &mut Tx);
}

struct Job<T> {
    name: &'static str,
    op: Op<T>,
    answer: oneshot::Sender<StoreResult<T>>,
}

impl<T: Send> ReadJob for Job<T> {
    fn run(self: Box<Self>, tx: &mut Tx) {
        if self.answer.is_closed() {
            return;
        }
        let result = run_here(self.name, &self.op, tx);
        // A caller that went away does not want its answer.
        drop(self.answer.send(result));
    }
}

/// Packs an operation for the queue.
pub(super) fn job<T: Send + 'static>(
    name: &'static str,
    op: Op<T>,
    answer: oneshot::Sender<StoreResult<T>>,
) -> Box<dyn ReadJob> {
    Box::new(Job { name, op, answer })
}

/// Starts a thread; it ends when the queue is closed and empty.
pub(super) fn spawn(
    connection: Conn,
    jobs: Arc<Mutex<mpsc::Receiver<Box<dyn ReadJob>>>>,
    clock: Clock,
) -> StoreResult<JoinHandle<()>> {
    Builder::new()
        .name("store-reader".into())
        .spawn(move || {
            let mut tx = Tx::new(Box::new(connection), clock);
            loop {
                // The one that waits for the next job holds the lock; the others wait for it.
                let next = jobs.lock().blocking_recv();
                let Some(job) = next else { return };
                tx.renew();
                job.run(&mut tx);
            }
        })
        .map_err(|error| StoreError::Internal(format!("cannot start a reader: {error}")))
}
