//! The sets of a parsed cron expression, and walking along the wall clock with them.
//!
//! A wall is seconds since 1970 as if the wall clock showed UTC: there are no zones and no clock
//! changes here, so a day is always 86,400 seconds. [`Fields::next_wall`] finds the next matching
//! wall and [`Fields::count_walls`] counts those of a span by months, not one by one.

use chrono::{DateTime, Datelike, NaiveDate};

use super::days::DayFilter;

/// The last year in which anything is due: the last that RFC 3339 can write.
pub(super) const LAST_YEAR: i32 = 9_999;
const DAY: i64 = 86_400;

/// What a cron expression matches; every set is a bit mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u32,
    /// Bit 1 is January.
    pub(super) months: u16,
    pub(super) days: DayFilter,
    /// Minute or hour starts with `*`: clock changes count real minutes.
    pub(super) real_minutes: bool,
}

/// A wall taken apart.
struct WallParts {
    year: i32,
    month: u32,
    day: u32,
    second_of_day: i64,
}

impl WallParts {
    fn of(wall: i64) -> Option<Self> {
        let date = DateTime::from_timestamp(wall, 0)?.date_naive();
        Some(Self {
            year: date.year(),
            month: date.month(),
            day: date.day(),
            second_of_day: wall.rem_euclid(DAY),
        })
    }
}

impl Fields {
    /// The first matching wall at or after `from`; `None` past [`LAST_YEAR`].
    pub(super) fn next_wall(&self, from: i64) -> Option<i64> {
        let parts = WallParts::of(from)?;
        let (mut year, mut month) = (parts.year, parts.month);
        let mut days = self.days_in(year, month) & days_from(parts.day);
        if days >> parts.day & 1 == 1 {
            if let Some(second) = self.next_second_of_day(parts.second_of_day) {
                return midnight(year, month, parts.day).map(|start| start + second);
            }
            days &= days_from(parts.day + 1);
        }
        while days == 0 {
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            if year > LAST_YEAR {
                return None;
            }
            days = self.days_in(year, month);
        }
        let first = self.next_second_of_day(0)?;
        midnight(year, month, days.trailing_zeros()).map(|start| start + first)
    }

    /// How many matching walls lie in `(after, until]`.
    pub(super) fn count_walls(&self, after: i64, until: i64) -> u64 {
        if until <= after {
            return 0;
        }
        self.count_month_part(until)
            .saturating_add(self.count_months(after, until))
            .saturating_sub(self.count_month_part(after))
    }

    /// Matching walls from the start of the wall's month to the wall itself.
    fn count_month_part(&self, wall: i64) -> u64 {
        let Some(parts) = WallParts::of(wall) else { return 0 };
        let days = self.days_in(parts.year, parts.month);
        let earlier = u64::from((days & !days_from(parts.day)).count_ones()) * self.times_a_day();
        if days >> parts.day & 1 == 0 {
            return earlier;
        }
        earlier + self.times_until(parts.second_of_day)
    }

    /// Matching walls of the whole months from that of `after` to the one before that of `until`.
    fn count_months(&self, after: i64, until: i64) -> u64 {
        let (Some(start), Some(end)) = (WallParts::of(after), WallParts::of(until)) else {
            return 0;
        };
        let (mut year, mut month) = (start.year, start.month);
        let mut days = 0_u64;
        while (year, month) < (end.year, end.month) {
            days += u64::from(self.days_in(year, month).count_ones());
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        }
        days * self.times_a_day()
    }

    fn days_in(&self, year: i32, month: u32) -> u32 {
        if self.months >> month & 1 == 1 { self.days.days_of(year, month) } else { 0 }
    }

    fn times_a_day(&self) -> u64 {
        ones(u64::from(self.hours)) * ones(self.minutes) * ones(self.seconds)
    }

    /// Matching times of day at or before `second_of_day`.
    fn times_until(&self, second_of_day: i64) -> u64 {
        let (hour, minute, second) = split(second_of_day);
        let mut times =
            ones(below(self.hours.into(), hour)) * ones(self.minutes) * ones(self.seconds);
        if self.hours >> hour & 1 == 1 {
            times += ones(below(self.minutes, minute)) * ones(self.seconds);
            if self.minutes >> minute & 1 == 1 {
                times += ones(below(self.seconds, second + 1));
            }
        }
        times
    }

    /// The first matching second of a day at or after `from`, in seconds since midnight.
    fn next_second_of_day(&self, from: i64) -> Option<i64> {
        let (hour, minute, second) = split(from);
        if self.hours >> hour & 1 == 1 {
            if self.minutes >> minute & 1 == 1
                && let Some(second) = next_bit(self.seconds, second)
            {
                return Some(join(hour, minute, second));
            }
            if let Some(minute) = next_bit(self.minutes, minute + 1) {
                return Some(join(hour, minute, next_bit(self.seconds, 0)?));
            }
        }
        let hour = next_bit(self.hours.into(), hour + 1)?;
        Some(join(hour, next_bit(self.minutes, 0)?, next_bit(self.seconds, 0)?))
    }
}

fn midnight(year: i32, month: u32, day: u32) -> Option<i64> {
    let date = NaiveDate::from_ymd_opt(year, month, day)?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp())
}

/// Mask of the days from `day` on.
fn days_from(day: u32) -> u32 {
    u32::MAX.checked_shl(day).unwrap_or(0)
}

fn split(second_of_day: i64) -> (u32, u32, u32) {
    let second = u32::try_from(second_of_day).unwrap_or(0);
    (second / 3_600, second / 60 % 60, second % 60)
}

fn join(hour: u32, minute: u32, second: u32) -> i64 {
    i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second)
}

fn ones(mask: u64) -> u64 {
    mask.count_ones().into()
}

/// The bits of `mask` lower than `bit`.
fn below(mask: u64, bit: u32) -> u64 {
    mask & !u64::MAX.checked_shl(bit).unwrap_or(0)
}

/// The lowest set bit of `mask` that is at least `from`.
fn next_bit(mask: u64, from: u32) -> Option<u32> {
    let rest = mask & u64::MAX.checked_shl(from).unwrap_or(0);
    (rest != 0).then(|| rest.trailing_zeros())
}
