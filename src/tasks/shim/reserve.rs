//! Shims that are started before they are needed.
//!
//! Most of what a shim costs is its start. A shim does not know what it will run until it is told,
//! so a few are kept waiting, and a task that finds one begins without that wait. None is started
//! before the first task, so a server that runs no commands has none. One that waits ends, like any
//! other, with its socket.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::process::Started;
use super::program::Program;

/// How many shims wait.
const SIZE: usize = 2;

/// The shims that wait, and the way to more. Clones share them.
#[derive(Clone)]
pub(crate) struct Reserve {
    inner: Arc<Inner>,
}

struct Inner {
    program: Program,
    waiting: Mutex<VecDeque<Started>>,
    is_filling: AtomicBool,
}

impl Reserve {
    /// Of shims that are started from `program`.
    pub(crate) fn new(program: Program) -> Self {
        let waiting = Mutex::new(VecDeque::with_capacity(SIZE));
        Self { inner: Arc::new(Inner { program, waiting, is_filling: AtomicBool::new(false) }) }
    }

    /// A shim that waits, or a new one; starts another in its place.
    pub(super) async fn take(&self) -> io::Result<Started> {
        let waiting = self.take_waiting();
        let inner = Arc::clone(&self.inner);
        // Starting a process takes up to a millisecond: too long for a thread that others share.
        let taken = match waiting {
            Some(started) => started,
            None => {
                let start = move || Started::start(&inner.program);
                tokio::task::spawn_blocking(start).await??
            }
        };
        self.fill();
        Ok(taken)
    }

    /// One that still lives: whatever a task may end it may have ended one that waits.
    fn take_waiting(&self) -> Option<Started> {
        loop {
            let mut started = self.inner.waiting.lock().pop_front()?;
            if started.lives() {
                return Some(started);
            }
        }
    }

    fn fill(&self) {
        if self.inner.is_filling.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.fill());
    }
}

impl Inner {
    fn fill(&self) {
        while self.waiting.lock().len() < SIZE {
            match Started::start(&self.program) {
                Ok(started) => self.waiting.lock().push_back(started),
                // The next task tells, if it is still so.
                Err(error) => {
                    tracing::debug!(%error, "no shim could be started ahead");
                    break;
                }
            }
        }
        self.is_filling.store(false, Ordering::Release);
    }
}
