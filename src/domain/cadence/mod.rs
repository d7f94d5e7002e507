//! When a schedule is due.
//!
//! A [`Cadence`] is parsed from `scheduleType` and `scheduleConfig` and then answers by pure
//! arithmetic: the next instant, the instants or their number within a span, the newest one before
//! an instant. It knows nothing of what ran, of missed runs or of bounds (see
//! [`crate::domain::misfire`]).
//!
//! Guarantees, each with tests:
//! - [`Cadence::next_after`] is strictly after what was asked, and strictly increases.
//! - `count_between`, `instants_between` and `last_at_or_before` agree with repeated `next_after`;
//!   counting and looking back cost the same after a minute's outage and after a year's.
//! - Clock changes follow two rules, stated in [`cron`].
//!
//! Deliberately not here: events (`scheduleType` `event`), calendars of holidays, jitter.

mod config;
mod cron;
mod days;
mod describe;
mod expression;
mod fields;
mod interval;
mod plain;
mod term;
mod zone;

#[cfg(test)]
mod cron_tests;

use chrono::{DateTime, TimeDelta};
use serde_json::Value;

pub use self::config::ParseContext;
pub use self::cron::CronCadence;
pub use self::interval::{INTERVAL_MAX_MS, INTERVAL_MIN_MS, IntervalCadence};
use crate::domain::Timestamp;
use crate::domain::fault::Fault;

/// Seconds of the first look back from now for the newest instant; quadrupled while in vain.
const LOOK_BACK: i64 = 60;

/// When a schedule is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cadence {
    /// A cron expression on the wall clock of a zone.
    Cron(CronCadence),
    /// An exact grid.
    Interval(IntervalCadence),
    /// One instant.
    OneTime(OneTimeCadence),
}

/// One instant, due once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneTimeCadence {
    /// When it is due; cut to milliseconds.
    pub run_at: Timestamp,
}

impl Cadence {
    /// Parses `scheduleType` and `scheduleConfig`.
    ///
    /// # Errors
    /// Every fault found, with dotted paths such as `scheduleConfig.cron`.
    pub fn parse(
        schedule_type: &str,
        config: &Value,
        context: &ParseContext,
    ) -> Result<Self, Vec<Fault>> {
        config::parse(schedule_type, config, context)
    }

    /// The first due instant strictly after `after`; `None` when there is none up to the year 9999.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => cron.next_after(after),
            Self::Interval(interval) => interval.next_after(after),
            Self::OneTime(one) => (one.run_at > after).then_some(one.run_at),
        }
    }

    /// The due instants in `(after_exclusive, until_inclusive]`, oldest first, at most `limit`.
    #[must_use]
    pub fn instants_between(
        &self,
        after_exclusive: Timestamp,
        until_inclusive: Timestamp,
        limit: usize,
    ) -> Vec<Timestamp> {
        let next = |after: Timestamp| self.next_after(after).filter(|due| *due <= until_inclusive);
        std::iter::successors(next(after_exclusive), |due| next(*due)).take(limit).collect()
    }

    /// How many due instants lie in `(after_exclusive, until_inclusive]`. Costs by the span's
    /// months and clock changes, not by the number of instants.
    #[must_use]
    pub fn count_between(&self, after_exclusive: Timestamp, until_inclusive: Timestamp) -> u64 {
        if until_inclusive <= after_exclusive {
            return 0;
        }
        match self {
            Self::Cron(cron) => cron.count_between(after_exclusive, until_inclusive),
            Self::Interval(interval) => interval.count_between(after_exclusive, until_inclusive),
            Self::OneTime(one) => {
                u64::from(one.run_at > after_exclusive && one.run_at <= until_inclusive)
            }
        }
    }

    /// The newest due instant in `[not_before, at]`; some tens of microseconds for any span.
    #[must_use]
    pub fn last_at_or_before(&self, at: Timestamp, not_before: Timestamp) -> Option<Timestamp> {
        let newest = match self {
            Self::Cron(cron) => last_cron(cron, at, not_before)?,
            Self::Interval(interval) => interval.last_at_or_before(at)?,
            Self::OneTime(one) => one.run_at,
        };
        (newest >= not_before && newest <= at).then_some(newest)
    }

    /// The cadence in plain English, such as `Every day at 02:00 (Europe/Berlin)`.
    #[must_use]
    pub fn describe(&self) -> String {
        describe::describe(self)
    }
}

/// Halves the span by whether anything is due in its newer part: about log2(seconds) steps.
fn last_cron(cron: &CronCadence, at: Timestamp, not_before: Timestamp) -> Option<Timestamp> {
    let due_after = |seconds: i64| {
        let after = DateTime::from_timestamp(seconds, 0)?;
        cron.next_after(after).filter(|due| *due <= at)
    };
    let before = not_before.checked_sub_signed(TimeDelta::microseconds(1))?;
    let first = cron.next_after(before).filter(|due| *due <= at)?;
    // From here on something is due after `low` and nothing after `high`.
    let (mut low, mut high) = (first.timestamp(), at.timestamp());
    if due_after(low).is_none() {
        return Some(first);
    }
    // The newest is usually near `at`: widen from there before halving.
    let mut reach = LOOK_BACK;
    while high - low > reach {
        if due_after(high - reach).is_some() {
            low = high - reach;
        } else {
            high -= reach;
        }
        reach = reach.saturating_mul(4);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if due_after(middle).is_some() {
            low = middle;
        } else {
            high = middle;
        }
    }
    due_after(low)
}
