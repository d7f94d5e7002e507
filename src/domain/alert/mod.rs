//! Alerts: which facts need a person, when that person is told, and when it is over.
//!
//! A **rule** names the events it looks at; an event that matches is a **sighting**. Sightings of
//! one group are one **alert**, raised when the rule's count or age is reached and delivered after
//! the group wait, out of quiet hours, and again every `repeatMs` while it holds. What keeps it
//! open is its **subjects** (an error, a letter, a paused queue); when the last is over, it clears.
//!
//! All of it is decided by [`plan::Book`], from values alone: what is stored and sent follows it.
//! Guarantees (property tests hold them to a model): an alert that was raised is delivered, quiet
//! hours or not; it is delivered again no sooner than `repeatMs`; count windows are exact.

pub mod channel;
pub mod kinds;
pub mod message;
pub mod plan;
pub mod quiet;
pub mod rule;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::domain::event::{NewEvent, Room, instant_text};
use crate::domain::execution::Severity;
use crate::domain::text_enum;

text_enum! {
    /// Where an alert stands.
    pub enum AlertState {
        /// Its count or its age is not reached; not shown.
        Pending = "pending",
        /// Raised.
        Firing = "firing",
        /// A person knows: it is not repeated.
        Acknowledged = "acknowledged",
        /// Over.
        Cleared = "cleared",
    }
}

/// One fact of an alert, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// The event's number.
    pub seq: i64,
    /// When it happened, as the API writes it.
    pub at: String,
    /// The event's type.
    pub kind: String,
    /// The schedule it speaks of.
    pub schedule_id: Option<i64>,
    /// That schedule's name.
    pub schedule_name: Option<String>,
    /// The execution it speaks of.
    pub execution_id: Option<i64>,
    /// The error it speaks of.
    pub error_id: Option<i64>,
    /// What is wrong, cut to [`kinds::MESSAGE_MAX`] characters.
    pub message: String,
}

/// What keeps an alert open, or will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// When it is old enough to count; `None` when it counts.
    pub ripe_at: Option<Timestamp>,
    /// How bad.
    pub severity: Severity,
    /// What was seen of it.
    pub sample: Sample,
}

/// An alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Row id; 0 until it is stored.
    pub id: i64,
    /// The rule that made it.
    pub rule_id: i64,
    /// That rule's name.
    pub rule_name: String,
    /// Which of the rule's groups it is.
    pub group_key: String,
    /// Where it stands.
    pub state: AlertState,
    /// The worst that was seen.
    pub severity: Severity,
    /// One line for a person.
    pub title: String,
    /// The schedule of its first sighting.
    pub schedule_id: Option<i64>,
    /// That schedule's name.
    pub schedule_name: Option<String>,
    /// Sightings.
    pub count: i64,
    /// The first one.
    pub first_at: Timestamp,
    /// The last one.
    pub last_at: Timestamp,
    /// When it was raised.
    pub raised_at: Option<Timestamp>,
    /// When its next delivery is due.
    pub due_at: Option<Timestamp>,
    /// When it was last delivered.
    pub delivered_at: Option<Timestamp>,
    /// How often it was delivered.
    pub deliveries: i32,
    /// Whether quiet hours hold its delivery back.
    pub is_held: bool,
    /// Whether something was seen since the last delivery.
    pub has_news: bool,
    /// Whether it ever had a subject, so that it clears with the last.
    pub follows: bool,
    /// The newest sightings, newest last.
    pub samples: Vec<Sample>,
    /// While it is pending: when its sightings within the window came.
    pub recent: Vec<Timestamp>,
    /// When a person acknowledged it.
    pub acknowledged_at: Option<Timestamp>,
    /// Who.
    pub acknowledged_by: Option<String>,
    /// Why.
    pub acknowledge_reason: Option<String>,
    /// When it was over.
    pub cleared_at: Option<Timestamp>,
    /// When its first sighting was stored.
    pub created_at: Timestamp,
    /// What keeps it open, by name.
    pub subjects: BTreeMap<String, Subject>,
}

/// An event about an alert: `alert_raised`, `alert_cleared`, `alert_acknowledged`.
#[must_use]
pub fn alert_event(alert: &Alert, event_type: &'static str) -> NewEvent {
    let payload = serde_json::json!({
        "id": alert.id,
        "alertId": alert.id,
        "rule": alert.rule_name,
        "group": alert.group_key,
        "state": alert.state,
        "severity": alert.severity,
        "title": alert.title,
        "count": alert.count,
        "scheduleId": alert.schedule_id,
        "scheduleName": alert.schedule_name,
        "raisedAt": alert.raised_at.map(instant_text),
        "clearedAt": alert.cleared_at.map(instant_text),
        "acknowledgedBy": alert.acknowledged_by,
        "reason": alert.acknowledge_reason,
    });
    NewEvent {
        event_type,
        room: Room::Alerts,
        schedule_id: alert.schedule_id,
        execution_id: None,
        severity: Some(alert.severity),
        tags: Vec::new(),
        owner: None,
        payload: payload.to_string(),
    }
}

#[cfg(test)]
mod plan_tests;
