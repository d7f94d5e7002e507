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
//! - Clock changes follow the rules stated in [`cron`].
//! - What a calendar or the clock-change policy takes away ([`Cadence::left_out`]) and what is
//!   planned make up the grid, each instant once.
//!
//! Schedules of type `event` have no instants; what fires them is in [`crate::domain::trigger`].
//! Deliberately not here: jitter, which moves a start and not an instant
//! ([`crate::domain::spread`]).

mod config;
mod cron;
mod days;
mod describe;
mod expression;
mod fields;
mod hashed;
mod interval;
mod plain;
mod ruled;
mod term;
pub(in crate::domain) mod zone;

#[cfg(test)]
mod cron_tests;

use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};

pub use self::config::ParseContext;
pub use self::cron::CronCadence;
pub use self::interval::{INTERVAL_MAX_MS, INTERVAL_MIN_MS, IntervalCadence};
pub use self::ruled::{CalendarRule, RuledCadence, SHIFT_DAYS, SHIFT_GRID_MAX};
use crate::domain::calendar::OnExcluded;
use crate::domain::fault::Fault;
use crate::domain::schedule::LedgerRange;
use crate::domain::trigger::EventRule;
use crate::domain::{Timestamp, text_enum};

/// Seconds of the first look back from now for the newest instant; quadrupled while in vain.
const LOOK_BACK: i64 = 60;

text_enum! {
    /// What a clock change does to a cron schedule.
    pub enum ClockChange {
        /// Fixed times run once, wildcard minutes whenever they are shown: see [`cron`].
        Default = "default",
        /// A time runs where the clock shows it, at its first coming; one that the clock jumps over
        /// does not run.
        Skip = "skip",
        /// Every time runs once: one that the clock jumps over at the first instant after it.
        RunOnce = "run_once",
    }
}

/// When a schedule is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cadence {
    /// A cron expression on the wall clock of a zone.
    Cron(CronCadence),
    /// An exact grid.
    Interval(IntervalCadence),
    /// One instant.
    OneTime(OneTimeCadence),
    /// One of these under calendars.
    Ruled(Box<RuledCadence>),
    /// No instants: it fires on events.
    Event(EventRule),
}

/// One instant, due once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneTimeCadence {
    /// When it is due; cut to milliseconds.
    pub run_at: Timestamp,
}

/// The first instant at which a wall clock in `zone` shows `wall` or a later time.
pub(in crate::domain) fn first_reach(
    zone: chrono_tz::Tz,
    wall: chrono::NaiveDateTime,
) -> Option<Timestamp> {
    let seconds = zone::Zone(zone).first_reach(wall.and_utc().timestamp());
    Timestamp::from_timestamp(seconds, 0)
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

    /// True when a configuration has an `H` or is spread, and so needs a key.
    #[must_use]
    pub fn needs_key(config: &Value) -> bool {
        config::needs_key(config)
    }

    /// The configuration with what it leaves to its surroundings filled in, so that it depends on
    /// nothing but itself: an interval's anchor, and the key of `H` and `spread`.
    #[must_use]
    pub fn settled_config(
        schedule_type: &str,
        config: &Value,
        anchor: Timestamp,
        name: Option<&str>,
    ) -> Value {
        let mut config = config.clone();
        let needs_key = config::needs_key(&config);
        if let Value::Object(object) = &mut config {
            let is_absent = |field: &Value| field.is_null();
            if schedule_type == "interval" && object.get("anchor").is_none_or(is_absent) {
                let anchor = anchor.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
                object.insert("anchor".to_owned(), json!(anchor));
            }
            if let Some(name) = name.filter(|_| needs_key)
                && object.get("hashKey").is_none_or(is_absent)
            {
                object.insert("hashKey".to_owned(), json!(name));
            }
        }
        config
    }

    /// The cadence with another word on clock changes; only cron has any.
    #[must_use]
    pub fn with_clock_change(mut self, clock_change: ClockChange) -> Self {
        if let Self::Cron(cron) = &mut self {
            cron.clock_change = clock_change;
        }
        self
    }

    /// The cadence under calendars; itself without any. What is moved keeps the local time of the
    /// cron expression's zone, or else of the first calendar's.
    #[must_use]
    pub fn under(self, rules: Vec<CalendarRule>, on_excluded: OnExcluded) -> Self {
        let Some(first) = rules.first() else { return self };
        let zone = match &self {
            Self::Cron(cron) => cron.zone,
            Self::Interval(_) | Self::OneTime(_) | Self::Event(_) | Self::Ruled(_) => {
                first.coverage.zone()
            }
        };
        Self::Ruled(Box::new(RuledCadence { grid: self, rules, on_excluded, zone }))
    }

    /// The cadence without its calendars.
    #[must_use]
    pub fn grid(&self) -> &Self {
        match self {
            Self::Ruled(ruled) => &ruled.grid,
            Self::Cron(_) | Self::Interval(_) | Self::OneTime(_) | Self::Event(_) => self,
        }
    }

    /// What calendars and the clock-change policy take away in `(after, until]`: at most a range
    /// for all calendars, and one or two for each clock change.
    #[must_use]
    pub fn left_out(&self, after: Timestamp, until: Timestamp) -> Vec<LedgerRange> {
        match self {
            _ if until <= after => Vec::new(),
            Self::Cron(cron) => cron.left_out(after, until),
            Self::Interval(_) | Self::OneTime(_) | Self::Event(_) => Vec::new(),
            Self::Ruled(ruled) => {
                let mut ranges = ruled.grid.left_out(after, until);
                ranges.extend(ruled.left_out(after, until));
                ranges
            }
        }
    }

    /// True when [`Cadence::left_out`] can ever have an answer.
    #[must_use]
    pub fn leaves_out(&self) -> bool {
        match self {
            Self::Cron(cron) => cron.clock_change != ClockChange::Default,
            Self::Interval(_) | Self::OneTime(_) | Self::Event(_) => false,
            Self::Ruled(_) => true,
        }
    }

    /// The first due instant strictly after `after`; `None` when there is none up to the year 9999.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => cron.next_after(after),
            Self::Interval(interval) => interval.next_after(after),
            Self::OneTime(one) => (one.run_at > after).then_some(one.run_at),
            Self::Ruled(ruled) => ruled.next_after(after),
            Self::Event(_) => None,
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
        if let Self::Ruled(ruled) = self {
            return ruled.instants(after_exclusive, until_inclusive, limit);
        }
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
            Self::Ruled(ruled) => ruled.count_between(after_exclusive, until_inclusive),
            Self::Event(_) => 0,
        }
    }

    /// The newest due instant in `[not_before, at]`; some tens of microseconds for any span.
    #[must_use]
    pub fn last_at_or_before(&self, at: Timestamp, not_before: Timestamp) -> Option<Timestamp> {
        let newest = match self {
            Self::Cron(cron) => last_cron(cron, at, not_before)?,
            Self::Interval(interval) => interval.last_at_or_before(at)?,
            Self::OneTime(one) => one.run_at,
            Self::Ruled(ruled) => ruled.last_at_or_before(at, not_before)?,
            Self::Event(_) => return None,
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
