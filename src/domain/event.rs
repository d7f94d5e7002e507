//! An event: a committed fact, numbered.
//!
//! Events are made from the rows they speak of, in the transaction that changes those rows. Names
//! are `noun_past_participle` and are for ever.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::breaker::{Breaker, Transition};
use crate::domain::error_record::{DeadLetter, ErrorRecord, GroupStatus};
use crate::domain::execution::Severity;
use crate::domain::schedule::Schedule;
use crate::domain::text_enum;

text_enum! {
    /// Who an event is for; a session hears the rooms its role may see.
    pub enum Room {
        /// Schedules, executions, errors.
        Tasks = "tasks",
        /// Workflow runs.
        Workflows = "workflows",
        /// Alerts.
        Alerts = "alerts",
        /// The server itself.
        Admin = "admin",
    }
}

/// An event to be appended.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// `execution_created`, `schedule_paused`, ...
    pub event_type: &'static str,
    /// Who it is for.
    pub room: Room,
    /// The schedule it speaks of.
    pub schedule_id: Option<i64>,
    /// The execution (row id) it speaks of.
    pub execution_id: Option<i64>,
    /// The severity it carries.
    pub severity: Option<Severity>,
    /// Labels of what it speaks of, for the rooms `tag:<tag>`.
    pub tags: Vec<String>,
    /// Owner of what it speaks of, for the rooms `owner:<owner>`.
    pub owner: Option<String>,
    /// What a client gets as `payload`: JSON text.
    pub payload: String,
}

/// An event as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number: dense, in commit order.
    pub seq: i64,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Its type.
    pub event_type: String,
    /// Who it is for.
    pub room: Room,
    /// The schedule it speaks of.
    pub schedule_id: Option<i64>,
    /// The execution it speaks of.
    pub execution_id: Option<i64>,
    /// The severity it carries.
    pub severity: Option<Severity>,
    /// Labels, for `tag:` rooms.
    pub tags: Vec<String>,
    /// Owner, for `owner:` rooms.
    pub owner: Option<String>,
    /// The payload as JSON text, ready to be sent.
    pub payload: String,
}

/// An instant as the API writes it: RFC 3339, UTC, milliseconds.
#[must_use]
pub fn instant_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn optional_instant(at: Option<DateTime<Utc>>) -> Value {
    at.map_or(Value::Null, |at| Value::String(instant_text(at)))
}

/// An event about a schedule: `schedule_created`, `_updated`, `_deleted`, `_paused`, `_resumed`.
#[must_use]
pub fn schedule_event(schedule: &Schedule, event_type: &'static str) -> NewEvent {
    let definition = &schedule.definition;
    NewEvent {
        event_type,
        room: Room::Tasks,
        schedule_id: Some(schedule.id),
        execution_id: None,
        severity: None,
        tags: definition.tags.clone(),
        owner: definition.owner.clone(),
        payload: json!({
            "id": schedule.id,
            "scheduleId": schedule.id,
            "name": definition.name,
            "enabled": definition.enabled,
            "nextRunAt": optional_instant(schedule.next_run_at),
            "pausedUntil": optional_instant(schedule.paused_until),
            "pauseReason": schedule.pause_reason,
            "version": schedule.version,
        })
        .to_string(),
    }
}

/// An event of a thing that is neither a schedule's nor an execution's.
#[must_use]
pub fn plain_event(event_type: &'static str, room: Room, payload: Value) -> NewEvent {
    NewEvent {
        event_type,
        room,
        schedule_id: None,
        execution_id: None,
        severity: None,
        tags: Vec::new(),
        owner: None,
        payload: payload.to_string(),
    }
}

/// An event about an error record: `error_recorded`, `error_resolved`, `error_escalated`,
/// `error_ignored`, `error_assigned`, `retry_scheduled`.
#[must_use]
pub fn error_event(record: &ErrorRecord, event_type: &'static str) -> NewEvent {
    NewEvent {
        event_type,
        room: Room::Tasks,
        schedule_id: record.schedule_id,
        execution_id: Some(record.execution_id),
        severity: Some(record.severity),
        tags: Vec::new(),
        owner: None,
        payload: json!({
            "id": record.id,
            "errorId": record.id,
            "executionId": record.execution_id,
            "chainId": record.chain_id,
            "scheduleId": record.schedule_id,
            "scheduleName": record.schedule_name,
            "errorType": record.error_type,
            "severity": record.severity,
            "recoveryStatus": record.recovery_status,
            "message": record.message,
            "fingerprint": record.fingerprint,
            "recoveryAttempts": record.recovery_attempts,
            "maxRetryAttempts": record.max_retry_attempts,
            "nextRetryAt": optional_instant(record.next_retry_at),
            "assignee": record.assignee,
        })
        .to_string(),
    }
}

/// An event about a dead letter: `dead_letter_added`, `_resubmitted`, `_recovered`, `_discarded`.
#[must_use]
pub fn dead_letter_event(letter: &DeadLetter, event_type: &'static str) -> NewEvent {
    NewEvent {
        event_type,
        room: Room::Tasks,
        schedule_id: letter.schedule_id,
        execution_id: None,
        severity: Some(letter.task.severity),
        tags: letter.task.tags.clone(),
        owner: letter.task.owner.clone(),
        payload: json!({
            "id": letter.id,
            "errorId": letter.error_id,
            "chainId": letter.chain_id,
            "scheduleId": letter.schedule_id,
            "scheduleName": letter.schedule_name,
            "cause": letter.cause,
            "fingerprint": letter.fingerprint,
            "status": letter.status,
        })
        .to_string(),
    }
}

/// An event about a breaker: `breaker_opened`, `_half_open`, `_closed`, with the run or the person
/// that changed it, and why they did.
#[must_use]
pub fn breaker_event(
    key: &str,
    breaker: &Breaker,
    transition: Transition,
    (execution_id, by, reason): (Option<i64>, Option<&str>, Option<&str>),
) -> NewEvent {
    NewEvent {
        event_type: transition.to.event_type(),
        room: Room::Tasks,
        schedule_id: None,
        execution_id,
        severity: None,
        tags: Vec::new(),
        owner: None,
        payload: json!({
            "key": key,
            "state": transition.to,
            "previous": transition.from,
            "cause": transition.cause,
            "executionId": execution_id,
            "probeAt": optional_instant(breaker.probe_at),
            "forcedUntil": optional_instant(breaker.forced.as_ref().and_then(|f| f.until)),
            "by": by,
            "reason": reason,
        })
        .to_string(),
    }
}

/// What an event tells of a group of errors.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupFacts<'a> {
    /// Row id.
    pub id: i64,
    /// Equal for the same cause.
    pub fingerprint: &'a str,
    /// Where it stands.
    pub status: GroupStatus,
    /// The errors' kind.
    pub kind: &'a str,
    /// The newest message.
    pub message: &'a str,
    /// Attempts that ended so.
    pub occurrences: i64,
    /// How often it came back.
    pub regressions: i64,
    /// The newest one's schedule.
    pub schedule_id: Option<i64>,
    /// The newest one's row id.
    pub execution_id: i64,
    /// Who resolved it.
    #[serde(rename = "resolvedBy")]
    pub by: Option<&'a str>,
    /// How.
    #[serde(rename = "resolutionNotes")]
    pub notes: Option<&'a str>,
}

/// An event about a group of errors: `error_group_resolved`, `error_regressed`.
#[must_use]
pub fn error_group_event(facts: &GroupFacts<'_>, event_type: &'static str) -> NewEvent {
    NewEvent {
        event_type,
        room: Room::Tasks,
        schedule_id: facts.schedule_id,
        execution_id: Some(facts.execution_id),
        severity: None,
        tags: Vec::new(),
        owner: None,
        payload: serde_json::to_string(facts).unwrap_or_else(|_| "null".to_owned()),
    }
}

/// An event that raises an alert: what grows or fails without a task of its own to show it.
#[must_use]
pub fn alert_event(kind: &'static str, severity: Severity, details: &Value) -> NewEvent {
    NewEvent {
        event_type: "alert_raised",
        room: Room::Alerts,
        schedule_id: None,
        execution_id: None,
        severity: Some(severity),
        tags: Vec::new(),
        owner: None,
        payload: json!({ "kind": kind, "severity": severity, "details": details }).to_string(),
    }
}
