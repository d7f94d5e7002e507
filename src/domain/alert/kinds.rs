//! Which events rules may look at, what each is about, and which events end it.

use serde_json::Value;

use super::Sample;
use super::rule::{AlertRule, GroupBy};
use crate::domain::event::{Event, instant_text};
use crate::domain::execution::Severity;

/// Characters of a sample's message at most.
pub const MESSAGE_MAX: usize = 500;
/// The severity of events that carry none.
pub const SEVERITY_DEFAULT: Severity = Severity::Medium;

/// A type of event that rules may look at.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What it is about and stays open: a word and the payload's field that names it. `None` for
    /// what is over at once.
    pub subject: Option<(&'static str, &'static str)>,
}

const fn about(name: &'static str, word: &'static str, field: &'static str) -> Kind {
    Kind { name, subject: Some((word, field)) }
}

const fn moment(name: &'static str) -> Kind {
    Kind { name, subject: None }
}

/// Every type of event that rules may look at.
pub const KINDS: &[Kind] = &[
    about("error_recorded", "error", "errorId"),
    about("error_escalated", "error", "errorId"),
    about("error_regressed", "group", "fingerprint"),
    about("dead_letter_added", "letter", "id"),
    about("breaker_opened", "breaker", "key"),
    about("schedule_paused", "schedule", "scheduleId"),
    about("queue_paused", "queue", "queue"),
    moment("execution_failed"),
    moment("execution_timeout"),
    moment("sla_missed"),
    moment("sla_at_risk"),
    moment("actor_failed"),
];

/// Which events end what: their type, and the word and field of the subject.
const ENDS: &[(&str, &str, &str)] = &[
    ("error_resolved", "error", "errorId"),
    ("error_ignored", "error", "errorId"),
    ("error_group_resolved", "group", "fingerprint"),
    ("dead_letter_recovered", "letter", "id"),
    ("dead_letter_discarded", "letter", "id"),
    ("breaker_closed", "breaker", "key"),
    ("schedule_resumed", "schedule", "scheduleId"),
    ("schedule_deleted", "schedule", "scheduleId"),
    ("queue_resumed", "queue", "queue"),
    ("queue_deleted", "queue", "queue"),
];

/// The kind of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Whether an event may matter to any rule: most do not, and are not read further.
#[must_use]
pub fn is_of_interest(event_type: &str) -> bool {
    find(event_type).is_some() || ENDS.iter().any(|(name, _, _)| *name == event_type)
}

/// An event that a rule matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// The rule.
    pub rule_id: i64,
    /// Which of its groups.
    pub group_key: String,
    /// What stays open until another event ends it.
    pub subject: Option<String>,
    /// How bad.
    pub severity: Severity,
    /// When.
    pub at: crate::domain::Timestamp,
    /// What is told of it.
    pub sample: Sample,
}

/// What an event means to alerts.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A rule matched it.
    Seen(Sighting),
    /// It ended a subject.
    Ended {
        /// The subject.
        subject: String,
        /// When.
        at: crate::domain::Timestamp,
    },
}

fn named((word, field): (&str, &str), payload: &Value) -> Option<String> {
    match payload.get(field)? {
        Value::String(text) => Some(format!("{word}:{text}")),
        Value::Number(number) => Some(format!("{word}:{number}")),
        _ => None,
    }
}

/// What an event means to these rules: at most one sighting a rule, then the end of a subject.
#[must_use]
pub fn steps_of(rules: &[AlertRule], event: &Event) -> Vec<Step> {
    let kind = find(&event.event_type);
    let end = ENDS.iter().find(|(name, _, _)| *name == event.event_type);
    let matching: Vec<&AlertRule> =
        rules.iter().filter(|rule| kind.is_some() && matches(rule, event)).collect();
    if matching.is_empty() && end.is_none() {
        return Vec::new();
    }
    let payload: Value = serde_json::from_str(&event.payload).unwrap_or_default();
    let subject = kind.and_then(|kind| kind.subject).and_then(|about| named(about, &payload));
    let seen = matching.into_iter().map(|rule| {
        Step::Seen(Sighting {
            rule_id: rule.id,
            group_key: group_key(rule.spec.group_by, event, &payload),
            subject: subject.clone(),
            severity: event.severity.unwrap_or(SEVERITY_DEFAULT),
            at: event.at,
            sample: sample(event, &payload),
        })
    });
    let ended = end.and_then(|(_, word, field)| named((word, field), &payload));
    let at = event.at;
    seen.chain(ended.map(|subject| Step::Ended { subject, at })).collect()
}

fn matches(rule: &AlertRule, event: &Event) -> bool {
    let spec = &rule.spec;
    let fits = |severity| spec.severities.contains(&severity);
    rule.enabled
        && event.seq > rule.from_seq
        && spec.on.contains(&event.event_type)
        && (spec.severities.is_empty() || event.severity.is_some_and(fits))
        && (spec.schedule_ids.is_empty()
            || event.schedule_id.is_some_and(|id| spec.schedule_ids.contains(&id)))
        && (spec.tags.is_empty() || event.tags.iter().any(|tag| spec.tags.contains(tag)))
}

fn group_key(group_by: GroupBy, event: &Event, payload: &Value) -> String {
    let by_schedule = || event.schedule_id.map(|id| format!("schedule:{id}"));
    let key = match group_by {
        GroupBy::Rule => None,
        GroupBy::Schedule => by_schedule(),
        GroupBy::Fingerprint => named(("fingerprint", "fingerprint"), payload).or_else(by_schedule),
    };
    key.unwrap_or_else(|| "all".to_owned())
}

fn sample(event: &Event, payload: &Value) -> Sample {
    let text = |field: &str| payload.get(field).and_then(Value::as_str).map(str::to_owned);
    let schedule_name = text("scheduleName").or_else(|| {
        let is_schedule = event.event_type.starts_with("schedule_");
        is_schedule.then(|| text("name")).flatten()
    });
    let message = text("message")
        .or_else(|| payload.pointer("/error/message").and_then(Value::as_str).map(str::to_owned))
        .or_else(|| ["cause", "key", "path", "queue", "name"].into_iter().find_map(text))
        .unwrap_or_else(|| event.event_type.replace('_', " "));
    Sample {
        seq: event.seq,
        at: instant_text(event.at),
        kind: event.event_type.clone(),
        schedule_id: event.schedule_id,
        schedule_name,
        execution_id: event.execution_id,
        error_id: payload.get("errorId").and_then(Value::as_i64),
        message: message.chars().take(MESSAGE_MAX).collect(),
    }
}
