//! The instants of a schedule as the API speaks of them: the first one, the next few, a preview.

use chrono::TimeDelta;
use serde_json::Value;

use super::body::Fields;
use super::definition::NAME_MAX;
use super::options::cadence::read_instants;
use crate::api::error::ApiError;
use crate::clock::Timestamp;
use crate::domain::cadence::{Cadence, ParseContext};
use crate::domain::fault::Fault;
use crate::domain::options::CadenceOptions;
use crate::domain::schedule::{Schedule, ScheduleDefinition};

/// Instants of a preview at most, and if the client does not say.
const PREVIEW_MAX: i64 = 100;
const PREVIEW_DEFAULT: i64 = 10;

/// The first planned instant of a definition, strictly after `now` and within its bounds. One that
/// runs once may be late by the misfire grace: clients' clocks differ, and it is not missed yet.
/// `settled` is the last instant that has its outcome already, if there is one. A schedule of type
/// `event` has none.
///
/// # Errors
/// The fault of a schedule that would never run.
pub(crate) fn first_run(
    definition: &ScheduleDefinition,
    cadence: &Cadence,
    now: Timestamp,
    settled: Option<Timestamp>,
) -> Result<Option<Timestamp>, Fault> {
    if matches!(cadence, Cadence::Event(_)) {
        return Ok(None);
    }
    let grace = TimeDelta::milliseconds(definition.misfire_grace_ms);
    let mut after = match cadence.grid() {
        Cadence::OneTime(_) => now.checked_sub_signed(grace).unwrap_or(now),
        Cadence::Cron(_) | Cadence::Interval(_) | Cadence::Event(_) | Cadence::Ruled(_) => now,
    };
    after = settled.map_or(after, |settled| settled.max(after));
    if let Some(start) = definition.start_at {
        let before_start = start.checked_sub_signed(TimeDelta::microseconds(1)).unwrap_or(start);
        after = after.max(before_start);
    }
    let first = cadence.next_after(after);
    if let Some(first) = first.filter(|first| definition.end_at.is_none_or(|end| *first <= end)) {
        return Ok(Some(first));
    }
    let (field, code, message) = match cadence.grid() {
        _ if matches!(cadence, Cadence::Ruled(_)) && first.is_none() => (
            "calendars",
            "out_of_range",
            "the schedule would never run: its calendars leave it no instant in ten years",
        ),
        Cadence::OneTime(one) if one.run_at <= after => {
            ("scheduleConfig.runAt", "in_the_past", "this instant has passed; give a later one")
        }
        _ => ("endAt", "out_of_range", "the schedule would never run between startAt and endAt"),
    };
    Err(Fault::new(field, code, message))
}

/// The next `count` planned instants of a stored schedule, the first in any case, the rest up to
/// `until`; none while it is paused. `cadence` is `None` when the stored one cannot be read any
/// more: then the next instant still stands.
pub(crate) fn next_runs(
    schedule: &Schedule,
    cadence: Option<&Cadence>,
    until: Option<Timestamp>,
    count: usize,
) -> Vec<Timestamp> {
    let definition = &schedule.definition;
    let Some(first) = schedule.next_run_at.filter(|_| definition.enabled) else {
        return Vec::new();
    };
    let Some(cadence) = cadence else { return vec![first] };
    let left = definition.max_executions.map(|most| most.saturating_sub(schedule.fired));
    let left = left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(0));
    let bounds = definition.end_at.into_iter().chain(until);
    let until = bounds.min().unwrap_or(Timestamp::MAX_UTC);
    let more = count.min(left).saturating_sub(1);
    let mut runs = vec![first];
    runs.extend(cadence.instants_between(first, until, more));
    runs
}

/// What a preview asks for.
pub(crate) struct Preview {
    /// The grid.
    pub(crate) grid: Cadence,
    /// What is put over it.
    pub(crate) options: CadenceOptions,
    /// Instants strictly after it.
    pub(crate) from: Timestamp,
    /// How many at most.
    pub(crate) count: usize,
}

impl Preview {
    /// Reads a preview's body.
    ///
    /// # Errors
    /// 422 with every fault.
    pub(crate) fn parse(
        value: &Value,
        now: Timestamp,
        default_zone: &str,
    ) -> Result<Self, ApiError> {
        let known = [
            "scheduleType",
            "scheduleConfig",
            "from",
            "count",
            "name",
            "jitterMs",
            "calendars",
            "onExcluded",
            "clockChange",
        ];
        let mut fields = Fields::of(value, &known, &[])?;
        let options = read_instants(&mut fields);
        let name = fields.text("name", NAME_MAX);
        let from = fields.instant("from").unwrap_or(now);
        let count = fields.integer("count", 1..=PREVIEW_MAX).unwrap_or(PREVIEW_DEFAULT);
        let kind = fields.needed_text("scheduleType", 50);
        let config = fields.needed("scheduleConfig");
        let grid = kind.zip(config).and_then(|(kind, config)| {
            let config = Cadence::settled_config(&kind, config, from, name.as_deref());
            let context = ParseContext { created_at: from, default_zone: default_zone.to_owned() };
            fields.take(Cadence::parse(&kind, &config, &context))
        });
        let count = usize::try_from(count).unwrap_or_default();
        fields.finish_with(grid.map(|grid| Self { grid, options, from, count }))
    }
}
