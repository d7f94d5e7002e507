//! Quiet hours: when nobody is to be told, by the clock on the wall of a zone.
//!
//! They begin and end when the wall first shows `from` and `to` or a later time, so that a clock
//! change neither skips nor doubles their end.

use chrono::{Datelike, NaiveDate, TimeDelta};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::Timestamp;
use crate::domain::cadence::first_reach;
use crate::domain::execution::Severity;
use crate::domain::text_enum;

text_enum! {
    /// A day of the week.
    pub enum Day {
        /// Monday.
        Monday = "mon",
        /// Tuesday.
        Tuesday = "tue",
        /// Wednesday.
        Wednesday = "wed",
        /// Thursday.
        Thursday = "thu",
        /// Friday.
        Friday = "fri",
        /// Saturday.
        Saturday = "sat",
        /// Sunday.
        Sunday = "sun",
    }
}

/// A time of day in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Reads `HH:MM`, 00:00 to 23:59.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        let number = |text: &str, most: u16| {
            let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| text.parse::<u16>().ok()).flatten().filter(|number| *number <= most)
        };
        Some(Self(number(hour, 23)? * 60 + number(minute, 59)?))
    }

    /// As it is written.
    #[must_use]
    pub fn text(self) -> String {
        format!("{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a time of day"))
    }
}

/// When nobody is to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuietHours {
    /// When they begin.
    pub from: TimeOfDay,
    /// When they end; on the next day when that is not after `from`.
    pub to: TimeOfDay,
    /// By which clock.
    pub timezone: Tz,
    /// On which days they begin; empty: on every.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// What is at least so bad is told all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except_severity: Option<Severity>,
}

impl QuietHours {
    /// Whether something so bad is told all the same.
    #[must_use]
    pub fn lets_through(&self, severity: Severity) -> bool {
        self.except_severity.is_some_and(|least| severity >= least)
    }

    /// When the quiet hours that hold at `now` end; `None` when none do.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.with_timezone(&self.timezone).date_naive();
        // A clock change of a day and more (there was one) does not make these few days too few.
        let starts = (-2..=1).filter_map(|days| today.checked_add_signed(TimeDelta::days(days)));
        starts
            .filter(|day| self.days.is_empty() || self.days.contains(&day_of(*day)))
            .filter_map(|day| {
                let overnight = i64::from(self.to <= self.from);
                let last = day.checked_add_signed(TimeDelta::days(overnight))?;
                Some((self.at(day, self.from)?, self.at(last, self.to)?))
            })
            .filter(|(start, end)| *start <= now && now < *end)
            .map(|(_, end)| end)
            .max()
    }

    fn at(&self, day: NaiveDate, time: TimeOfDay) -> Option<Timestamp> {
        let wall = day.and_hms_opt(u32::from(time.0 / 60), u32::from(time.0 % 60), 0)?;
        first_reach(self.timezone, wall)
    }
}

fn day_of(date: NaiveDate) -> Day {
    let place = usize::try_from(date.weekday().num_days_from_monday()).unwrap_or(0);
    Day::ALL.get(place).copied().unwrap_or(Day::Monday)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(from: &str, to: &str, days: &[Day]) -> QuietHours {
        QuietHours {
            from: TimeOfDay::parse(from).unwrap(),
            to: TimeOfDay::parse(to).unwrap(),
            timezone: Tz::Europe__Berlin,
            days: days.to_vec(),
            except_severity: Some(Severity::Critical),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn quiet_hours_end_when_the_wall_says_so() {
        let night = quiet("22:00", "07:00", &[]);
        let day = quiet("09:00", "17:00", &[]);
        let weekend = quiet("20:00", "08:00", &[Day::Friday]);
        let cases = [
            (&night, "2026-11-21T20:59:59Z", None),
            (&night, "2026-11-21T21:00:00Z", Some("2026-11-22T06:00:00Z")),
            (&night, "2026-11-22T05:59:59Z", Some("2026-11-22T06:00:00Z")),
            (&night, "2026-11-22T06:00:00Z", None),
            (&day, "2026-11-21T12:00:00Z", Some("2026-11-21T16:00:00Z")),
            (&day, "2026-11-21T17:00:00Z", None),
            // Friday evening into Saturday, and no other night.
            (&weekend, "2026-11-20T19:30:00Z", Some("2026-11-21T07:00:00Z")),
            (&weekend, "2026-11-21T06:30:00Z", Some("2026-11-21T07:00:00Z")),
            (&weekend, "2026-11-21T19:30:00Z", None),
            // The clock goes forward, and back.
            (&night, "2026-03-29T00:30:00Z", Some("2026-03-29T05:00:00Z")),
            (&night, "2026-10-25T00:30:00Z", Some("2026-10-25T06:00:00Z")),
            (&quiet("22:00", "02:30", &[]), "2026-03-29T00:59:00Z", Some("2026-03-29T01:00:00Z")),
        ];
        for (hours, now, end) in cases {
            assert_eq!(hours.until(at(now)), end.map(at), "{now}");
        }
    }

    /// Clocks that go forward or back by an hour, by half an hour, and over a whole day.
    const CHANGES: &[(Tz, &str)] = &[
        (Tz::Europe__Berlin, "2026-03-29T01:00:00Z"),
        (Tz::Europe__Berlin, "2026-10-25T01:00:00Z"),
        (Tz::America__New_York, "2026-11-01T06:00:00Z"),
        (Tz::Australia__Lord_Howe, "2026-04-04T15:00:00Z"),
        (Tz::Australia__Lord_Howe, "2026-10-03T15:30:00Z"),
        (Tz::Pacific__Apia, "2011-12-30T10:00:00Z"),
        (Tz::UTC, "2026-06-01T00:00:00Z"),
    ];

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn quiet_hours_agree_with_a_walk_over_the_wall_clock(
            change in 0..CHANGES.len(), minutes in -2_880_i64..2_880,
            from in 0..1_440_u16, to in 0..1_440_u16, days in 0..128_u8,
        ) {
            proptest::prop_assume!(from != to);
            let (timezone, instant) = CHANGES[change];
            let now = at(instant) + TimeDelta::minutes(minutes);
            let chosen = Day::ALL.iter().enumerate().filter(|(place, _)| days & (1 << place) != 0);
            let days: Vec<Day> = chosen.map(|(_, day)| *day).collect();
            let (from, to) = (TimeOfDay(from), TimeOfDay(to));
            let hours = QuietHours {
                from, to, timezone, days: days.clone(), except_severity: None,
            };
            // What the wall shows, minute by minute.
            let walk: Vec<_> = (-5_760..=4_320)
                .map(|minute| now + TimeDelta::minutes(minute))
                .map(|instant| (instant, instant.with_timezone(&timezone).naive_local()))
                .collect();
            let reached = |day: NaiveDate, time: TimeOfDay| {
                let wall = day.and_hms_opt(u32::from(time.0 / 60), u32::from(time.0 % 60), 0)?;
                walk.iter().find(|(_, shown)| *shown >= wall).map(|(instant, _)| *instant)
            };
            let today = now.with_timezone(&timezone).date_naive();
            let ends = (-3..=2).filter_map(|offset| {
                let day = today + TimeDelta::days(offset);
                let last = day + TimeDelta::days(i64::from(to <= from));
                let counts = days.is_empty() || days.contains(&day_of(day));
                let (start, end) = (reached(day, from)?, reached(last, to)?);
                (counts && start <= now && now < end).then_some(end)
            });
            proptest::prop_assert_eq!(hours.until(now), ends.max());
        }
    }

    #[test]
    fn only_what_is_bad_enough_gets_through() {
        let night = quiet("22:00", "07:00", &[]);
        assert!(night.lets_through(Severity::Critical));
        assert!(!night.lets_through(Severity::High));
        assert!(!QuietHours { except_severity: None, ..night }.lets_through(Severity::Critical));
    }

    #[test]
    fn times_of_day_are_strict() {
        for text in ["24:00", "7:00", "07:60", "0700", "+7:00", ""] {
            assert_eq!(TimeOfDay::parse(text), None, "{text}");
        }
        assert_eq!(TimeOfDay::parse("07:05").unwrap().text(), "07:05");
    }
}
