//! A fixed rhythm: `anchor + k * interval` for every whole `k >= 1`.
//!
//! The grid is arithmetic in milliseconds, so it never drifts and an outage of any length costs
//! nothing to count. The first run is one interval after the anchor, also for an anchor in the
//! future. An anchor in the past keeps the phase: what is due next lies on the old grid.

use chrono::{DateTime, TimeDelta};

use crate::domain::Timestamp;

/// The shortest interval, in milliseconds.
pub const INTERVAL_MIN_MS: u64 = 100;
/// The longest interval, in milliseconds: ten years of 365 days.
pub const INTERVAL_MAX_MS: u64 = 10 * 365 * 86_400_000;

/// A rhythm on an exact grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntervalCadence {
    pub(super) interval_ms: i64,
    /// Cut to milliseconds.
    pub(super) anchor_ms: i64,
}

impl IntervalCadence {
    /// The distance between two runs, in milliseconds.
    #[must_use]
    pub fn interval_ms(&self) -> u64 {
        self.interval_ms.unsigned_abs()
    }

    /// The grid's origin; the first run is one interval later.
    #[must_use]
    pub fn anchor(&self) -> Timestamp {
        DateTime::from_timestamp_millis(self.anchor_ms).unwrap_or_default()
    }

    /// The first instant of the grid strictly after `after`.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let step = self.steps_at(after).checked_add(1)?;
        self.instant(step)
    }

    /// How many instants lie in `(after, until]`.
    #[must_use]
    pub fn count_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        let steps = self.steps_at(until).saturating_sub(self.steps_at(after));
        u64::try_from(steps).unwrap_or(0)
    }

    /// The newest instant at or before `at`.
    pub(super) fn last_at_or_before(&self, at: Timestamp) -> Option<Timestamp> {
        match self.steps_at(at) {
            0 => None,
            step => self.instant(step),
        }
    }

    /// Instants due up to and including `at`.
    fn steps_at(&self, at: Timestamp) -> i64 {
        // timestamp_millis rounds down, as whole steps do.
        let elapsed = at.timestamp_millis().saturating_sub(self.anchor_ms);
        elapsed.div_euclid(self.interval_ms.max(1)).max(0)
    }

    fn instant(&self, step: i64) -> Option<Timestamp> {
        self.anchor()
            .checked_add_signed(TimeDelta::try_milliseconds(step.checked_mul(self.interval_ms)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap()
    }

    fn every(interval_ms: i64) -> IntervalCadence {
        IntervalCadence { interval_ms, anchor_ms: 1_800_000_000_000 }
    }

    #[test]
    fn the_first_run_is_one_interval_after_the_anchor() {
        let cadence = every(250);
        assert_eq!(cadence.next_after(at(-1_000_000)), Some(at(250)));
        assert_eq!(cadence.next_after(at(0)), Some(at(250)));
        assert_eq!(cadence.last_at_or_before(at(249)), None);
        assert_eq!(cadence.last_at_or_before(at(250)), Some(at(250)));
    }

    #[test]
    fn the_grid_does_not_drift() {
        let cadence = every(333);
        let late = at(333 * 1_000_000_000 + 1);
        assert_eq!(cadence.next_after(late), Some(at(333 * 1_000_000_001)));
        assert_eq!(cadence.count_between(at(0), late), 1_000_000_000);
    }

    #[test]
    fn an_instant_is_not_after_itself() {
        let cadence = every(100);
        let between = at(100) + TimeDelta::microseconds(1);
        assert_eq!(cadence.next_after(at(100)), Some(at(200)));
        assert_eq!(cadence.next_after(between), Some(at(200)));
        assert_eq!(cadence.next_after(at(100) - TimeDelta::microseconds(1)), Some(at(100)));
    }

    #[test]
    fn the_end_of_time_has_no_next() {
        assert_eq!(every(100).next_after(Timestamp::MAX_UTC), None);
    }
}
