//! Which days of a month a cron expression picks.
//!
//! A month's days are a bit mask (bit 1 is the first of the month), so that "either" and "both" of
//! the two day fields are one `|` or `&`, and the next day is a count of trailing zeros. `L`, `LW`,
//! `15W`, `5L` and `1#2` depend on the month and are worked out per month; nothing is cached,
//! since a month costs some tens of nanoseconds.

use chrono::{Datelike, NaiveDate};

/// Days picked by the day-of-month and day-of-week fields together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DayFilter {
    /// Plain days of the month, bit `d` for day `d`.
    pub(super) month_days: u32,
    /// `L`: the last day of the month.
    pub(super) last_day: bool,
    /// `LW`: the last day of the month that is a Monday to Friday.
    pub(super) last_weekday: bool,
    /// `15W`, bit `d` for day `d`: the Monday to Friday nearest to the day, in the same month.
    pub(super) nearest_weekday: u32,
    /// Plain weekdays, bit 0 for Sunday.
    pub(super) week_days: u8,
    /// `5L`, bit 0 for Sunday: the last such weekday of the month.
    pub(super) last_week_days: u8,
    /// `1#2`: entry `n - 1` has the weekdays picked at their n-th coming in the month.
    pub(super) nth_week_days: [u8; 5],
    /// Both fields must match (one of them starts with `*`); otherwise either suffices.
    pub(super) both: bool,
}

impl DayFilter {
    /// The days picked in a month; zero for a month that does not exist.
    pub(super) fn days_of(&self, year: i32, month: u32) -> u32 {
        let Some(first) = NaiveDate::from_ymd_opt(year, month, 1) else { return 0 };
        let shape = MonthShape {
            length: u32::from(first.num_days_in_month()),
            first: first.weekday().num_days_from_sunday(),
        };
        let by_month = self.by_month_day(shape);
        let by_week = self.by_week_day(shape);
        if self.both { by_month & by_week } else { by_month | by_week }
    }

    /// Whether a day is ever picked in one of `months` (bit 1 is January). The calendar has only
    /// fourteen kinds of year, so a look at 28 years between two centuries decides it.
    pub(super) fn ever_in(&self, months: u16) -> bool {
        (2001..2029)
            .any(|year| (1..=12).any(|m| months >> m & 1 == 1 && self.days_of(year, m) != 0))
    }

    fn by_month_day(&self, shape: MonthShape) -> u32 {
        let mut days = self.month_days & shape.every_day();
        if self.last_day {
            days |= 1 << shape.length;
        }
        if self.last_weekday {
            days |= 1 << shape.nearest_weekday(shape.length);
        }
        for day in bits(self.nearest_weekday & shape.every_day()) {
            days |= 1 << shape.nearest_weekday(day);
        }
        days
    }

    fn by_week_day(&self, shape: MonthShape) -> u32 {
        let mut days = 0;
        for day in 1..=shape.length {
            let weekday = 1_u8 << shape.weekday(day);
            let nth = usize::try_from((day - 1) / 7).unwrap_or(0);
            let nth_days = self.nth_week_days.get(nth).copied().unwrap_or(0);
            let last_days = if day + 7 > shape.length { self.last_week_days } else { 0 };
            if (self.week_days | nth_days | last_days) & weekday != 0 {
                days |= 1 << day;
            }
        }
        days
    }
}

/// All that a month's days depend on.
#[derive(Clone, Copy)]
struct MonthShape {
    length: u32,
    /// Weekday of the first, 0 for Sunday.
    first: u32,
}

impl MonthShape {
    fn weekday(self, day: u32) -> u32 {
        (self.first + day - 1) % 7
    }

    fn every_day(self) -> u32 {
        (u32::MAX >> (31 - self.length)) & !1
    }

    fn nearest_weekday(self, day: u32) -> u32 {
        match self.weekday(day) {
            6 if day == 1 => 3,
            6 => day - 1,
            0 if day == self.length => day - 2,
            0 => day + 1,
            _ => day,
        }
    }
}

/// The set bits of a mask, lowest first.
pub(super) fn bits(mask: u32) -> impl Iterator<Item = u32> {
    (0..32).filter(move |bit| mask >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(filter: &DayFilter, year: i32, month: u32) -> Vec<u32> {
        bits(filter.days_of(year, month)).collect()
    }

    #[test]
    fn the_nearest_weekday_stays_within_the_month() {
        let filter = DayFilter { nearest_weekday: 1 << 1 | 1 << 31, ..DayFilter::default() };
        // August 2026 starts on a Saturday; May 2026 ends on a Sunday.
        assert_eq!(list(&filter, 2026, 8), [3, 31]);
        assert_eq!(list(&filter, 2026, 5), [1, 29]);
        // No 31st, no nearest to it.
        assert_eq!(list(&filter, 2026, 6), [1]);
    }

    #[test]
    fn last_days_follow_the_length_of_the_month() {
        let filter = DayFilter { last_day: true, last_weekday: true, ..DayFilter::default() };
        assert_eq!(list(&filter, 2026, 2), [27, 28]);
        assert_eq!(list(&filter, 2028, 2), [29]);
        assert_eq!(list(&filter, 2026, 5), [29, 31]);
    }

    #[test]
    fn last_and_nth_weekdays_are_counted_within_the_month() {
        let mut filter = DayFilter { last_week_days: 1 << 5, ..DayFilter::default() };
        filter.nth_week_days[1] = 1 << 1;
        assert_eq!(list(&filter, 2026, 11), [9, 27]);
    }

    #[test]
    fn days_that_no_calendar_has_are_never() {
        let filter =
            DayFilter { month_days: 1 << 30, week_days: 0x7f, both: true, ..DayFilter::default() };
        assert!(!filter.ever_in(1 << 2));
        assert!(filter.ever_in(1 << 2 | 1 << 3));
        let leap_sunday = DayFilter { month_days: 1 << 29, week_days: 1, ..filter };
        assert!(leap_sunday.ever_in(1 << 2));
    }
}
