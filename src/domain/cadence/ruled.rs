//! A cadence under calendars: what they exclude does not run, or runs on another day.
//!
//! The planned instants are those of the grid that the calendars do not exclude, and, when the
//! schedule asks for it, the excluded ones moved to the next or the last business day: the nearest
//! day on which the same local time is not excluded. Two that meet are one. What finds no such day
//! within [`SHIFT_DAYS`] does not run.
//!
//! Guarantees, held to a model that looks at every second: the answers of
//! [`crate::domain::cadence::Cadence`] stay strictly increasing and agree with each other, and
//! [`RuledCadence::left_out`] counts exactly what was taken away. Whole pieces of excluded time are
//! passed over in one step.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta};

use super::Cadence;
use super::zone::Zone;
use crate::domain::Timestamp;
use crate::domain::calendar::{CalendarMode, Coverage, DAY, OnExcluded, Piece};
use crate::domain::schedule::{LedgerRange, LedgerReason};

/// How many days an excluded instant is moved at most.
pub const SHIFT_DAYS: i64 = 31;
/// Instants of a grid within two times [`SHIFT_DAYS`] at most, if they are to be moved: twice an
/// hour.
pub const SHIFT_GRID_MAX: u64 = 48 * 2 * 31;
/// How far ahead an instant that is not excluded is looked for.
const HORIZON: TimeDelta = TimeDelta::days(3_660);
/// First stretch that is looked at for moved instants; doubled while in vain.
const STRETCH: TimeDelta = TimeDelta::days(2);
const TICK: TimeDelta = TimeDelta::microseconds(1);

/// One calendar of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarRule {
    /// Its name, for people.
    pub name: String,
    /// What it does.
    pub mode: CalendarMode,
    /// What it covers.
    pub coverage: Arc<Coverage>,
}

/// A grid under calendars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuledCadence {
    pub(super) grid: Cadence,
    pub(super) rules: Vec<CalendarRule>,
    pub(super) on_excluded: OnExcluded,
    /// Whose wall clock a moved instant keeps.
    pub(super) zone: Zone,
}

/// The first instant that is not in the piece any more.
fn end_of(piece: Piece) -> Timestamp {
    DateTime::from_timestamp(piece.until, 0).unwrap_or(Timestamp::MAX_UTC)
}

impl RuledCadence {
    /// Whether the calendars let the second be, and for how long that holds.
    fn piece_at(&self, at: i64) -> Piece {
        let mut whole = Piece { covers: true, from: i64::MIN, until: i64::MAX };
        let mut needs_one = false;
        let mut has_one = false;
        for rule in &self.rules {
            let piece = rule.coverage.piece_at(at);
            match rule.mode {
                CalendarMode::Include => {
                    needs_one = true;
                    has_one |= piece.covers;
                    whole = whole.joined(piece, whole.covers);
                }
                CalendarMode::Exclude => whole = whole.joined(piece, whole.covers && !piece.covers),
            }
        }
        whole.covers &= has_one || !needs_one;
        whole
    }

    fn lets(&self, at: Timestamp) -> bool {
        self.piece_at(at.timestamp()).covers
    }

    fn moves(&self) -> bool {
        self.on_excluded != OnExcluded::Skip
    }

    /// When an instant of the grid runs; `None` when it does not.
    fn target(&self, at: Timestamp) -> Option<Timestamp> {
        if self.lets(at) {
            return Some(at);
        }
        let direction = match self.on_excluded {
            OnExcluded::Skip => return None,
            OnExcluded::NextBusinessDay => DAY,
            OnExcluded::PreviousBusinessDay => -DAY,
        };
        let wall = self.zone.wall_at(at.timestamp());
        let rest = TimeDelta::nanoseconds(i64::from(at.timestamp_subsec_nanos()));
        (1..=SHIFT_DAYS).find_map(|days| {
            let moved = self.zone.first_reach(wall + direction * days);
            let moved = DateTime::from_timestamp(moved, 0)?.checked_add_signed(rest)?;
            self.lets(moved).then_some(moved)
        })
    }

    /// The planned instants in `(after, until]` of a cadence that moves them.
    fn moved_between(&self, after: Timestamp, until: Timestamp) -> BTreeSet<Timestamp> {
        let reach = TimeDelta::days(SHIFT_DAYS + 1);
        let from = after.checked_sub_signed(reach).unwrap_or(Timestamp::MIN_UTC);
        let to = until.checked_add_signed(reach).unwrap_or(Timestamp::MAX_UTC);
        let mut found = BTreeSet::new();
        let mut at = self.grid.next_after(from);
        while let Some(instant) = at.filter(|at| *at <= to) {
            found.extend(self.target(instant).filter(|at| *at > after && *at <= until));
            at = self.grid.next_after(instant);
        }
        found
    }

    /// The planned instants after `after` and up to `until`, the first `limit`.
    pub(super) fn instants(
        &self,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Vec<Timestamp> {
        if !self.moves() {
            let next = |after| self.next_kept(after).filter(|at| *at <= until);
            return std::iter::successors(next(after), |at| next(*at)).take(limit).collect();
        }
        let mut found = Vec::new();
        let (mut position, mut stretch) = (after, STRETCH);
        let horizon = after.checked_add_signed(HORIZON).unwrap_or(Timestamp::MAX_UTC).min(until);
        while found.len() < limit && position < horizon {
            let to = position.checked_add_signed(stretch).unwrap_or(horizon).min(horizon);
            found.extend(self.moved_between(position, to));
            (position, stretch) = (to, stretch * 2);
        }
        found.truncate(limit);
        found
    }

    pub(super) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        if self.moves() {
            return self.instants(after, Timestamp::MAX_UTC, 1).first().copied();
        }
        self.next_kept(after)
    }

    fn next_kept(&self, after: Timestamp) -> Option<Timestamp> {
        let horizon = after.checked_add_signed(HORIZON)?;
        let mut after = after;
        loop {
            let at = self.grid.next_after(after).filter(|at| *at <= horizon)?;
            let piece = self.piece_at(at.timestamp());
            if piece.covers {
                return Some(at);
            }
            after = end_of(piece) - TICK;
        }
    }

    pub(super) fn count_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        if !self.moves() {
            let mut count = 0;
            self.each_piece(after, until, |lets, _, _, instants| {
                count += if lets { instants } else { 0 };
            });
            return count;
        }
        let (mut count, mut position) = (0, after);
        while position < until {
            let to = position.checked_add_signed(TimeDelta::days(SHIFT_DAYS));
            let to = to.unwrap_or(until).min(until);
            count += u64::try_from(self.moved_between(position, to).len()).unwrap_or(u64::MAX);
            position = to;
        }
        count
    }

    pub(super) fn last_at_or_before(
        &self,
        at: Timestamp,
        not_before: Timestamp,
    ) -> Option<Timestamp> {
        if self.moves() {
            let (mut position, mut stretch) = (at, STRETCH);
            while position >= not_before {
                let from = position.checked_sub_signed(stretch)?.max(not_before - TICK);
                if let Some(last) = self.moved_between(from, position).last() {
                    return Some(*last);
                }
                (position, stretch) = (from, stretch * 2);
            }
            return None;
        }
        let mut at = at;
        loop {
            let newest = self.grid.last_at_or_before(at, not_before)?;
            let piece = self.piece_at(newest.timestamp());
            if piece.covers {
                return Some(newest);
            }
            at = DateTime::from_timestamp(piece.from, 0)? - TICK;
        }
    }

    /// Tells of each piece in `(after, until]` that has instants of the grid: whether the calendars
    /// let it be, its first and last instant, and how many it has.
    fn each_piece(
        &self,
        after: Timestamp,
        until: Timestamp,
        mut tell: impl FnMut(bool, Timestamp, Timestamp, u64),
    ) {
        let mut position = after;
        while let Some(first) = self.grid.next_after(position).filter(|at| *at <= until) {
            let piece = self.piece_at(first.timestamp());
            let end = (end_of(piece) - TICK).min(until);
            let last = self.grid.last_at_or_before(end, first).unwrap_or(first);
            tell(piece.covers, first, last, self.grid.count_between(first, end) + 1);
            position = end;
        }
    }

    /// What the calendars took away from the grid in `(after, until]`, one range for each stretch
    /// in which nothing else is planned.
    pub(super) fn left_out(&self, after: Timestamp, until: Timestamp) -> Option<LedgerRange> {
        let mut range: Option<LedgerRange> = None;
        let mut enter = |from: Timestamp, to: Timestamp, count: u64| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            match &mut range {
                Some(range) => {
                    range.to = to;
                    range.count = range.count.saturating_add(count);
                }
                None => {
                    let reason = LedgerReason::Calendar;
                    range = Some(LedgerRange { from, to, count, reason });
                }
            }
        };
        if !self.moves() {
            self.each_piece(after, until, |lets, first, last, count| {
                if !lets {
                    enter(first, last, count);
                }
            });
            return range;
        }
        let mut at = self.grid.next_after(after);
        while let Some(instant) = at.filter(|at| *at <= until) {
            if self.target(instant).is_none() {
                enter(instant, instant, 1);
            }
            at = self.grid.next_after(instant);
        }
        range
    }

    /// What the calendars do, after the grid's own description.
    pub(super) fn describe(&self) -> String {
        let names = |mode: CalendarMode| {
            let of_mode = self.rules.iter().filter(|rule| rule.mode == mode);
            of_mode.map(|rule| format!("\"{}\"", rule.name)).collect::<Vec<_>>().join(" and ")
        };
        let mut text = self.grid.describe();
        let (only, never) = (names(CalendarMode::Include), names(CalendarMode::Exclude));
        if !only.is_empty() {
            text.push_str(&format!(", only within {only}"));
        }
        if !never.is_empty() {
            text.push_str(&format!(", not within {never}"));
        }
        text.push_str(match self.on_excluded {
            OnExcluded::Skip => "",
            OnExcluded::NextBusinessDay => "; what that excludes runs on the next business day",
            OnExcluded::PreviousBusinessDay => {
                "; what that excludes runs on the last business day before"
            }
        });
        text
    }
}

#[cfg(test)]
#[path = "ruled_tests.rs"]
mod tests;
