//! What others may see of the scheduler, read without asking it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clock::Timestamp;

/// Shared state and counters; survives the actor's generations.
#[derive(Debug, Default)]
pub struct SchedulerStatus {
    running: AtomicBool,
    dispatched: AtomicU64,
    skipped: AtomicU64,
    times: Mutex<Times>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    started_at: Option<Timestamp>,
    last_tick_at: Option<Timestamp>,
    next: Option<(i64, Timestamp)>,
}

/// A copy of the status at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedulerSnapshot {
    /// It fires.
    pub running: bool,
    /// Since when it fires in this process.
    pub started_at: Option<Timestamp>,
    /// When it last looked for due instants.
    pub last_tick_at: Option<Timestamp>,
    /// Executions made.
    pub dispatched: u64,
    /// Planned instants that went to the ledger.
    pub skipped: u64,
    /// The schedule that is due next.
    pub next: Option<(i64, Timestamp)>,
}

impl SchedulerStatus {
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub(super) fn set_running(&self, running: bool, now: Timestamp) {
        let was = self.running.swap(running, Ordering::AcqRel);
        if was != running {
            self.times.lock().started_at = running.then_some(now);
        }
    }

    pub(super) fn ticked(&self, now: Timestamp) {
        self.times.lock().last_tick_at = Some(now);
    }

    pub(super) fn set_next(&self, next: Option<(i64, Timestamp)>) {
        self.times.lock().next = next;
    }

    pub(super) fn fired(&self, dispatched: usize, skipped: u64) {
        self.dispatched.fetch_add(dispatched as u64, Ordering::Relaxed);
        self.skipped.fetch_add(skipped, Ordering::Relaxed);
    }

    /// A copy of everything.
    #[must_use]
    pub fn snapshot(&self) -> SchedulerSnapshot {
        let times = *self.times.lock();
        SchedulerSnapshot {
            running: self.is_running(),
            started_at: times.started_at,
            last_tick_at: times.last_tick_at,
            dispatched: self.dispatched.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            next: times.next,
        }
    }
}
