//! What makes a schedule of type `event` fire.
//!
//! An [`EventRule`] is read from `scheduleConfig`; an [`InboxEvent`] is a stored fact that may set
//! schedules off: a chain that ended, a named event that was posted, a webhook that came in. Rules
//! and events meet in [`keys`](InboxEvent::keys): a rule is found under the keys of what it listens
//! to, so that an event costs by who listens to it and not by how many schedules there are.
//!
//! Not here: what becomes of an event at a schedule (`plan`), signatures of webhooks
//! (`domain::webhook`).

mod condition;
mod plan;
mod rule;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

pub use self::condition::{Condition, Operator, PATH_MAX, is_path, value_at};
pub use self::plan::{
    COLLECTED_BYTES_MAX, COLLECTED_MAX, Collected, DEPTH_MAX, Delivery, Group, GroupDecision,
    HELD_MAX, Listening, collect, dedup_hash, document_of, judge,
};
pub use self::rule::{EventRule, EventSource, NAME_MAX, SOURCES_MAX, Selector, is_event_name};
use crate::domain::event::instant_text;
use crate::domain::text_enum;

/// Bytes of an event's payload at most, as JSON text.
pub const PAYLOAD_MAX: usize = 256 * 1024;

text_enum! {
    /// How a chain ended, as rules speak of it.
    pub enum ChainOutcome {
        /// An attempt succeeded.
        Completed = "completed",
        /// The last attempt failed and recovery gave up.
        Failed = "failed",
        /// The last attempt ran longer than its timeout and recovery gave up.
        Timeout = "timeout",
        /// A person or a policy ended it.
        Cancelled = "cancelled",
        /// It left a dead letter, whatever its last attempt ended with.
        Dead = "dead",
    }
}

text_enum! {
    /// Where an event came from.
    pub enum EventKind {
        /// Posted to the API.
        Event = "event",
        /// An attempt ended.
        Execution = "execution",
        /// A webhook came in.
        Webhook = "webhook",
    }
}

text_enum! {
    /// What became of an event at a schedule.
    pub enum DeliveryOutcome {
        /// It made an execution, alone or with others.
        Fired = "fired",
        /// It waits to be collected with others.
        Held = "held",
        /// One with the same key came within the window.
        Deduplicated = "deduplicated",
        /// A condition did not hold.
        Filtered = "filtered",
        /// Earlier runs still waited or ran, or too many events were held.
        Overlap = "overlap",
        /// The schedule was paused.
        Paused = "paused",
        /// It lies outside `startAt`, `endAt` or `maxExecutions`.
        Bounds = "bounds",
        /// Its chain of causes is too long.
        TooDeep = "too_deep",
        /// The schedule was deleted while it waited.
        Deleted = "deleted",
    }
}

/// An attempt's end, as rules speak of it: what it is to those who listen to chains, and whether
/// it is only one for those who listen to attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOfAttempt {
    /// `Completed`, `Failed`, `Timeout` or `Cancelled`.
    pub outcome: ChainOutcome,
    /// The chain is over.
    pub is_final: bool,
    /// It left a dead letter.
    pub is_dead: bool,
}

impl EndOfAttempt {
    /// The words under which rules may listen to it.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        let mut words = Vec::with_capacity(3);
        match self.outcome {
            ChainOutcome::Failed => words.push("attempt-failed"),
            ChainOutcome::Timeout => words.push("attempt-timeout"),
            ChainOutcome::Completed | ChainOutcome::Cancelled | ChainOutcome::Dead => {}
        }
        if self.is_final {
            words.push(self.outcome.as_str());
        }
        if self.is_dead {
            words.push(ChainOutcome::Dead.as_str());
        }
        words
    }
}

/// Whose attempt ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// How.
    pub end: EndOfAttempt,
    /// Row id of its schedule.
    pub schedule_id: Option<i64>,
    /// Its schedule's name when the row was made.
    pub schedule_name: Option<&'a str>,
    /// Its labels.
    pub tags: &'a [String],
}

impl Ended<'_> {
    /// The keys under which rules that listen to it are found.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let id = self.schedule_id.map(|id| format!("id:{id}"));
        let name = self.schedule_name.map(|name| format!("name:{name}"));
        let tags = self.tags.iter().map(|tag| format!("tag:{tag}"));
        let whose: Vec<String> = id.into_iter().chain(name).chain(tags).collect();
        let words = self.end.words();
        words.iter().flat_map(|word| whose.iter().map(move |of| format!("x:{word}:{of}"))).collect()
    }
}

/// An event as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxEvent {
    /// Row id.
    pub id: i64,
    /// Where it came from.
    pub kind: EventKind,
    /// `orders.created`, `execution.completed`, `webhook.github`.
    pub name: String,
    /// The keys under which its listeners are found.
    pub keys: Vec<String>,
    /// What it tells.
    pub payload: Value,
    /// How many causes came before it.
    pub depth: i32,
    /// W3C `traceparent` of its cause.
    pub traceparent: Option<String>,
    /// Who posted it.
    pub created_by: Option<String>,
    /// What its sender calls it; unique for its name.
    pub dedup_key: Option<String>,
    /// When it happened, as its sender says.
    pub occurred_at: DateTime<Utc>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it was given to those who listen.
    pub handled_at: Option<DateTime<Utc>>,
}

impl InboxEvent {
    /// Bytes of its payload as JSON text.
    #[must_use]
    pub fn size(&self) -> usize {
        self.payload.to_string().len()
    }

    /// What a task sees of it.
    #[must_use]
    pub fn document(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "occurredAt": instant_text(self.occurred_at),
            "payload": self.payload,
            "depth": self.depth,
        })
    }
}

/// The keys of a named event: its name, and every beginning of it for rules that end in `*`.
#[must_use]
pub fn keys_of_name(name: &str) -> Vec<String> {
    let beginnings = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    let beginnings = beginnings.filter_map(|at| name.get(..at)).map(|start| format!("e*:{start}"));
    std::iter::once(format!("e:{name}")).chain(beginnings).collect()
}

/// The keys of a webhook's event.
#[must_use]
pub fn keys_of_webhook(name: &str) -> Vec<String> {
    let mut keys = keys_of_name(&format!("webhook.{name}"));
    keys.push(format!("w:{name}"));
    keys
}

/// How deep the cause of an execution lies, read from what set it off.
#[must_use]
pub fn depth_of(event: Option<&Value>) -> i32 {
    let depth = event.and_then(|event| event.get("depth")).and_then(Value::as_i64);
    depth.and_then(|depth| i32::try_from(depth).ok()).unwrap_or(0)
}
