//! Cron in a time zone.
//!
//! [`Fields`] walk the wall clock, [`Zone`] knows its changes, and this file joins them under the
//! rules of clock changes:
//!
//! - **Fixed times** (neither minute nor hour starts with `*`): every matching wall is due at the
//!   first instant at which the clock has reached it. A time in the gap is so due right after it
//!   (several of them fall together into one), a repeated time once.
//! - **Real minutes** (minute or hour starts with `*`): an instant is due when the wall matches at
//!   that instant. Nothing is due in a gap; both passes of a repeated hour are.
//!
//! A schedule may ask otherwise ([`ClockChange`]): `run_once` takes every expression as fixed
//! times, `skip` lets a time run only where the wall shows it, and only at its first coming. What
//! is left out for that is told by [`CronCadence::left_out`].
//!
//! Guarantees: results strictly increase, lie strictly after what was asked, and cost some hundred
//! nanoseconds wherever the next one is; counting costs by clock changes and months, not by runs.

use std::sync::Arc;

use chrono::{DateTime, Datelike};
use chrono_tz::Tz;

use super::ClockChange;
use super::expression::Expression;
use super::fields::{Fields, LAST_YEAR};
use super::zone::{CHANGE_GAP, Change, Zone};
use crate::domain::Timestamp;
use crate::domain::schedule::{LedgerRange, LedgerReason};

/// A cron expression in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronCadence {
    pub(super) expression: Arc<Expression>,
    pub(super) zone: Zone,
    pub(super) clock_change: ClockChange,
}

/// Which walls are due around a clock change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Each once, when the clock has reached it.
    Reached,
    /// Whenever it is shown.
    Shown,
    /// When it is shown for the first time.
    ShownFirst,
}

impl CronCadence {
    /// The expression as five or six fields, as it was given or as the plain form translates.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression.text
    }

    /// The expression as six fields, each `H` replaced by what it stands for.
    #[must_use]
    pub fn resolved(&self) -> String {
        self.expression.parts.join(" ")
    }

    /// The zone whose wall clock the expression is about.
    #[must_use]
    pub fn timezone(&self) -> Tz {
        self.zone.0
    }

    /// The first due instant strictly after `after`; `None` past the year 9999.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = after.timestamp();
        let due = match self.rule() {
            Rule::Shown => self.next_real(after.checked_add(1)?),
            Rule::ShownFirst => self.next_first(after.checked_add(1)?),
            Rule::Reached => {
                let wall = self.fields().next_wall(self.zone.high_water(after) + 1)?;
                Some(self.zone.first_reach(wall))
            }
        };
        DateTime::from_timestamp(due?, 0).filter(|due| due.year() <= LAST_YEAR)
    }

    /// How many due instants lie in `(after, until]`.
    #[must_use]
    pub fn count_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        let (after, until) = (after.timestamp(), until.timestamp());
        let mut seen = self.zone.high_water(after);
        let (mut count, mut from, mut probe) = (0, after, after);
        while probe < until {
            let to = until.min(probe + CHANGE_GAP);
            if let Some(change) = self.zone.change_between(probe, to) {
                count += self.count_steady(&mut seen, from, change.at - 1);
                count += self.count_at_change(&mut seen, change.at);
                from = change.at;
                probe = change.at;
            } else {
                probe = to;
            }
        }
        count + self.count_steady(&mut seen, from, until)
    }

    /// The times in `(after, until]` that the clock-change policy leaves out and tells of: those
    /// that the clock jumped over (under `skip`, at a millisecond before the jump) and the second
    /// coming of those that would run whenever they are shown.
    #[must_use]
    pub fn left_out(&self, after: Timestamp, until: Timestamp) -> Vec<LedgerRange> {
        let mut ranges = Vec::new();
        if self.clock_change == ClockChange::Default {
            return ranges;
        }
        let (after, until) = (after.timestamp(), until.timestamp());
        let mut probe = after;
        while probe < until {
            let to = until.min(probe + CHANGE_GAP);
            let Some(change) = self.zone.change_between(probe, to) else {
                probe = to;
                continue;
            };
            ranges.extend(self.left_out_at(change, until));
            probe = change.at;
        }
        ranges
    }

    fn left_out_at(&self, change: Change, until: i64) -> Option<LedgerRange> {
        let range = |from: Timestamp, to: Timestamp, count: u64| LedgerRange {
            from,
            to,
            count: i64::try_from(count).unwrap_or(i64::MAX),
            reason: LedgerReason::ClockChange,
        };
        if change.after > change.before {
            let (first, last) = (change.at + change.before, change.at + change.after - 1);
            let count = self.fields().count_walls(first - 1, last);
            let moment = DateTime::from_timestamp_millis(change.at * 1_000 - 1)?;
            let is_told = self.clock_change == ClockChange::Skip && count > 0;
            return is_told.then(|| range(moment, moment, count));
        }
        if !self.fields().real_minutes {
            return None;
        }
        let end = until.min(change.at + (change.before - change.after) - 1);
        let next = |from: i64| self.next_real(from).filter(|at| *at <= end);
        let first = next(change.at)?;
        let last = std::iter::successors(Some(first), |at| next(at + 1)).last()?;
        let count = self.fields().count_walls(first + change.after - 1, last + change.after);
        Some(range(DateTime::from_timestamp(first, 0)?, DateTime::from_timestamp(last, 0)?, count))
    }

    fn rule(&self) -> Rule {
        match (self.clock_change, self.fields().real_minutes) {
            (ClockChange::Skip, _) => Rule::ShownFirst,
            (ClockChange::RunOnce, _) | (ClockChange::Default, false) => Rule::Reached,
            (ClockChange::Default, true) => Rule::Shown,
        }
    }

    fn fields(&self) -> &Fields {
        &self.expression.fields
    }

    /// The first instant at or after `from` whose wall matches and is shown for the first time.
    fn next_first(&self, mut from: i64) -> Option<i64> {
        loop {
            let due = self.next_real(from)?;
            match self.zone.repeats_until(due) {
                Some(end) => from = end,
                None => return Some(due),
            }
        }
    }

    /// The first instant at or after `from` whose wall matches.
    fn next_real(&self, mut from: i64) -> Option<i64> {
        loop {
            let offset = self.zone.offset_at(from);
            let due = self.fields().next_wall(from + offset)? - offset;
            // The walls of [from, due) do not match as long as the offset holds.
            let sure = due.min(from + CHANGE_GAP);
            match self.zone.change_between(from, sure) {
                Some(change) => from = change.at,
                None if due == sure => return Some(due),
                // No change moves the wall by a whole CHANGE_GAP: between here and that long
                // before `due`, no wall is outside of the stretch that was just searched.
                None => from = sure.max(due - CHANGE_GAP),
            }
        }
    }

    /// Due instants in `(from, to]`, between which the clock does not change.
    fn count_steady(&self, seen: &mut i64, from: i64, to: i64) -> u64 {
        let offset = self.zone.offset_at(to);
        let end = to + offset;
        if to < from {
            return 0;
        }
        if self.rule() == Rule::Shown {
            return self.fields().count_walls(from + offset, end);
        }
        let count = self.fields().count_walls(*seen, end);
        *seen = end.max(*seen);
        count
    }

    /// Whether the instant of a clock change is itself due: 1 or 0.
    fn count_at_change(&self, seen: &mut i64, at: i64) -> u64 {
        let wall = self.zone.wall_at(at);
        let after = match self.rule() {
            Rule::Shown => wall - 1,
            Rule::Reached => *seen,
            Rule::ShownFirst => (*seen).max(wall - 1),
        };
        *seen = wall.max(*seen);
        self.fields().count_walls(after, wall).min(1)
    }
}
