//! Time, injected.
//!
//! Everything that decides by the wall clock asks a [`Clock`]; nothing else in the crate may read
//! the time (a lint keeps it). Production uses [`Clock::system`]; tests use [`Clock::manual`] and
//! move it by hand, so that no test waits for real time to pass.
//!
//! Where nodes share a database, its clock is the one that counts: [`Clock::following`] goes on
//! with time that only passes, and is set by what the database says. A step of the machine's own
//! clock moves nothing there.
//!
//! Delays that are not about a planned instant (timeouts, back-off inside one process) use
//! tokio's monotonic timers instead: a stepped wall clock must not stretch them. Spans that are
//! written down as instants (a lease) go by [`Clock::steady`], which no step moves.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{SubsecRound, Utc};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

pub use crate::domain::Timestamp;

/// The longest single sleep of [`Clock::sleep_until`]: a stepped system clock is noticed within it.
const SLEEP_SLICE: Duration = Duration::from_secs(1);

/// A difference between a followed clock and ours that is left alone.
const FOLLOW_NOISE: chrono::Duration = chrono::Duration::milliseconds(100);

/// A source of wall-clock time; cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    Following(Arc<Mutex<Anchor>>),
    Manual(Arc<watch::Sender<Hands>>),
}

/// What a manual clock shows.
#[derive(Clone, Copy, Debug)]
struct Hands {
    wall: Timestamp,
    steady: Timestamp,
}

/// What a following clock showed at some moment.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    wall: Timestamp,
    at: Instant,
}

impl Anchor {
    fn now(self) -> Timestamp {
        self.wall + chrono::Duration::from_std(self.at.elapsed()).unwrap_or_default()
    }
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self { source: Source::System }
    }

    /// A clock that starts as the machine's, goes on with time and is set by [`Clock::follow`]:
    /// steps of the machine's clock do not reach it.
    #[must_use]
    pub fn following() -> Self {
        let anchor = Anchor { wall: Self::system().now(), at: Instant::now() };
        Self { source: Source::Following(Arc::new(Mutex::new(anchor))) }
    }

    /// Sets a following clock by another one that said `other` after it was asked when ours showed
    /// `asked`. What may be the time that the answer took changes nothing, nor do differences
    /// that are noise. Does nothing to other clocks.
    pub fn follow(&self, asked: Timestamp, other: Timestamp) {
        let Source::Following(anchor) = &self.source else { return };
        let mut anchor = anchor.lock();
        let now = anchor.now();
        let by = if other > now + FOLLOW_NOISE {
            other - now
        } else if other < asked - FOLLOW_NOISE && other < now - FOLLOW_NOISE {
            // The answer may have taken until now; no more than that is certain.
            other - asked.min(now)
        } else {
            return;
        };
        *anchor = Anchor { wall: now + by, at: Instant::now() };
    }

    /// What the machine's own clock shows, whatever this one follows.
    #[must_use]
    pub fn machine(&self) -> Timestamp {
        match &self.source {
            Source::Following(_) => Self::system().now(),
            Source::System | Source::Manual(_) => self.now(),
        }
    }

    /// A clock that stands at `start` until [`Clock::advance`] or [`Clock::set`] moves it.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        let (sender, _) = watch::channel(Hands { wall: start, steady: start });
        Self { source: Source::Manual(Arc::new(sender)) }
    }

    /// The current instant, cut to microseconds (what both stores keep).
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.source {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the time")]
            Source::System => Utc::now().trunc_subsecs(6),
            Source::Following(anchor) => anchor.lock().now().trunc_subsecs(6),
            Source::Manual(sender) => sender.borrow().wall,
        }
    }

    /// An instant that goes on with time and never jumps: where the wall clock stood when the
    /// process first asked, plus the time since. Only good to compare with others of its kind.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        static ORIGIN: OnceLock<(Timestamp, Instant)> = OnceLock::new();
        match &self.source {
            Source::System | Source::Following(_) => {
                let (wall, at) = ORIGIN.get_or_init(|| (self.now(), Instant::now()));
                let since = chrono::Duration::from_std(at.elapsed()).unwrap_or_default();
                (*wall + since).trunc_subsecs(6)
            }
            Source::Manual(sender) => sender.borrow().steady,
        }
    }

    /// True for a clock that tests move by hand.
    #[must_use]
    pub const fn is_manual(&self) -> bool {
        matches!(self.source, Source::Manual(_))
    }

    /// Waits until the clock shows `instant` or later. Sleeps at most a second at a time, so a
    /// clock stepped forward is noticed within a second and one stepped back never fires early.
    pub async fn sleep_until(&self, instant: Timestamp) {
        match &self.source {
            Source::System | Source::Following(_) => loop {
                let left = (instant - self.now()).to_std().unwrap_or(Duration::ZERO);
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(SLEEP_SLICE)).await;
            },
            Source::Manual(sender) => {
                let mut seen = sender.subscribe();
                // The sender lives in `self`, so the wait ends only by time passing.
                drop(seen.wait_for(|hands| hands.wall >= instant).await);
            }
        }
    }

    /// Waits for `delay` on this clock.
    pub async fn sleep(&self, delay: Duration) {
        let delay = chrono::Duration::from_std(delay).unwrap_or(chrono::Duration::MAX);
        let instant = self.now().checked_add_signed(delay).unwrap_or(Timestamp::MAX_UTC);
        self.sleep_until(instant).await;
    }

    /// Moves a manual clock forward; does nothing to the system clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(sender) = &self.source {
            let by = chrono::Duration::from_std(by).unwrap_or(chrono::Duration::MAX);
            sender.send_modify(|hands| {
                hands.wall = hands.wall.checked_add_signed(by).unwrap_or(hands.wall);
                hands.steady = hands.steady.checked_add_signed(by).unwrap_or(hands.steady);
            });
        }
    }

    /// Sets a manual clock, backwards too, as a step of the machine's clock would: no time passes.
    /// Does nothing to the system clock.
    pub fn set(&self, instant: Timestamp) {
        if let Source::Manual(sender) = &self.source {
            sender.send_modify(|hands| hands.wall = instant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        Timestamp::from_timestamp(1_000_000_000, 0).unwrap()
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_their_instant_is_reached() {
        let clock = Clock::manual(start());
        let sleeper = clock.clone();
        let slept = tokio::spawn(async move { sleeper.sleep(Duration::from_secs(60)).await });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(59));
        tokio::task::yield_now().await;
        assert!(!slept.is_finished());
        clock.advance(Duration::from_secs(1));
        slept.await.unwrap();
        assert_eq!(clock.now(), start() + chrono::Duration::seconds(60));
    }

    #[test]
    fn a_step_moves_the_wall_clock_and_not_the_steady_one() {
        let clock = Clock::manual(start());
        clock.set(start() - chrono::Duration::days(1));
        assert_eq!(clock.steady(), start());
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.steady(), start() + chrono::Duration::seconds(5));
        assert_eq!(clock.now(), clock.steady() - chrono::Duration::days(1));
        let system = Clock::system();
        let first = system.steady();
        assert!(system.steady() >= first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_following_clock_is_set_by_what_it_follows_alone() {
        let clock = Clock::following();
        let began = clock.now();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), began + chrono::Duration::seconds(5));
        for hours in [1, -1, 24, -24] {
            let other = clock.now() + chrono::Duration::hours(hours);
            clock.follow(clock.now(), other);
            assert_eq!(clock.now(), other, "by {hours} hours");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_an_answer_took_does_not_set_a_clock() {
        let clock = Clock::following();
        let asked = clock.now();
        tokio::time::advance(Duration::from_secs(3)).await;
        let expected = clock.now();
        // Said at any moment between question and answer, or a little beside it.
        for said in [-90, 0, 1_500, 3_000, 3_090] {
            clock.follow(asked, asked + chrono::Duration::milliseconds(said));
            assert_eq!(clock.now(), expected, "{said}");
        }
    }

    #[tokio::test]
    async fn a_past_instant_does_not_wait() {
        let clock = Clock::system();
        clock.sleep_until(start()).await;
    }
}
