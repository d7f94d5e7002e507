//! Instants in requests: RFC 3339 with any offset, in the years that both stores can keep.

use chrono::{DateTime, Datelike, SubsecRound, Utc};

use crate::clock::Timestamp;

/// Years that are taken.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;

/// Reads an instant, cut to microseconds.
pub(crate) fn parse_instant(text: &str) -> Option<Timestamp> {
    let instant = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    YEARS.contains(&instant.year()).then(|| instant.trunc_subsecs(6))
}
