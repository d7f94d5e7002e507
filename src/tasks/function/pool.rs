//! The threads that handlers run on: one each while it runs, kept for the next.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::panic_error;
use crate::domain::task::TaskError;

/// A handler at work. It never leaves its thread, so it need not be `Send`.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<Value, TaskError>>>>;

/// A runtime apart from the arbiters, whose blocking threads carry handlers.
pub(in crate::tasks) struct FunctionPool {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl FunctionPool {
    /// Makes a pool for `most` handlers at the same time; more of them wait.
    pub(in crate::tasks) fn start(most: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(most.max(1))
            .thread_name("carillon-function")
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs the work that `start` makes, on a thread that it may block, until it is done or
    /// `unwanted` ends.
    pub(super) async fn call(
        &self,
        start: impl FnOnce() -> Work + Send + 'static,
        unwanted: oneshot::Receiver<()>,
    ) -> Result<Value, TaskError> {
        let Some(runtime) = self.runtime.as_ref() else { return Err(stopped()) };
        let handle = runtime.handle().clone();
        let (answer, answered) = oneshot::channel();
        runtime.spawn_blocking(move || {
            let done = guarded(|| {
                let local = LocalSet::new();
                let work = async {
                    tokio::select! {
                        done = async { start().await } => done,
                        _ = unwanted => Err(stopped()),
                    }
                };
                handle.block_on(local.run_until(work))
            });
            // Nobody waits any more after a cancel or timeout.
            drop(answer.send(done));
        });
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Drop for FunctionPool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for handlers would hang the stop on one that blocks.
            runtime.shutdown_background();
        }
    }
}

fn stopped() -> TaskError {
    TaskError::new("interrupted", "the function was stopped")
}

/// Runs `work`; a panic of it becomes its error.
pub(super) fn guarded(work: impl FnOnce() -> Result<Value, TaskError>) -> Result<Value, TaskError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_error(panic.as_ref())))
}
