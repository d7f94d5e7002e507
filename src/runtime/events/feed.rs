//! The feed: what is shared between the hub, which fills it, and the sessions, which pull from it.
//!
//! It belongs to no actor, so no actor's crash loses any of it. Sessions are level-triggered: they
//! are woken, look which event they saw last, and pull what follows, from the ring or, when they
//! stand further back, from the store. Nothing is pushed, so nothing queues up for a slow one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::sync::{Semaphore, watch};

use super::frame::Frame;
use super::ring::{Ring, RingLimits, RingRead};
use super::source::EventSource;
use super::transient::TransientBus;
use crate::store::StoreResult;

/// Sessions that read the store for old events at once: catching up must not starve the rest.
const CATCH_UP_READS: usize = 4;

/// The shared state of the live side; cheap to share, survives every actor.
pub struct Feed {
    source: Arc<dyn EventSource>,
    ring: RwLock<Ring>,
    loaded: AtomicBool,
    signal: watch::Sender<u64>,
    catch_up: Semaphore,
    transient: Arc<TransientBus>,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Feed").field("newest", &self.newest()).finish_non_exhaustive()
    }
}

impl Feed {
    /// An empty feed over an event log.
    #[must_use]
    pub fn new(source: Arc<dyn EventSource>, limits: RingLimits) -> Self {
        Self {
            source,
            ring: RwLock::new(Ring::new(limits, 0)),
            loaded: AtomicBool::new(false),
            signal: watch::Sender::new(0),
            catch_up: Semaphore::new(CATCH_UP_READS),
            transient: Arc::default(),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Whether the hub has found the end of the log once; before, nobody may connect.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// The number of the newest event known here.
    #[must_use]
    pub fn newest(&self) -> i64 {
        self.ring.read().newest()
    }

    /// Starts the feed at the end of the log; later calls change nothing.
    pub(crate) fn load(&self, limits: RingLimits, newest: i64) {
        if !self.is_loaded() {
            *self.ring.write() = Ring::new(limits, newest);
            self.loaded.store(true, Ordering::Release);
        }
    }

    /// Whether any session listens.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.signal.receiver_count() > 0
    }

    /// Moves the end of the feed to the end of the log without what lies between: that is in the
    /// store, for whoever missed it. For a feed that nobody listens to.
    ///
    /// # Errors
    /// Any [`crate::store::StoreError`].
    pub async fn skip_to_end(&self) -> StoreResult<()> {
        let (_, newest) = self.source.bounds().await?;
        self.ring.write().skip_to(newest);
        Ok(())
    }

    /// Adds events and wakes the sessions once.
    pub(crate) fn append(&self, frames: Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let mut ring = self.ring.write();
        for frame in frames {
            ring.push(frame);
        }
        drop(ring);
        self.wake();
    }

    /// Wakes every session to look again.
    pub(crate) fn wake(&self) {
        self.signal.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes whenever sessions have something to look at.
    #[must_use]
    pub fn signal(&self) -> watch::Receiver<u64> {
        self.signal.subscribe()
    }

    /// Up to `limit` events after `after`, from memory.
    #[must_use]
    pub fn read(&self, after: i64, limit: usize) -> RingRead {
        self.ring.read().read(after, limit)
    }

    /// Up to `limit` events after `after`, from the store; a few readers at a time.
    ///
    /// # Errors
    /// Any [`crate::store::StoreError`].
    pub async fn read_store(&self, after: i64, limit: usize) -> StoreResult<Vec<Frame>> {
        let _permit = self.catch_up.acquire().await;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let events = self.source.list(after, limit).await?;
        Ok(events.into_iter().map(Frame::from_event).collect())
    }

    /// The event log behind the feed.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn EventSource> {
        &self.source
    }

    /// Output and progress of running tasks.
    #[must_use]
    pub fn transient(&self) -> &Arc<TransientBus> {
        &self.transient
    }

    /// Counts messages sent to sessions.
    pub fn count_sent(&self, messages: u64) {
        self.sent.fetch_add(messages, Ordering::Relaxed);
    }

    /// Counts messages that a session did not get.
    pub fn count_dropped(&self, messages: u64) {
        self.dropped.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages sent and dropped since the start.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }
}
