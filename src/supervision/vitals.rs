//! Signs of life, shared between one life of a child and those who watch it.
//!
//! All of it is atomics: whoever watches reads it without asking the actor, so a stuck actor can
//! be seen to be stuck. Each life has its own, so what a stale life still does to its vitals
//! concerns nobody.
//!
//! Beats are automatic: a [`Heart`] beats in the actor's own context and stands still when a
//! handler blocks, when the context waits for something that never comes, and when the thread is
//! blocked by somebody else. An actor that takes a long time on purpose says so with
//! [`Vitals::protect`].

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::{Actor, ActorFuture, Context};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

/// Beats in one heartbeat: enough that one or two late ones are no hang.
const BEATS: u32 = 4;
/// A heart never beats faster.
const BEAT_MIN: Duration = Duration::from_millis(5);
/// Nor slower, so that reports are fresh.
const BEAT_MAX: Duration = Duration::from_secs(1);
/// Counters an actor may have; more are ignored.
const COUNTERS_MAX: usize = 64;

/// Counters by name, kept over the lives of a child.
pub(crate) type Counters = Mutex<BTreeMap<&'static str, u64>>;

/// The vitals of one life.
pub(crate) struct Pulse {
    epoch: Instant,
    beat_ms: AtomicU64,
    pass_ms: AtomicU64,
    ready: AtomicBool,
    protected: AtomicUsize,
    failure: Mutex<Option<String>>,
    /// Wakes whoever runs this life, to see a failure.
    pub(crate) waker: AtomicWaker,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            beat_ms: AtomicU64::new(0),
            pass_ms: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            protected: AtomicUsize::new(0),
            failure: Mutex::new(None),
            waker: AtomicWaker::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn beat(&self) {
        self.beat_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn pass(&self) {
        self.beat();
        self.pass_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// How long ago the last beat was.
    pub(crate) fn beat_age(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.beat_ms.load(Ordering::Relaxed)))
    }

    /// How long ago the last pass was.
    pub(crate) fn pass_age(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.pass_ms.load(Ordering::Relaxed)))
    }

    pub(crate) fn is_protected(&self) -> bool {
        self.protected.load(Ordering::Acquire) > 0
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Marks the life as ready; true the first time.
    pub(crate) fn mark_ready(&self) -> bool {
        self.pass();
        !self.ready.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn take_failure(&self) -> Option<String> {
        self.failure.lock().take()
    }
}

/// What an actor is given to show that it lives; cheap to clone.
#[derive(Clone)]
pub struct Vitals {
    pulse: Arc<Pulse>,
    counters: Arc<Counters>,
    generation: u64,
    path: Arc<str>,
    on_ready: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Vitals {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Vitals")
            .field("path", &self.path)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Vitals {
    pub(crate) fn new(
        pulse: Arc<Pulse>,
        counters: Arc<Counters>,
        generation: u64,
        path: Arc<str>,
        on_ready: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self { pulse, counters, generation, path, on_ready }
    }

    /// The first successful pass is done: those that wait for this child may start.
    pub fn ready(&self) {
        if self.pulse.mark_ready() {
            (self.on_ready)();
        }
    }

    /// A pass is done; for children with a pass deadline. Others need not call it.
    pub fn beat(&self) {
        self.pulse.pass();
    }

    /// Suspends hang detection until the guard is dropped, for a wait that is known to be long.
    #[must_use = "the protection ends when the guard is dropped"]
    pub fn protect(&self) -> Protection {
        self.pulse.protected.fetch_add(1, Ordering::AcqRel);
        Protection { pulse: Arc::clone(&self.pulse) }
    }

    /// Ends this life as crashed, without a panic: for a start that failed, or state that cannot
    /// be trusted any more. Takes effect at the end of the current turn of the actor.
    pub fn fail(&self, reason: impl Into<String>) {
        *self.pulse.failure.lock() = Some(reason.into());
        self.pulse.waker.wake();
    }

    /// Adds to a counter that the report shows; it goes on over restarts.
    pub fn count(&self, name: &'static str, by: u64) {
        let mut counters = self.counters.lock();
        if counters.len() < COUNTERS_MAX || counters.contains_key(name) {
            let counter = counters.entry(name).or_default();
            *counter = counter.saturating_add(by);
        }
    }

    /// Which life this is; the first is 1.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The dotted path of the child in the tree.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }
}

/// Suspends hang detection while it lives.
#[derive(Debug)]
pub struct Protection {
    pulse: Arc<Pulse>,
}

impl std::fmt::Debug for Pulse {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pulse").field("age", &self.beat_age()).finish_non_exhaustive()
    }
}

impl Drop for Protection {
    fn drop(&mut self) {
        // The clock starts anew, before anyone may judge it.
        self.pulse.pass();
        self.pulse.protected.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How often a child with this heartbeat beats.
pub(crate) fn beat_period(heartbeat: Duration) -> Duration {
    (heartbeat / BEATS).clamp(BEAT_MIN, BEAT_MAX)
}

/// Beats in an actor's context.
pub(crate) struct Heart {
    pulse: Arc<Pulse>,
    period: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Heart {
    pub(crate) fn new(pulse: Arc<Pulse>, heartbeat: Duration) -> Self {
        let period = beat_period(heartbeat);
        Self { pulse, period, sleep: Box::pin(tokio::time::sleep(period)) }
    }
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Heart {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        _: &mut A,
        _: &mut Context<A>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        // Every turn of the context is a sign of life, whatever woke it.
        self.pulse.beat();
        while self.sleep.as_mut().poll(task).is_ready() {
            let next = Instant::now() + self.period;
            self.sleep.as_mut().reset(next);
        }
        Poll::Pending
    }
}
