//! A wake-up that cannot be lost or pile up: many wakes before the wait are one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// How long a loop does one thing at a stretch. Under load enough there is always more to do: it
/// hears what was announced, looks after its other duties and counts as ready all the same.
pub const STRETCH: Duration = Duration::from_millis(100);

/// Wakes one loop; clones wake the same.
#[derive(Clone, Debug, Default)]
pub struct Waker {
    notify: Arc<Notify>,
}

impl Waker {
    /// Ends the current or the next wait.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Waits for a wake; returns at once when one came since the last wait.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

/// Look now instead of at the next interval: the one message every actor understands.
#[derive(Clone, Copy, Debug)]
pub struct Wake;

impl actix::Message for Wake {
    type Result = ();
}
