//! A rule: what it looks at, when it raises, how it groups, whom it tells.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::kinds;
use super::quiet::QuietHours;
use crate::domain::Timestamp;
use crate::domain::execution::Severity;
use crate::domain::fault::Fault;
use crate::domain::text_enum;

/// The group wait of a rule that does not say, milliseconds.
pub const GROUP_WAIT_MS: i64 = 5_000;
/// The time between repeats of a rule that does not say.
pub const REPEAT_MS: i64 = 4 * 60 * 60 * 1_000;
/// The longest of any of a rule's spans: 30 days.
pub const SPAN_MAX_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// The longest group wait: an hour.
pub const GROUP_WAIT_MAX_MS: i64 = 60 * 60 * 1_000;
/// The shortest time between repeats: a minute.
pub const REPEAT_MIN_MS: i64 = 60_000;
/// Sightings that a count may ask for at most.
pub const COUNT_MAX: i64 = 1_000;
/// Entries of each of a rule's lists at most.
pub const LIST_MAX: usize = 100;

text_enum! {
    /// What sightings have in common that are one alert.
    pub enum GroupBy {
        /// The rule.
        Rule = "rule",
        /// The schedule.
        Schedule = "schedule",
        /// The cause.
        Fingerprint = "fingerprint",
    }
}

/// So many sightings within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountWindow {
    /// How many.
    pub at_least: i64,
    /// Within how many milliseconds; a sighting exactly so old is out.
    pub within_ms: i64,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleSpec {
    /// Types of events it looks at.
    pub on: Vec<String>,
    /// Only events of these severities; empty: of any or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<Severity>,
    /// Only events of these schedules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule_ids: Vec<i64>,
    /// Only events with one of these tags, their schedule's included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Raise only from so many on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<CountWindow>,
    /// Count only what is still open after so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than_ms: Option<i64>,
    /// What makes sightings one alert.
    pub group_by: GroupBy,
    /// From the raise to the first delivery.
    pub group_wait_ms: i64,
    /// From a delivery to the next while it holds.
    pub repeat_ms: i64,
    /// Names of channels.
    pub channels: Vec<String>,
    /// When nobody is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_hours: Option<QuietHours>,
}

impl RuleSpec {
    /// What is wrong with it, every fault. Ranges of numbers are the reader's.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.on.is_empty() {
            faults.push(Fault::new("on", "required", "name at least one type of event"));
        }
        for (index, kind) in self.on.iter().enumerate() {
            let field = format!("on.{index}");
            match kinds::find(kind) {
                None => {
                    let known: Vec<&str> = kinds::KINDS.iter().map(|kind| kind.name).collect();
                    let message = format!("`{kind}` is not one of {}", known.join(", "));
                    faults.push(Fault::new(field, "invalid_value", message));
                }
                Some(kind) if self.older_than_ms.is_some() && kind.subject.is_none() => {
                    let message = format!(
                        "`{}` is over at once and does not grow old; leave `olderThanMs` out",
                        kind.name
                    );
                    faults.push(Fault::new(field, "invalid_value", message));
                }
                Some(_) => {}
            }
        }
        if self.channels.is_empty() {
            faults.push(Fault::new("channels", "required", "name at least one channel"));
        }
        let lengths = [
            ("on", self.on.len()),
            ("severities", self.severities.len()),
            ("scheduleIds", self.schedule_ids.len()),
            ("channels", self.channels.len()),
        ];
        for (field, _) in lengths.into_iter().filter(|(_, length)| *length > LIST_MAX) {
            let message = format!("`{field}` may have {LIST_MAX} entries");
            faults.push(Fault::new(field, "out_of_range", message));
        }
        if self.quiet_hours.as_ref().is_some_and(|quiet| quiet.from == quiet.to) {
            let message = "`from` and `to` are the same; give two times of day";
            faults.push(Fault::new("quietHours.to", "invalid_value", message));
        }
        faults
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// Row id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// What it says.
    pub spec: RuleSpec,
    /// It looks at events after this one.
    pub from_seq: i64,
    /// Goes up with each edit.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last edited.
    pub updated_at: Timestamp,
}

/// Milliseconds as a span.
pub(super) const fn span(millis: i64) -> TimeDelta {
    TimeDelta::milliseconds(millis)
}
