//! Rows of the tables of alerts, and how they become values and back.

use std::collections::BTreeMap;

use diesel::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::domain::alert::channel::AlertChannel;
use crate::domain::alert::rule::AlertRule;
use crate::domain::alert::{Alert, AlertState};
use crate::domain::execution::Severity;
use crate::store::AlertDelivery;
use crate::store::op::{OpError, OpResult, corrupt};
use crate::store::schema::{
    alert_channels, alert_deliveries, alert_messages, alert_rules, alert_subjects, alerts,
};
use crate::store::sql_types::{Instant, JsonDoc};

/// A document as a value.
pub(crate) fn read<T: DeserializeOwned>(what: &str, document: Value) -> OpResult<T> {
    serde_json::from_value(document).map_err(|error| corrupt(what, &error.to_string()))
}

/// A value as a document.
pub(crate) fn written<T: Serialize>(value: &T) -> OpResult<JsonDoc> {
    serde_json::to_value(value)
        .map(JsonDoc)
        .map_err(|error| corrupt("document", &error.to_string()))
}

fn severity(word: &str) -> OpResult<Severity> {
    Severity::parse(word).ok_or_else(|| corrupt("severity", word))
}

/// A row of `alert_channels`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = alert_channels)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct ChannelRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) settings: JsonDoc,
    pub(crate) version: i64,
    pub(crate) created_at: Instant,
    pub(crate) updated_at: Instant,
}

impl TryFrom<ChannelRow> for AlertChannel {
    type Error = OpError;

    fn try_from(row: ChannelRow) -> OpResult<Self> {
        Ok(Self {
            id: row.id,
            name: row.name,
            spec: read("channel", row.settings.0)?,
            version: row.version,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

/// A row of `alert_rules`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = alert_rules)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct RuleRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) spec: JsonDoc,
    pub(crate) from_seq: i64,
    pub(crate) version: i64,
    pub(crate) created_at: Instant,
    pub(crate) updated_at: Instant,
}

impl TryFrom<RuleRow> for AlertRule {
    type Error = OpError;

    fn try_from(row: RuleRow) -> OpResult<Self> {
        Ok(Self {
            id: row.id,
            name: row.name,
            enabled: row.enabled,
            spec: read("rule", row.spec.0)?,
            from_seq: row.from_seq,
            version: row.version,
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

/// A row of `alerts`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = alerts)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct AlertRow {
    pub(crate) id: i64,
    #[diesel(embed)]
    pub(crate) values: AlertValues,
}

/// A row of `alerts` but its id.
#[derive(Clone, Debug, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = alerts, treat_none_as_null = true)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct AlertValues {
    pub(crate) rule_id: i64,
    pub(crate) rule_name: String,
    pub(crate) group_key: String,
    pub(crate) state: String,
    pub(crate) severity: String,
    pub(crate) title: String,
    pub(crate) schedule_id: Option<i64>,
    pub(crate) schedule_name: Option<String>,
    pub(crate) count: i64,
    pub(crate) first_at: Instant,
    pub(crate) last_at: Instant,
    pub(crate) raised_at: Option<Instant>,
    pub(crate) due_at: Option<Instant>,
    pub(crate) next_at: Option<Instant>,
    pub(crate) delivered_at: Option<Instant>,
    pub(crate) deliveries: i32,
    pub(crate) held: bool,
    pub(crate) news: bool,
    pub(crate) follows: bool,
    pub(crate) samples: JsonDoc,
    pub(crate) recent: JsonDoc,
    pub(crate) acknowledged_at: Option<Instant>,
    pub(crate) acknowledged_by: Option<String>,
    pub(crate) acknowledge_reason: Option<String>,
    pub(crate) cleared_at: Option<Instant>,
    pub(crate) created_at: Instant,
}

impl AlertValues {
    /// The values of an alert that is to be looked at again at `next_at`.
    pub(crate) fn of(alert: &Alert, next_at: Option<Timestamp>) -> OpResult<Self> {
        let recent: Vec<i64> = alert.recent.iter().map(Timestamp::timestamp_micros).collect();
        Ok(Self {
            rule_id: alert.rule_id,
            rule_name: alert.rule_name.clone(),
            group_key: alert.group_key.clone(),
            state: alert.state.as_str().to_owned(),
            severity: alert.severity.as_str().to_owned(),
            title: alert.title.clone(),
            schedule_id: alert.schedule_id,
            schedule_name: alert.schedule_name.clone(),
            count: alert.count,
            first_at: Instant(alert.first_at),
            last_at: Instant(alert.last_at),
            raised_at: alert.raised_at.map(Instant),
            due_at: alert.due_at.map(Instant),
            next_at: next_at.map(Instant),
            delivered_at: alert.delivered_at.map(Instant),
            deliveries: alert.deliveries,
            held: alert.is_held,
            news: alert.has_news,
            follows: alert.follows,
            samples: written(&alert.samples)?,
            recent: written(&recent)?,
            acknowledged_at: alert.acknowledged_at.map(Instant),
            acknowledged_by: alert.acknowledged_by.clone(),
            acknowledge_reason: alert.acknowledge_reason.clone(),
            cleared_at: alert.cleared_at.map(Instant),
            created_at: Instant(alert.created_at),
        })
    }
}

impl TryFrom<AlertRow> for Alert {
    type Error = OpError;

    fn try_from(row: AlertRow) -> OpResult<Self> {
        let AlertRow { id, values } = row;
        let recent: Vec<i64> = read("instants", values.recent.0)?;
        Ok(Self {
            id,
            rule_id: values.rule_id,
            rule_name: values.rule_name,
            group_key: values.group_key,
            state: AlertState::parse(&values.state)
                .ok_or_else(|| corrupt("state", &values.state))?,
            severity: severity(&values.severity)?,
            title: values.title,
            schedule_id: values.schedule_id,
            schedule_name: values.schedule_name,
            count: values.count,
            first_at: values.first_at.0,
            last_at: values.last_at.0,
            raised_at: values.raised_at.map(|at| at.0),
            due_at: values.due_at.map(|at| at.0),
            delivered_at: values.delivered_at.map(|at| at.0),
            deliveries: values.deliveries,
            is_held: values.held,
            has_news: values.news,
            follows: values.follows,
            samples: read("samples", values.samples.0)?,
            recent: recent.into_iter().filter_map(Timestamp::from_timestamp_micros).collect(),
            acknowledged_at: values.acknowledged_at.map(|at| at.0),
            acknowledged_by: values.acknowledged_by,
            acknowledge_reason: values.acknowledge_reason,
            cleared_at: values.cleared_at.map(|at| at.0),
            created_at: values.created_at.0,
            subjects: BTreeMap::new(),
        })
    }
}

/// A row of `alert_subjects`.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = alert_subjects)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct SubjectRow {
    pub(crate) subject: String,
    pub(crate) alert_id: i64,
    pub(crate) ripe_at: Option<Instant>,
    pub(crate) severity: String,
    pub(crate) sample: JsonDoc,
}

/// A row of `alert_messages`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = alert_messages)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct MessageRow {
    pub(crate) id: i64,
    pub(crate) webhook_id: String,
    pub(crate) kind: String,
    pub(crate) channel_id: i64,
    pub(crate) channel_name: String,
    pub(crate) rule_name: Option<String>,
    pub(crate) body: JsonDoc,
    pub(crate) attempts: i32,
    pub(crate) created_at: Instant,
}

/// A row of `alert_deliveries`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = alert_deliveries)]
#[diesel(check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
pub(crate) struct DeliveryRow {
    pub(crate) id: i64,
    pub(crate) message_id: i64,
    pub(crate) webhook_id: String,
    pub(crate) kind: String,
    pub(crate) channel_name: String,
    pub(crate) rule_name: Option<String>,
    pub(crate) attempt: i32,
    pub(crate) outcome: String,
    pub(crate) status: Option<i32>,
    pub(crate) error: Option<String>,
    pub(crate) started_at: Instant,
    pub(crate) duration_ms: Option<i64>,
    pub(crate) next_attempt_at: Option<Instant>,
}

impl From<DeliveryRow> for AlertDelivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id,
            message_id: row.message_id,
            webhook_id: row.webhook_id,
            kind: row.kind,
            channel_name: row.channel_name,
            rule_name: row.rule_name,
            attempt: row.attempt,
            outcome: row.outcome,
            status: row.status,
            error: row.error,
            started_at: row.started_at.0,
            duration_ms: row.duration_ms,
            next_attempt_at: row.next_attempt_at.map(|at| at.0),
        }
    }
}

impl SubjectRow {
    /// The subject.
    pub(crate) fn subject(self) -> OpResult<(i64, String, crate::domain::alert::Subject)> {
        let subject = crate::domain::alert::Subject {
            ripe_at: self.ripe_at.map(|at| at.0),
            severity: severity(&self.severity)?,
            sample: read("sample", self.sample.0)?,
        };
        Ok((self.alert_id, self.subject, subject))
    }
}
