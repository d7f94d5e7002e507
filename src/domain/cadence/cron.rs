//! Cron in a time zone.
//!
//! [`Fields`] walk the wall clock, [`Zone`] knows its changes, and this file joins them under the
//! two rules of clock changes:
//!
//! - **Fixed times** (neither minute nor hour starts with `*`): every matching wall is due at the
//!   first instant at which the clock has reached it. A time in the gap is so due right after it
//!   (several of them fall together into one), a repeated time once.
//! - **Real minutes** (minute or hour starts with `*`): an instant is due when the wall matches at
//!   that instant. Nothing is due in a gap; both passes of a repeated hour are.
//!
//! Guarantees: results strictly increase, lie strictly after what was asked, and cost some hundred
//! nanoseconds wherever the next one is; counting costs by clock changes and months, not by runs.

use std::sync::Arc;

use chrono::{DateTime, Datelike};
use chrono_tz::Tz;

use super::expression::Expression;
use super::fields::{Fields, LAST_YEAR};
use super::zone::{CHANGE_GAP, Zone};
use crate::domain::Timestamp;

/// A cron expression in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronCadence {
    pub(super) expression: Arc<Expression>,
    pub(super) zone: Zone,
}

impl CronCadence {
    /// The expression as five or six fields, as it was given or as the plain form translates.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression.text
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
        let due = if self.fields().real_minutes {
            self.next_real(after.checked_add(1)?)
        } else {
            let wall = self.fields().next_wall(self.zone.high_water(after) + 1)?;
            Some(self.zone.first_reach(wall))
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

    fn fields(&self) -> &Fields {
        &self.expression.fields
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
        if self.fields().real_minutes {
            return self.fields().count_walls(from + offset, end);
        }
        let count = self.fields().count_walls(*seen, end);
        *seen = end.max(*seen);
        count
    }

    /// Whether the instant of a clock change is itself due: 1 or 0.
    fn count_at_change(&self, seen: &mut i64, at: i64) -> u64 {
        let wall = self.zone.wall_at(at);
        let after = if self.fields().real_minutes { wall - 1 } else { *seen };
        *seen = wall.max(*seen);
        self.fields().count_walls(after, wall).min(1)
    }
}
