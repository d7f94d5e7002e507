//! Ends of runs that come fast are gathered.
//!
//! An end costs its row and a share of its transaction, and the transaction is dear: round trips,
//! a commit, the turn at the counter of events, for which the starts wait too. Runs that end one
//! after the other would each have one of their own. So a transaction of ends begins no sooner than
//! [`ENDS_EVERY`] after the one before: the end of a lone run is written at once, nobody waits
//! longer than that, and none when slots run short or when others wait for the end.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Time between the beginnings of two transactions of ends.
const ENDS_EVERY: Duration = Duration::from_millis(5);
/// How often whoever waits looks whether slots run short.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// So many ends are worth a transaction as they are.
const ENOUGH: usize = 128;

/// When ends were last written.
#[derive(Default)]
pub(super) struct Pace {
    began: Mutex<Option<Instant>>,
}

impl Pace {
    /// Waits until ends may be written, of which so many are here; no longer than until one is
    /// `wanted`, because it is what the next start waits for.
    pub(super) async fn turn(&self, here: usize, wanted: impl Fn() -> bool) {
        let next = self.began.lock().map(|began| began + ENDS_EVERY);
        if let Some(next) = next
            && here < ENOUGH
        {
            let mut now = Instant::now();
            while now < next && !wanted() {
                sleep_until(next.min(now + LOOK_EVERY)).await;
                now = Instant::now();
            }
        }
        *self.began.lock() = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lone_end_is_written_at_once_and_those_that_follow_are_gathered() {
        let pace = Pace::default();
        let began = Instant::now();
        pace.turn(1, || false).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "the first");
        pace.turn(1, || false).await;
        assert_eq!(began.elapsed(), ENDS_EVERY, "the second, a moment after it");
        tokio::time::advance(ENDS_EVERY).await;
        pace.turn(1, || false).await;
        assert_eq!(began.elapsed(), ENDS_EVERY * 2, "one after a pause");
        pace.turn(1, || true).await;
        pace.turn(ENOUGH, || false).await;
        assert_eq!(began.elapsed(), ENDS_EVERY * 2, "slots are short, or many are here");
    }
}
