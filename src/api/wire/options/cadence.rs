//! When a schedule fires, beyond its grid: read and written.

use serde_json::{Map, Value, json};

use crate::api::wire::body::Fields;
use crate::domain::cadence::ClockChange;
use crate::domain::calendar::{CalendarMode, CalendarUse, OnExcluded};
use crate::domain::options::{CadenceOptions, ClockChoice, ExcludedChoice};
use crate::domain::spread::JITTER_MAX_MS;

/// The fields read here.
pub(super) const FIELDS: &[&str] =
    &["jitterMs", "calendars", "onExcluded", "clockChange", "queueLimit", "pauseAfterFailures"];

/// Calendars of a schedule at most.
const CALENDARS_MAX: usize = 10;
const QUEUE_LIMIT_MAX: i64 = 10_000;
const FAILURES_MAX: i64 = 1_000;

/// Reads them.
pub(super) fn read(fields: &mut Fields<'_>) -> CadenceOptions {
    let mut options = read_instants(fields);
    let small = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    options.queue_limit = fields.integer("queueLimit", 0..=QUEUE_LIMIT_MAX).map(small);
    options.pause_after_failures =
        fields.integer("pauseAfterFailures", 1..=FAILURES_MAX).map(small);
    options
}

/// Reads those that bear on the instants themselves, which a preview takes too.
pub(crate) fn read_instants(fields: &mut Fields<'_>) -> CadenceOptions {
    let jitter_ms = fields.integer("jitterMs", 0..=JITTER_MAX_MS).filter(|ms| *ms > 0);
    let calendars = read_calendars(fields);
    let on_excluded = fields.word("onExcluded").unwrap_or(OnExcluded::Skip);
    if on_excluded != OnExcluded::Skip
        && calendars.is_empty()
        && fields.value("calendars").is_none()
    {
        let message = "`onExcluded` is about `calendars`; name one, or leave it out";
        fields.fault("onExcluded", "invalid_value", message);
    }
    let clock_change = fields.word("clockChange").unwrap_or(ClockChange::Default);
    let is_cron = fields.value("scheduleType").and_then(Value::as_str) == Some("cron");
    if clock_change != ClockChange::Default && !is_cron {
        let message = "only cron schedules go by a wall clock; leave `clockChange` out";
        fields.fault("clockChange", "invalid_value", message);
    }
    CadenceOptions {
        jitter_ms,
        calendars,
        on_excluded: ExcludedChoice(on_excluded),
        clock_change: ClockChoice(clock_change),
        ..CadenceOptions::default()
    }
}

fn read_calendars(fields: &mut Fields<'_>) -> Vec<CalendarUse> {
    let Some(value) = fields.value("calendars") else { return Vec::new() };
    let Value::Array(items) = value else {
        let message =
            "`calendars` is a list such as [{\"name\": \"holidays\", \"mode\": \"exclude\"}]";
        fields.fault("calendars", "invalid_type", message);
        return Vec::new();
    };
    if items.len() > CALENDARS_MAX {
        let message = format!("a schedule obeys {CALENDARS_MAX} calendars at most");
        fields.fault("calendars", "out_of_range", message);
        return Vec::new();
    }
    let mut uses: Vec<CalendarUse> = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let path = |name: &str| format!("calendars.{place}.{name}");
        let name = item.get("name").and_then(Value::as_str);
        let mode = match item.get("mode") {
            None | Some(Value::Null) => Some(CalendarMode::Exclude),
            Some(word) => word.as_str().and_then(CalendarMode::parse),
        };
        let only_known = item
            .as_object()
            .is_some_and(|object| object.keys().all(|key| key == "name" || key == "mode"));
        if !only_known {
            let message = "a calendar is named so: {\"name\": \"holidays\", \"mode\": \"exclude\"}";
            fields.fault(&format!("calendars.{place}"), "invalid_value", message);
        }
        if mode.is_none() {
            fields.fault(&path("mode"), "invalid_value", "`mode` is include or exclude");
        }
        match name {
            Some(name) if uses.iter().any(|used| used.name == name) => {
                let message = format!("the calendar `{name}` is named twice");
                fields.fault(&path("name"), "invalid_value", message);
            }
            Some(name) => uses.extend(mode.map(|mode| CalendarUse { name: name.to_owned(), mode })),
            None => fields.fault(&path("name"), "required", "`name` is the calendar's name"),
        }
    }
    uses
}

/// Writes them, every field there.
pub(super) fn write(options: &CadenceOptions, body: &mut Map<String, Value>) {
    let fields = [
        ("jitterMs", json!(options.jitter_ms.unwrap_or(0))),
        ("calendars", json!(options.calendars)),
        ("onExcluded", json!(options.on_excluded.0)),
        ("clockChange", json!(options.clock_change.0)),
        ("queueLimit", json!(options.queue_limit)),
        ("pauseAfterFailures", json!(options.pause_after_failures)),
    ];
    body.extend(fields.map(|(name, value)| (name.to_owned(), value)));
}
