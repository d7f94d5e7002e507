//! What a calendar covers, ready to be asked.
//!
//! Guarantee: [`Coverage::piece_at`] agrees with asking second by second; a property test holds it
//! to that, clock changes included. Everything is in whole seconds.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDate};
use chrono_tz::Tz;

use super::{CalendarDefinition, CalendarEntry, DAY, WeekDay};
use crate::domain::cadence::zone::Zone;

/// An answer and the seconds for which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whether the calendar covers them.
    pub covers: bool,
    /// The first second, since 1970.
    pub from: i64,
    /// The first second after them.
    pub until: i64,
}

impl Piece {
    /// The answer for both: covered as `covers` says, for as long as neither changes.
    #[must_use]
    pub fn joined(self, other: Self, covers: bool) -> Self {
        Self { covers, from: self.from.max(other.from), until: self.until.min(other.until) }
    }
}

/// What a calendar covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    zone: Zone,
    /// Ranges of days since 1970, ends not included, in order, apart from each other.
    days: Vec<(i64, i64)>,
    /// Month, day, and the first year.
    yearly: BTreeSet<(u32, u32, i32)>,
    /// Windows of each weekday, Sunday first, in order, apart from each other.
    weekly: [Vec<(i64, i64)>; 7],
    /// Seconds since 1970, ends not included, in order, apart from each other.
    spans: Vec<(i64, i64)>,
}

fn day_number(date: NaiveDate) -> i64 {
    i64::from(date.num_days_from_ce()) - i64::from(NaiveDate::default().num_days_from_ce())
}

/// Sorts ranges and joins those that meet.
fn merged(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.retain(|(from, to)| from < to);
    ranges.sort_unstable();
    let mut apart: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match apart.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => apart.push((from, to)),
        }
    }
    apart
}

/// Whether one of the ranges holds `at`, and the nearest of their ends around it.
fn within(ranges: &[(i64, i64)], at: i64) -> Piece {
    let after = ranges.partition_point(|(from, _)| *from <= at);
    let until = ranges.get(after).map_or(i64::MAX, |(from, _)| *from);
    match after.checked_sub(1).and_then(|before| ranges.get(before)) {
        Some((from, to)) if at < *to => Piece { covers: true, from: *from, until: *to },
        Some((_, to)) => Piece { covers: false, from: *to, until },
        None => Piece { covers: false, from: i64::MIN, until },
    }
}

impl Coverage {
    /// What a calendar covers; a zone that is not known any more counts as UTC.
    #[must_use]
    pub fn of(definition: &CalendarDefinition) -> Self {
        let mut days = Vec::new();
        let mut yearly = BTreeSet::new();
        let mut weekly: [Vec<(i64, i64)>; 7] = Default::default();
        let mut spans = Vec::new();
        for entry in &definition.entries {
            match entry {
                CalendarEntry::Date { date, yearly: true, .. } => {
                    yearly.insert((date.month(), date.day(), date.year()));
                }
                CalendarEntry::Date { date, .. } => {
                    days.push((day_number(*date), day_number(*date) + 1));
                }
                CalendarEntry::Range { from, to, .. } => {
                    days.push((day_number(*from), day_number(*to) + 1));
                }
                CalendarEntry::Weekly { days, from, to, .. } => {
                    for (place, day) in WeekDay::ALL.iter().enumerate() {
                        if let Some(list) = weekly.get_mut(place).filter(|_| days.contains(day)) {
                            list.push((i64::from(*from), i64::from(*to)));
                        }
                    }
                }
                CalendarEntry::Span { from, to, .. } => {
                    spans.push((from.timestamp(), to.timestamp()));
                }
            }
        }
        Self {
            zone: Zone(definition.timezone.parse().unwrap_or(Tz::UTC)),
            days: merged(days),
            yearly,
            weekly: weekly.map(merged),
            spans: merged(spans),
        }
    }

    /// The zone of its days and windows.
    #[must_use]
    pub(in crate::domain) fn zone(&self) -> Zone {
        self.zone
    }

    /// The answer for a second since 1970, and for how long it holds: a day at most.
    #[must_use]
    pub fn piece_at(&self, at: i64) -> Piece {
        let offset = self.zone.offset_at(at);
        let wall = at + offset;
        let midnight = wall.div_euclid(DAY) * DAY;
        let on_wall = self.piece_of_day(midnight, wall - midnight);
        let mut piece = Piece {
            covers: on_wall.covers,
            from: midnight + on_wall.from - offset,
            until: midnight + on_wall.until - offset,
        };
        // The wall runs evenly only between two clock changes.
        if let Some(change) = self.zone.change_between(at, piece.until) {
            piece.until = change.at;
        }
        if let Some(change) = self.zone.change_between(piece.from, at) {
            piece.from = change.at;
        }
        let span = within(&self.spans, at);
        piece.joined(span, piece.covers || span.covers)
    }

    /// The answer for a second of a day, in seconds of that day.
    fn piece_of_day(&self, midnight: i64, second: i64) -> Piece {
        let day = midnight.div_euclid(DAY);
        if self.has_day(day) {
            return Piece { covers: true, from: 0, until: DAY };
        }
        // 1970 began on a Thursday.
        let week_day = usize::try_from((day + 4).rem_euclid(7)).unwrap_or(0);
        let windows = self.weekly.get(week_day).map_or(&[][..], Vec::as_slice);
        let piece = within(windows, second);
        Piece { from: piece.from.max(0), until: piece.until.min(DAY), ..piece }
    }

    fn has_day(&self, day: i64) -> bool {
        if within(&self.days, day).covers {
            return true;
        }
        let Some(date) = DateTime::from_timestamp(day * DAY, 0).filter(|_| !self.yearly.is_empty())
        else {
            return false;
        };
        let first = (date.month(), date.day(), i32::MIN);
        self.yearly.range(first..=(date.month(), date.day(), date.year())).next().is_some()
    }
}

#[cfg(test)]
#[path = "coverage_tests.rs"]
mod tests;
