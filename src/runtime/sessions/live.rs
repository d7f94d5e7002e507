//! What the live side shares: the feed, the table of sessions, the settings, and the way out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::table::{SessionStats, SessionTable};
use crate::clock::Clock;
use crate::runtime::events::Feed;
use crate::runtime::nodes::lease::NodeLease;

/// How long the way out waits for the store to say which event is the newest.
const NEWEST_WAIT: Duration = Duration::from_millis(500);

/// Times and limits of live sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSettings {
    /// Time between `heartbeat` messages.
    pub heartbeat: Duration,
    /// Time between protocol pings.
    pub ping: Duration,
    /// Silence of the client that closes its session.
    pub idle: Duration,
    /// Time for the first `subscribe` or `resume`.
    pub grace: Duration,
    /// Messages in flight that no pong covers, at most.
    pub window_messages: u64,
    /// Bytes in flight that no pong covers, at most.
    pub window_bytes: u64,
    /// How long a client with a full window may confirm nothing before it is told that it lags.
    pub patience: Duration,
    /// Bytes of a client's message at most.
    pub message_bytes_max: usize,
    /// Sessions on this node at most.
    pub sessions_max: usize,
    /// How long a closing session waits for the client's close frame.
    pub close_wait: Duration,
    /// Most time between two looks at the rows of sessions.
    pub rows_interval: Duration,
    /// Time between two sweeps of rows whose session is gone.
    pub sweep_interval: Duration,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(10),
            ping: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            grace: Duration::from_millis(500),
            window_messages: 1_000,
            window_bytes: 1024 * 1024,
            patience: Duration::from_secs(2),
            message_bytes_max: 64 * 1024,
            sessions_max: 10_000,
            close_wait: Duration::from_secs(2),
            rows_interval: Duration::from_secs(1),
            sweep_interval: Duration::from_secs(60),
        }
    }
}

/// Why and after which event every session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The last event that sessions still deliver.
    pub last: i64,
    /// The close code.
    pub code: u16,
    /// The close reason.
    pub reason: &'static str,
}

/// The shared state of the live side.
#[derive(Debug)]
pub struct LiveState {
    /// The events.
    pub feed: Arc<Feed>,
    /// The sessions.
    pub table: Arc<SessionTable>,
    /// The clock of `timestamp` fields.
    pub clock: Clock,
    /// Times and limits.
    pub settings: LiveSettings,
    lease: NodeLease,
    closing: Mutex<Option<Closing>>,
}

impl LiveState {
    /// The live side of one process.
    #[must_use]
    pub fn new(feed: Arc<Feed>, clock: Clock, settings: LiveSettings, lease: NodeLease) -> Self {
        Self { feed, table: Arc::default(), clock, settings, lease, closing: Mutex::new(None) }
    }

    /// This boot, for the rows; another one after the node has fenced itself.
    #[must_use]
    pub fn boot_id(&self) -> Uuid {
        self.lease.claimant().boot_id
    }

    /// For `/api/websocket/stats`.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        self.table.stats(self.feed.counts())
    }

    /// Set once the way out has begun.
    #[must_use]
    pub fn closing(&self) -> Option<Closing> {
        *self.closing.lock()
    }

    /// Lets every session deliver what is committed (`server_shutdown` among it) and close with
    /// 1001; new ones are refused. Comes back when all are gone or `deadline` has passed: a client
    /// that does not read holds nobody up.
    pub async fn close_all(&self, deadline: Duration) {
        let bounds = tokio::time::timeout(NEWEST_WAIT, self.feed.source().bounds()).await;
        let last = match bounds {
            Ok(Ok((_, newest))) => newest,
            _ => self.feed.newest(),
        };
        *self.closing.lock() = Some(Closing { last, code: 1001, reason: "server_shutdown" });
        self.feed.wake();
        if tokio::time::timeout(deadline, self.table.emptied()).await.is_err() {
            tracing::info!(
                sessions = self.table.count(),
                "sessions left that did not close in time"
            );
        }
    }
}
