//! Where claimed rows become running tasks.
//!
//! The launcher stands beside the executor actor: whoever claimed a row (the executor, or the
//! transaction that created it) hands it over here, and the running set sees to it that it is
//! begun once. Each task runs as a future of its own on one of the task arbiters; its panic is its
//! own failure and touches nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle};

use crate::clock::Clock;
use crate::domain::execution::Execution;
use crate::domain::recovery::RecoveryLimits;
use crate::runtime::batch::Batcher;
use crate::runtime::executor::host::HostWatch;
use crate::runtime::executor::logs::LogWriter;
use crate::runtime::executor::pace::Pace;
use crate::runtime::executor::preemption::Preemptible;
use crate::runtime::executor::running::{Reservation, RunningSet};
use crate::runtime::executor::rush::{Rush, Rushing};
use crate::runtime::executor::worker;
use crate::runtime::meter;
use crate::runtime::nodes::lease::NodeLease;
use crate::runtime::sessions::LiveState;
use crate::store::{ClaimHere, Finish, FinishResult, Store, StoreResult};
use crate::tasks::{TaskControl, TaskEnvironment};

/// Ends a batch at most.
const FINISH_BATCH: usize = 512;

/// What the executor counts, for status and metrics; all since the process started.
#[derive(Debug, Default)]
pub struct ExecutorCounters {
    /// Rows begun.
    pub started: AtomicUsize,
    /// Ended `completed`.
    pub completed: AtomicUsize,
    /// Ended `failed` or `timeout`.
    pub failed: AtomicUsize,
    /// Results dropped because the lease was lost.
    pub superseded: AtomicUsize,
}

/// Launches tasks; clones share everything.
#[derive(Clone)]
pub struct Launcher {
    pub(super) inner: Arc<LauncherInner>,
}

pub(super) struct LauncherInner {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) environment: Arc<TaskEnvironment>,
    pub(super) lease: NodeLease,
    pub(super) running: RunningSet,
    pub(super) logs: LogWriter,
    pub(super) live: Arc<LiveState>,
    pub(super) log_lines_max: usize,
    pub(super) limits: RecoveryLimits,
    pub(super) finishes: Batcher<Finish, StoreResult<FinishResult>>,
    pub(super) counters: ExecutorCounters,
    pub(super) rush: Rush,
    pub(super) pace: Pace,
    host: Arc<HostWatch>,
    reserved_high: usize,
    /// Generation of the executor actor that is up; 0 while none is.
    open: AtomicU64,
    /// The server takes no new work.
    draining: AtomicBool,
    arbiters: Vec<ArbiterHandle>,
    next_arbiter: AtomicUsize,
}

/// What a launcher is made of.
pub struct LauncherParts {
    /// Where rows live.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// What can run a task.
    pub environment: Arc<TaskEnvironment>,
    /// This node's lease.
    pub lease: NodeLease,
    /// Where output goes.
    pub logs: LogWriter,
    /// Who watches.
    pub live: Arc<LiveState>,
    /// Limits of recovery.
    pub limits: RecoveryLimits,
    /// Tasks that may run at once.
    pub slots: usize,
    /// Threads that drive them.
    pub threads: usize,
    /// Lines of output kept of one execution.
    pub log_lines_max: usize,
    /// The node's machine.
    pub host: Arc<HostWatch>,
    /// Free slots that only executions of high priority take.
    pub reserved_high: usize,
}

/// Slots for rows that the store claims in the transaction that creates them.
pub struct ClaimTicket {
    /// What the store is asked for.
    pub claim: ClaimHere,
    reservation: Reservation,
}

impl ClaimTicket {
    /// Gives the slots back without waking the executor; only the executor may.
    pub(super) fn give_back_quietly(self) {
        self.reservation.give_back_quietly();
    }
}

impl Launcher {
    /// A launcher with its task threads started; it takes no rows until [`Launcher::open`].
    #[must_use]
    pub fn new(parts: LauncherParts) -> Self {
        let arbiters = (0..parts.threads.max(1)).map(|_| Arbiter::new().handle()).collect();
        Self {
            inner: Arc::new(LauncherInner {
                store: parts.store,
                clock: parts.clock,
                environment: parts.environment,
                lease: parts.lease,
                running: RunningSet::new(parts.slots),
                logs: parts.logs,
                live: parts.live,
                log_lines_max: parts.log_lines_max,
                limits: parts.limits,
                finishes: Batcher::new(FINISH_BATCH),
                counters: ExecutorCounters::default(),
                rush: Rush::default(),
                pace: Pace::default(),
                host: parts.host,
                reserved_high: parts.reserved_high,
                open: AtomicU64::new(0),
                draining: AtomicBool::new(false),
                arbiters,
                next_arbiter: AtomicUsize::new(0),
            }),
        }
    }

    /// What runs.
    #[must_use]
    pub fn running(&self) -> &RunningSet {
        &self.inner.running
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &ExecutorCounters {
        &self.inner.counters
    }

    /// This node's lease.
    #[must_use]
    pub fn lease(&self) -> &NodeLease {
        &self.inner.lease
    }

    /// Lets claims through: generation `generation` (not 0) of the executor is up.
    pub fn open(&self, generation: u64) {
        self.inner.open.store(generation, Ordering::Release);
    }

    /// Lets no claim through: an executor that is down claims nothing anywhere. A generation that
    /// ends late (it hung) does not close the door of its successor.
    pub fn close(&self, generation: u64) {
        let _was_ours =
            self.inner.open.compare_exchange(generation, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// No claim is made from now on; what runs goes on.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::Release);
    }

    /// True after [`Launcher::drain`].
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Acquire)
    }

    /// True while rows may be claimed.
    #[must_use]
    pub fn may_claim(&self) -> bool {
        self.inner.open.load(Ordering::Acquire) != 0
            && !self.is_draining()
            && self.inner.lease.holds()
            && !self.inner.host.takes_nothing()
    }

    /// Says that more is due than is fired at once, until the answer is dropped: ends wait.
    #[must_use]
    pub fn rush(&self) -> Rushing<'_> {
        self.inner.rush.begin()
    }

    /// The node's machine.
    #[must_use]
    pub fn host(&self) -> &Arc<HostWatch> {
        &self.inner.host
    }

    /// Reserves up to `wanted` free slots for a claim; `None` when nothing may be claimed now.
    #[must_use]
    pub fn ticket(&self, wanted: usize) -> Option<ClaimTicket> {
        if !self.may_claim() {
            return None;
        }
        let reservation = self.inner.running.reserve(wanted)?;
        let claimant = self.inner.lease.claimant();
        let slots = reservation.count();
        let high_only = if self.inner.host.takes_high_only() {
            slots
        } else {
            reservation.among_last(self.inner.reserved_high)
        };
        let claim = ClaimHere { claimant, slots, high_only };
        Some(ClaimTicket { claim, reservation })
    }

    /// Begins the rows that the store returned as running under this node's lease; the ticket's
    /// unused slots go back.
    pub fn launch(&self, rows: impl IntoIterator<Item = Execution>, ticket: Option<ClaimTicket>) {
        for row in rows {
            self.begin(row);
        }
        drop(ticket.map(|ticket| ticket.reservation));
    }

    fn begin(&self, row: Execution) {
        let lease = &self.inner.lease;
        // A claim may have been on its way while the lease was lost (the node was frozen): its rows
        // are another node's by now, or are adopted once a beat is confirmed.
        let Some(until) = lease.deadline_of(row.lease_owner) else {
            tracing::warn!(execution.id = row.id, "a claim came without a lease, it is left alone");
            return;
        };
        let control = TaskControl::new(Some(until));
        if !self.inner.running.begin(row.id, control.clone()) {
            return;
        }
        if lease.deadline_of(row.lease_owner).is_none() {
            // The node fenced itself in between, and may not have seen this row in the set.
            return self.inner.running.end(row.id);
        }
        self.inner.counters.started.fetch_add(1, Ordering::Relaxed);
        meter::execution_started(&row);
        let options = &row.new.task.options.admission;
        if let Some(task) = Preemptible::of(row.id, row.new.priority, options) {
            self.inner.running.may_make_room(task);
        }
        let turn = self.inner.next_arbiter.fetch_add(1, Ordering::Relaxed);
        let Some(arbiter) = self.inner.arbiters.get(turn % self.inner.arbiters.len()) else {
            return;
        };
        let launcher = self.clone();
        let id = row.id;
        let taken = arbiter.spawn_fn(move || {
            actix_rt::spawn(worker::run(launcher, row, control));
        });
        if !taken {
            tracing::error!(execution.id = id, "the task threads are gone");
        }
    }

    /// Asks a task that runs here to stop; false when it does not run here.
    pub fn cancel(&self, id: i64) -> bool {
        self.inner.running.control(id).map(|control| control.cancel()).is_some()
    }

    /// Interrupts tasks to make room.
    pub fn preempt(&self, ids: &[i64]) {
        for control in ids.iter().filter_map(|id| self.inner.running.control(*id)) {
            control.preempt();
        }
    }

    /// Ends everything that runs here as interrupted.
    pub fn interrupt_all(&self) {
        for (_, control) in self.inner.running.controls() {
            control.interrupt();
        }
    }

    /// Tells every task that the lease was prolonged.
    pub fn prolong(&self) {
        let Some(until) = self.inner.lease.fence_at() else { return };
        for (_, control) in self.inner.running.controls() {
            control.lease_extended(until);
        }
    }

    /// Waits until nothing runs, at most `limit`; true when nothing does.
    pub async fn idle(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.inner.running.emptied()).await.is_ok()
    }

    /// Ends the task threads; called last.
    pub fn stop_threads(&self) {
        for arbiter in &self.inner.arbiters {
            arbiter.stop();
        }
    }
}
