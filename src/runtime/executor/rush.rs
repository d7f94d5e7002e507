//! Starts go before ends while more is due than one transaction fires.
//!
//! Firing and the writing of ends share the store's writer and the processors. A run that starts
//! late is late for good; an end that is written a moment later is not. So ends wait while a rush
//! is on, each for a moment only, and not at all when no slot is free: then an end is what the next
//! start waits for.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long an end waits at most.
pub(super) const ENDS_WAIT: Duration = Duration::from_millis(500);

/// Whether a rush is on; survives the generations of the actors.
pub struct Rush {
    under_way: watch::Sender<usize>,
}

impl Default for Rush {
    fn default() -> Self {
        Self { under_way: watch::Sender::new(0) }
    }
}

/// A rush is on until this is dropped.
pub struct Rushing<'a>(&'a Rush);

impl Drop for Rushing<'_> {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Rush {
    /// Says that more is due than is fired at once.
    #[must_use]
    pub fn begin(&self) -> Rushing<'_> {
        self.under_way.send_modify(|count| *count += 1);
        Rushing(self)
    }

    /// Waits until no rush is on, for `limit` at most.
    pub(super) async fn over(&self, limit: Duration) {
        if *self.under_way.borrow() == 0 {
            return;
        }
        let mut seen = self.under_way.subscribe();
        // A rush that goes on is waited for no longer; its sender lives as long as this.
        let _is_over = timeout(limit, seen.wait_for(|count| *count == 0)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_end_waits_for_the_rush_and_no_longer_than_its_moment() {
        let rush = Rush::default();
        let began = Instant::now();
        rush.over(ENDS_WAIT).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "no rush, no wait");
        let first = rush.begin();
        let second = rush.begin();
        let ends = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            drop(first);
            tokio::time::sleep(Duration::from_millis(30)).await;
            drop(second);
        };
        tokio::join!(rush.over(ENDS_WAIT), ends);
        assert_eq!(began.elapsed(), Duration::from_millis(60), "over when the last one is");
        let _endless = rush.begin();
        rush.over(ENDS_WAIT).await;
        assert_eq!(began.elapsed(), Duration::from_millis(60) + ENDS_WAIT);
    }
}
