//! Clock changes of one IANA zone, reduced to a few questions.
//!
//! Everything here works in whole seconds: an *instant* is seconds since 1970 UTC, a *wall* is
//! what a clock on the wall shows, as seconds since 1970 as if the wall showed UTC. `chrono-tz`
//! answers one thing only, the offset at an instant; gaps, repeated times and the instants of
//! clock changes are derived from it, so that there is one definition of each:
//!
//! - [`Zone::first_reach`]: the first instant at which the wall shows a time **or a later one**.
//!   For an ordinary time this is the time itself, for a repeated one its first coming, and for
//!   one that the clock jumps over the first instant after the jump.
//! - [`Zone::change_between`]: whether and when the clock changed.
//! - [`Zone::high_water`]: the latest time that the wall has shown so far, and
//!   [`Zone::repeats_until`]: how long it shows what it has shown before.
//!
//! Guarantee: exact as long as a zone has at most one clock change in any [`CHANGE_GAP`], which a
//! test proves for every zone from 1970 on.

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

/// Seconds within which no zone changes its clock twice; longer than any single change.
pub(in crate::domain) const CHANGE_GAP: i64 = 26 * 3_600;

/// A zone that answers in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Zone(pub(in crate::domain) Tz);

/// One clock change: from `at` on, `after` holds instead of `before` (offsets in seconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Change {
    pub(in crate::domain) at: i64,
    pub(in crate::domain) before: i64,
    pub(in crate::domain) after: i64,
}

impl Zone {
    /// Seconds to add to `instant` to get the wall.
    pub(in crate::domain) fn offset_at(self, instant: i64) -> i64 {
        let utc =
            DateTime::from_timestamp(instant, 0).map_or(NaiveDateTime::MAX, |t| t.naive_utc());
        self.0.offset_from_utc_datetime(&utc).fix().local_minus_utc().into()
    }

    /// What the wall shows at `instant`.
    pub(in crate::domain) fn wall_at(self, instant: i64) -> i64 {
        instant + self.offset_at(instant)
    }

    /// The first instant at which the wall shows `wall` or later.
    pub(in crate::domain) fn first_reach(self, wall: i64) -> i64 {
        // Offsets lie within 16 hours, so the wall shows less than `wall` at `early`.
        let early = wall - CHANGE_GAP;
        let before = self.offset_at(early);
        let guess = wall - before;
        if self.offset_at(guess) == before {
            return guess;
        }
        match self.change_between(early, guess) {
            Some(change) => change.at.max(wall - change.after),
            None => guess,
        }
    }

    /// The clock change in `(from, to]`. Needs `to - from` of at most about [`CHANGE_GAP`].
    pub(in crate::domain) fn change_between(self, from: i64, to: i64) -> Option<Change> {
        let before = self.offset_at(from);
        let after = self.offset_at(to);
        if before == after {
            return None;
        }
        let (mut low, mut high) = (from, to);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.offset_at(middle) == before {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(Change { at: high, before, after: self.offset_at(high) })
    }

    /// While the wall shows a time for the second time: the first instant after that.
    pub(in crate::domain) fn repeats_until(self, instant: i64) -> Option<i64> {
        let change = self.change_between(instant - CHANGE_GAP, instant)?;
        let end = change.at + (change.before - change.after);
        (instant < end).then_some(end)
    }

    /// The latest wall shown at or before `instant`: later than the present wall only while a
    /// repeated time runs for the second time.
    pub(in crate::domain) fn high_water(self, instant: i64) -> i64 {
        let wall = self.wall_at(instant);
        match self.change_between(instant - CHANGE_GAP, instant) {
            Some(change) => wall.max(change.at + change.before - 1),
            None => wall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::TZ_VARIANTS;

    fn seconds(text: &str) -> i64 {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap().and_utc().timestamp()
    }

    #[test]
    fn a_time_in_the_gap_is_reached_at_the_first_instant_after_it() {
        let berlin = Zone(Tz::Europe__Berlin);
        assert_eq!(berlin.first_reach(seconds("2026-03-29 02:30")), seconds("2026-03-29 01:00"));
        let apia = Zone(Tz::Pacific__Apia);
        assert_eq!(apia.first_reach(seconds("2011-12-30 12:00")), seconds("2011-12-30 10:00"));
    }

    #[test]
    fn a_repeated_time_is_reached_at_its_first_coming() {
        let berlin = Zone(Tz::Europe__Berlin);
        assert_eq!(berlin.first_reach(seconds("2026-10-25 02:30")), seconds("2026-10-25 00:30"));
        let second_pass = seconds("2026-10-25 01:10");
        assert_eq!(berlin.high_water(second_pass), seconds("2026-10-25 03:00") - 1);
    }

    #[test]
    fn no_zone_changes_its_clock_twice_within_the_change_gap() {
        let (start, end, step) =
            (seconds("1970-01-01 00:00"), seconds("2045-01-01 00:00"), 12 * 3_600);
        for zone in TZ_VARIANTS.map(Zone) {
            let mut last = i64::MIN;
            let mut instant = start;
            let mut offset = zone.offset_at(instant);
            while instant < end {
                let next = zone.offset_at(instant + step);
                if next != offset {
                    assert!(instant > last.saturating_add(CHANGE_GAP * 2), "{}", zone.0);
                    last = instant;
                }
                (instant, offset) = (instant + step, next);
            }
        }
    }
}
