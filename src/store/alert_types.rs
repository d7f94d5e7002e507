//! The values that go into and come out of store operations about alerts.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::alert::AlertState;
use crate::domain::alert::channel::{AlertChannel, ChannelSpec};
use crate::domain::alert::kinds::Step;
use crate::domain::alert::message::Notice;
use crate::domain::alert::rule::{AlertRule, RuleSpec};
use crate::domain::execution::Severity;

/// Channels at most.
pub const ALERT_CHANNELS_MAX: i64 = 100;
/// Rules at most.
pub const ALERT_RULES_MAX: i64 = 200;
/// How long an attempt to deliver may take before another is made.
pub const DELIVERY_LEASE: Duration = Duration::from_secs(20);

/// A rule to be stored.
#[derive(Clone, Debug)]
pub struct NewAlertRule {
    /// Its name.
    pub name: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// What it says.
    pub spec: RuleSpec,
}

/// An edit of a rule.
#[derive(Clone, Debug)]
pub struct AlertRuleChange {
    /// Which.
    pub id: i64,
    /// The version the edit was made from.
    pub expected_version: i64,
    /// What it becomes.
    pub rule: NewAlertRule,
}

/// A channel to be stored.
#[derive(Clone, Debug)]
pub struct NewAlertChannel {
    /// Its name.
    pub name: String,
    /// How and where it delivers.
    pub spec: ChannelSpec,
}

/// The enabled rules as of a stamp, which goes up with every change of a rule.
#[derive(Clone, Debug, Default)]
pub struct AlertRules {
    /// The stamp; 0 before any was read.
    pub stamp: i64,
    /// The rules.
    pub rules: Vec<AlertRule>,
}

/// What a look at the events gave.
#[derive(Clone, Debug)]
pub struct AlertScan {
    /// The rules in force, read anew when the stamp moved.
    pub rules: Arc<AlertRules>,
    /// The stored cursor.
    pub cursor: i64,
    /// The last event that was looked at.
    pub scanned: i64,
    /// What they mean.
    pub steps: Vec<Step>,
    /// Whether there are more events.
    pub has_more: bool,
    /// When an alert must be looked at.
    pub next_at: Option<Timestamp>,
    /// The store's clock.
    pub now: Timestamp,
}

/// What is to become of alerts by some events.
#[derive(Clone, Debug)]
pub struct AlertAdvance {
    /// The cursor that the events follow.
    pub cursor: i64,
    /// The stamp of the rules they were matched with.
    pub stamp: i64,
    /// The last of the events.
    pub to: i64,
    /// What they mean.
    pub steps: Vec<Step>,
}

/// What was done to alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertsDone {
    /// Alerts raised.
    pub raised: u64,
    /// Alerts cleared.
    pub cleared: u64,
    /// Messages made.
    pub messages: u64,
    /// Whether there is more to do now.
    pub has_more: bool,
}

/// Which alerts to list. Pending ones never are.
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    /// In one of these states.
    pub states: Vec<AlertState>,
    /// With one of these severities.
    pub severities: Vec<Severity>,
    /// Of this rule.
    pub rule_id: Option<i64>,
    /// Of this schedule.
    pub schedule_id: Option<i64>,
}

/// A message that is to be delivered now, under a lease.
#[derive(Clone, Debug)]
pub struct ClaimedMessage {
    /// Row id.
    pub id: i64,
    /// Its name for the receiver, the same with every attempt.
    pub webhook_id: String,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// Where to.
    pub channel: AlertChannel,
    /// What it tells.
    pub notice: Notice,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How an attempt to deliver ended.
#[derive(Clone, Debug)]
pub struct DeliveryEnd {
    /// The message.
    pub message_id: i64,
    /// The attempt.
    pub attempt: i32,
    /// Whether it was delivered.
    pub delivered: bool,
    /// What the receiver answered: an HTTP status or a code of SMTP.
    pub status: Option<i32>,
    /// What went wrong.
    pub error: Option<String>,
    /// How long it took, milliseconds.
    pub duration_ms: i64,
    /// When to try again; `None` gives up.
    pub retry_at: Option<Timestamp>,
}

/// A row of the delivery log.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertDelivery {
    /// Row id.
    pub id: i64,
    /// The message.
    pub message_id: i64,
    /// Its name for the receiver.
    pub webhook_id: String,
    /// Why it was sent.
    pub kind: String,
    /// Where to.
    pub channel_name: String,
    /// By which rule.
    pub rule_name: Option<String>,
    /// Which attempt.
    pub attempt: i32,
    /// `sending`, `delivered`, `failed` or `interrupted`.
    pub outcome: String,
    /// What the receiver answered.
    pub status: Option<i32>,
    /// What went wrong.
    pub error: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, milliseconds.
    pub duration_ms: Option<i64>,
    /// When another attempt is made.
    pub next_attempt_at: Option<Timestamp>,
}

/// Which attempts to list.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Of this message.
    pub message_id: Option<i64>,
    /// To this channel.
    pub channel: Option<String>,
    /// That ended so.
    pub outcome: Option<String>,
}
