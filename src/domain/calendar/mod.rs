//! Named calendars: which times are special (holidays, blackouts, office hours).
//!
//! A calendar says what it covers: days, ranges of days, weekly windows, spans of instants. Whether
//! a schedule runs only there or never there is the schedule's word ([`CalendarMode`]). Days and
//! windows are on the wall clock of the calendar's zone.
//!
//! [`Coverage`] answers for one instant, together with from when to when the answer holds, so that
//! whole pieces are passed over and a year of excluded seconds costs some hundred steps.
//!
//! Not here: schedules under calendars (`cadence/ruled.rs`), reading entries from requests (`api`).

mod coverage;
mod import;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

pub use self::coverage::{Coverage, Piece};
pub use self::import::{Import, ImportError, LeftOut, import};
use crate::domain::{Timestamp, text_enum};

/// Entries of a calendar at most.
pub const ENTRIES_MAX: usize = 5_000;
/// Bytes of a note at most.
pub const NOTE_MAX: usize = 200;
/// Seconds of a day.
pub(crate) const DAY: i64 = 86_400;

text_enum! {
    /// What a calendar does to a schedule that names it.
    pub enum CalendarMode {
        /// Runs only what it covers.
        Include = "include",
        /// Runs nothing that it covers.
        Exclude = "exclude",
    }
}

text_enum! {
    /// What becomes of an instant that the calendars exclude.
    pub enum OnExcluded {
        /// It does not run.
        Skip = "skip",
        /// It runs at the same local time of the next day that they do not exclude.
        NextBusinessDay = "next_business_day",
        /// Likewise of the last day before.
        PreviousBusinessDay = "previous_business_day",
    }
}

text_enum! {
    /// A day of the week.
    pub enum WeekDay {
        /// Sunday.
        Sunday = "sunday",
        /// Monday.
        Monday = "monday",
        /// Tuesday.
        Tuesday = "tuesday",
        /// Wednesday.
        Wednesday = "wednesday",
        /// Thursday.
        Thursday = "thursday",
        /// Friday.
        Friday = "friday",
        /// Saturday.
        Saturday = "saturday",
    }
}

/// A schedule's word on one calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarUse {
    /// The calendar's name.
    pub name: String,
    /// What it does.
    pub mode: CalendarMode,
}

/// Something that a calendar covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CalendarEntry {
    /// A day, or the same day of every year.
    Date {
        /// The day.
        date: NaiveDate,
        /// Every year from that of `date` on.
        #[serde(default)]
        yearly: bool,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Days, both ends included.
    Range {
        /// The first day.
        from: NaiveDate,
        /// The last day.
        to: NaiveDate,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A window of some days of every week.
    Weekly {
        /// The days.
        days: Vec<WeekDay>,
        /// Its beginning, seconds after midnight.
        from: u32,
        /// Its end, seconds after midnight, not included; 86,400 is midnight of the next day.
        to: u32,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// From one instant to another, which is not included; whole seconds.
    Span {
        /// The first instant.
        from: Timestamp,
        /// The first instant after it.
        to: Timestamp,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
}

/// Everything a user says about a calendar, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarDefinition {
    /// Unique; schedules name it so, and it never changes.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// IANA name of the zone whose wall clock days and windows are on.
    pub timezone: String,
    /// What it covers.
    pub entries: Vec<CalendarEntry>,
}

/// A calendar as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Row id.
    pub id: i64,
    /// What the user said.
    pub definition: CalendarDefinition,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last edited.
    pub updated_at: Timestamp,
    /// Goes up by one with each edit; the `ETag`.
    pub version: i64,
}
