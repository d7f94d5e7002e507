//! The values of store operations about events that set schedules off, and about webhooks.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::execution::Execution;
use crate::domain::trigger::{DeliveryOutcome, EventKind, InboxEvent};
use crate::domain::webhook::{Scheme, WebhookSecret};
use crate::store::{ClaimHere, Idempotency};

/// An event to be stored.
#[derive(Clone, Debug)]
pub struct NewInboxEvent {
    /// Where it came from.
    pub kind: EventKind,
    /// Its name.
    pub name: String,
    /// What it tells.
    pub payload: Value,
    /// What its sender calls it: another one of this name and key is the same event.
    pub dedup_key: Option<String>,
    /// When it happened; when it is stored, if the sender does not say.
    pub occurred_at: Option<DateTime<Utc>>,
    /// W3C `traceparent` of the request.
    pub traceparent: Option<String>,
    /// Who posted it.
    pub created_by: Option<String>,
}

/// A posted event, given to those who listen in the transaction that stores it.
pub struct EventPost {
    /// The event.
    pub event: NewInboxEvent,
    /// Claim here what it makes.
    pub claim: Option<ClaimHere>,
    /// At most once for a key.
    pub idempotency: Option<Idempotency<Posted>>,
}

/// What became of a posted event.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The event, or the one that was there under its key.
    pub event: InboxEvent,
    /// It was there before, and nothing was made.
    pub is_old: bool,
    /// What became of it at each schedule that listens.
    pub deliveries: Vec<DeliveryRow>,
    /// What it made; those claimed here are `running`.
    pub executions: Vec<Execution>,
}

/// What became of an event at a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Row id.
    pub id: i64,
    /// The event.
    pub event_id: i64,
    /// The schedule.
    pub schedule_id: i64,
    /// The replay it belongs to; empty for the first delivery.
    pub replay: String,
    /// What became of it.
    pub outcome: DeliveryOutcome,
    /// The execution it went into.
    pub execution_id: Option<i64>,
    /// When.
    pub at: DateTime<Utc>,
}

/// What a pass over the inbox did.
#[derive(Clone, Debug, Default)]
pub struct Dispatched {
    /// Every row made; those claimed here are `running`.
    pub executions: Vec<Execution>,
    /// What became of each event.
    pub deliveries: Vec<DeliveryRow>,
    /// When the next collected events are due.
    pub next_due: Option<DateTime<Utc>>,
    /// There may be more to do at once.
    pub more: bool,
}

/// Which stored events to list; `None` means any.
#[derive(Clone, Debug, Default)]
pub struct InboxFilter {
    /// Of this name, or of names that begin so when it ends in `*`.
    pub name: Option<String>,
    /// From there.
    pub kind: Option<EventKind>,
}

/// Past events that are to set a schedule off again.
pub struct ReplayRequest {
    /// Which schedule.
    pub schedule_id: i64,
    /// Events stored from here ...
    pub from: DateTime<Utc>,
    /// ... to here, both included.
    pub to: DateTime<Utc>,
    /// Only of this name.
    pub name: Option<String>,
    /// Say what would be made, and make nothing.
    pub is_dry_run: bool,
    /// Claim here what it makes.
    pub claim: Option<ClaimHere>,
    /// At most once for a key.
    pub idempotency: Option<Idempotency<Replayed>>,
}

/// What a replay did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// Names the replay among the deliveries.
    pub replay: String,
    /// Stored events that the schedule listens to and whose conditions hold.
    pub events: Vec<InboxEvent>,
    /// Runs that they make together.
    pub runs: usize,
    /// The rows made.
    pub executions: Vec<Execution>,
    /// Events left out because earlier runs wait or run.
    pub overlapped: usize,
}

/// Events of one replay at most.
pub const REPLAY_MAX: usize = 1_000;

/// A webhook as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRow {
    /// Row id.
    pub id: i64,
    /// Its public id, part of its address.
    pub hook_id: Uuid,
    /// Its name; its events are `webhook.<name>`.
    pub name: String,
    /// How its sender proves itself.
    pub scheme: Scheme,
    /// What proves it, newest first.
    pub secrets: Vec<WebhookSecret>,
    /// False refuses what comes in.
    pub enabled: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A webhook to be stored.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Its name.
    pub name: String,
    /// How its sender proves itself.
    pub scheme: Scheme,
    /// What proves it, as it is stored.
    pub secret: String,
}

/// A change of a webhook.
#[derive(Clone, Debug)]
pub enum WebhookChange {
    /// Let in or refuse what comes.
    SetEnabled(bool),
    /// Another secret; the old ones work until then.
    Rotate {
        /// The new one, as it is stored.
        secret: String,
        /// The last instant of the old ones.
        old_until: DateTime<Utc>,
    },
}

/// What came in by a webhook.
#[derive(Clone, Debug)]
pub struct InboundRequest {
    /// Row id of the webhook.
    pub webhook_id: i64,
    /// The sender's id for it.
    pub message_id: Option<String>,
    /// Bytes of the body.
    pub size: i64,
    /// What was wrong; `None` when it is let in.
    pub refused: Option<&'static str>,
    /// The event it makes when it is let in.
    pub event: NewInboxEvent,
    /// Claim here what it makes.
    pub claim: Option<ClaimHere>,
}

/// What became of a request that was let in.
#[derive(Clone, Debug)]
pub enum Received {
    /// It made an event.
    Accepted(Box<Posted>),
    /// Its id was there before; the event it made then.
    Duplicate(Option<i64>),
    /// It was noted as refused.
    Refused,
}

/// A line of a webhook's delivery log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundRow {
    /// Row id.
    pub id: i64,
    /// The sender's id for it.
    pub message_id: Option<String>,
    /// `accepted`, `duplicate`, `disabled` or what was wrong.
    pub outcome: String,
    /// The event it made.
    pub event_id: Option<i64>,
    /// Bytes of the body.
    pub size: i64,
    /// When it came.
    pub at: DateTime<Utc>,
}
