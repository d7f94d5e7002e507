//! Alert rules and alerts: rules read, both written.

use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use super::body::{Fields, parse_word};
use super::definition::NAME_MAX;
use crate::api::error::ApiError;
use crate::domain::alert::Alert;
use crate::domain::alert::quiet::{QuietHours, TimeOfDay};
use crate::domain::alert::rule::{
    AlertRule, COUNT_MAX, CountWindow, GROUP_WAIT_MAX_MS, GROUP_WAIT_MS, GroupBy, LIST_MAX,
    REPEAT_MIN_MS, REPEAT_MS, RuleSpec, SPAN_MAX_MS,
};
use crate::domain::event::instant_text;
use crate::domain::fault::Fault;
use crate::store::{AlertDelivery, NewAlertRule};

/// The fields of a rule.
const FIELDS: &[&str] = &[
    "name",
    "enabled",
    "on",
    "severities",
    "scheduleIds",
    "tags",
    "count",
    "olderThanMs",
    "groupBy",
    "groupWaitMs",
    "repeatMs",
    "channels",
    "quietHours",
];

/// Reads a rule.
///
/// # Errors
/// 422 with every fault.
pub(crate) fn parse(value: &Value) -> Result<NewAlertRule, ApiError> {
    let mut fields = Fields::of(value, FIELDS, &[])?;
    let name = fields.needed_text("name", NAME_MAX);
    let enabled = fields.flag("enabled").unwrap_or(true);
    let severities = list(&mut fields, "severities", |field, item| match item.as_str() {
        Some(text) => parse_word(field, text),
        None => Err(Fault::new(field, "invalid_type", "a severity is a string")),
    });
    let schedule_ids = list(&mut fields, "scheduleIds", |field, item| {
        let id = item.as_i64().filter(|id| *id > 0);
        id.ok_or_else(|| Fault::new(field, "invalid_type", "a schedule's id is a whole number"))
    });
    let spec = RuleSpec {
        on: list(&mut fields, "on", text_item),
        severities,
        schedule_ids,
        tags: fields.tags("tags"),
        count: read_count(&mut fields),
        older_than_ms: fields.integer("olderThanMs", 1_000..=SPAN_MAX_MS),
        group_by: fields.word("groupBy").unwrap_or(GroupBy::Schedule),
        group_wait_ms: fields
            .integer("groupWaitMs", 0..=GROUP_WAIT_MAX_MS)
            .unwrap_or(GROUP_WAIT_MS),
        repeat_ms: fields.integer("repeatMs", REPEAT_MIN_MS..=SPAN_MAX_MS).unwrap_or(REPEAT_MS),
        channels: list(&mut fields, "channels", text_item),
        quiet_hours: read_quiet(&mut fields),
    };
    for fault in spec.faults() {
        fields.file(fault);
    }
    fields.finish_with(name.map(|name| NewAlertRule { name, enabled, spec }))
}

fn text_item(field: &str, item: &Value) -> Result<String, Fault> {
    let text = item.as_str().filter(|text| !text.is_empty() && text.len() <= NAME_MAX);
    let message = || format!("give a string of 1 to {NAME_MAX} bytes");
    text.map(str::to_owned).ok_or_else(|| Fault::new(field, "invalid_type", message()))
}

/// A list, each entry once.
fn list<T: PartialEq>(
    fields: &mut Fields<'_>,
    name: &str,
    read: impl Fn(&str, &Value) -> Result<T, Fault>,
) -> Vec<T> {
    let Some(value) = fields.value(name) else { return Vec::new() };
    let Some(items) = value.as_array().filter(|items| items.len() <= LIST_MAX) else {
        let message = format!("`{name}` must be a list of at most {LIST_MAX}");
        fields.fault(name, "invalid_type", message);
        return Vec::new();
    };
    let mut entries = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match read(&format!("{name}.{index}"), item) {
            Ok(entry) if entries.contains(&entry) => {}
            Ok(entry) => entries.push(entry),
            Err(fault) => fields.file(fault),
        }
    }
    entries
}

/// Reads an object within the object, its faults under its own path.
fn within<T>(
    fields: &mut Fields<'_>,
    name: &str,
    known: &[&str],
    read: impl Fn(&mut Fields<'_>) -> Option<T>,
) -> Option<T> {
    let value = fields.value(name)?;
    let parsed = Fields::of(value, known, &[]).and_then(|mut inner| {
        let value = read(&mut inner);
        inner.finish_with(value)
    });
    match parsed {
        Ok(value) => Some(value),
        Err(error) => {
            for fault in error.faults() {
                let path = match fault.field.as_str() {
                    "" => name.to_owned(),
                    field => format!("{name}.{field}"),
                };
                fields.fault(&path, fault.code, fault.message.clone());
            }
            None
        }
    }
}

fn read_count(fields: &mut Fields<'_>) -> Option<CountWindow> {
    within(fields, "count", &["atLeast", "withinMs"], |inner| {
        inner.needed("atLeast");
        inner.needed("withinMs");
        let at_least = inner.integer("atLeast", 1..=COUNT_MAX);
        let within_ms = inner.integer("withinMs", 1_000..=SPAN_MAX_MS);
        Some(CountWindow { at_least: at_least?, within_ms: within_ms? })
    })
}

fn read_quiet(fields: &mut Fields<'_>) -> Option<QuietHours> {
    let known = ["from", "to", "timezone", "days", "exceptSeverity"];
    within(fields, "quietHours", &known, |inner| {
        let from = time_of_day(inner, "from");
        let to = time_of_day(inner, "to");
        let zone = inner.needed_text("timezone", NAME_MAX).and_then(|text| {
            let zone = text.parse::<Tz>().ok();
            if zone.is_none() {
                let message = format!("`{text}` is no IANA zone such as Europe/Berlin");
                inner.fault("timezone", "invalid_value", message);
            }
            zone
        });
        let days = list(inner, "days", |field, item| match item.as_str() {
            Some(text) => parse_word(field, text),
            None => Err(Fault::new(field, "invalid_type", "a day is a string such as mon")),
        });
        let except_severity = inner.word("exceptSeverity");
        Some(QuietHours { from: from?, to: to?, timezone: zone?, days, except_severity })
    })
}

fn time_of_day(fields: &mut Fields<'_>, name: &str) -> Option<TimeOfDay> {
    let text = fields.needed_text(name, NAME_MAX)?;
    let time = TimeOfDay::parse(&text);
    if time.is_none() {
        let message = format!("`{name}` must be a time of day such as 22:00");
        fields.fault(name, "invalid_value", message);
    }
    time
}

/// What a client may send of a rule, as it is stored.
fn definition(rule: &AlertRule) -> Map<String, Value> {
    let mut fields = match serde_json::to_value(&rule.spec) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.insert("name".to_owned(), json!(rule.name));
    fields.insert("enabled".to_owned(), json!(rule.enabled));
    fields
}

/// A stored rule with a partial body laid over it.
pub(crate) fn merge(rule: &AlertRule, patch: &Value) -> Value {
    let mut fields = definition(rule);
    match patch {
        Value::Object(patch) => {
            fields.extend(patch.iter().map(|(name, value)| (name.clone(), value.clone())));
            Value::Object(fields)
        }
        other => other.clone(),
    }
}

/// A rule as it is shown.
pub(crate) fn view(rule: &AlertRule) -> Value {
    let mut fields = definition(rule);
    fields.insert("id".to_owned(), json!(rule.id));
    fields.insert("version".to_owned(), json!(rule.version));
    fields.insert("createdAt".to_owned(), json!(instant_text(rule.created_at)));
    fields.insert("updatedAt".to_owned(), json!(instant_text(rule.updated_at)));
    Value::Object(fields)
}

/// An alert as it is shown.
pub(crate) fn alert(alert: &Alert) -> Value {
    json!({
        "id": alert.id,
        "ruleId": alert.rule_id,
        "rule": alert.rule_name,
        "group": alert.group_key,
        "state": alert.state,
        "severity": alert.severity,
        "title": alert.title,
        "scheduleId": alert.schedule_id,
        "scheduleName": alert.schedule_name,
        "count": alert.count,
        "firstAt": instant_text(alert.first_at),
        "lastAt": instant_text(alert.last_at),
        "raisedAt": alert.raised_at.map(instant_text),
        "deliveredAt": alert.delivered_at.map(instant_text),
        "deliveries": alert.deliveries,
        "nextDeliveryAt": alert.due_at.map(instant_text),
        "heldByQuietHours": alert.is_held,
        "acknowledgedAt": alert.acknowledged_at.map(instant_text),
        "acknowledgedBy": alert.acknowledged_by,
        "acknowledgeReason": alert.acknowledge_reason,
        "clearedAt": alert.cleared_at.map(instant_text),
        "samples": alert.samples,
    })
}

/// An attempt to deliver as it is shown.
pub(crate) fn delivery(row: &AlertDelivery) -> Value {
    json!({
        "id": row.id,
        "messageId": row.message_id,
        "webhookId": row.webhook_id,
        "kind": row.kind,
        "channel": row.channel_name,
        "rule": row.rule_name,
        "attempt": row.attempt,
        "outcome": row.outcome,
        "status": row.status,
        "error": row.error,
        "startedAt": instant_text(row.started_at),
        "durationMs": row.duration_ms,
        "nextAttemptAt": row.next_attempt_at.map(instant_text),
    })
}
