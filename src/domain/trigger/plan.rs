//! What becomes of an event at a schedule that listens: pure.
//!
//! Events are judged one after the other against a [`Listening`], which counts along: what an
//! earlier event of the same transaction took (a place, a dedup key) a later one does not get. What
//! is collected (debounced, batched) is held in the store and judged as a [`Group`].
//!
//! Of one event and one schedule there is one outcome. A group never loses an event: what does not
//! go with this run goes with the next.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::condition::value_at;
use super::rule::EventRule;
use super::{DeliveryOutcome, InboxEvent};
use crate::domain::event::instant_text;
use crate::domain::options::EventOptions;

/// Causes in a row that may set each other off; past it a rule leads back to itself.
pub const DEPTH_MAX: i32 = 100;
/// Events of one run at most.
pub const COLLECTED_MAX: usize = 1_000;
/// Bytes of the payloads of one run; a run takes no more events once they have as many.
pub const COLLECTED_BYTES_MAX: usize = 1024 * 1024;
/// Events that may wait to be collected for one schedule.
pub const HELD_MAX: usize = 10_000;

/// Where a schedule stands while events are judged.
#[derive(Clone, Debug)]
pub struct Listening<'a> {
    /// What it listens to.
    pub rule: &'a EventRule,
    /// How events become runs.
    pub options: &'a EventOptions,
    /// Not paused.
    pub is_enabled: bool,
    /// No run before it.
    pub start_at: Option<DateTime<Utc>>,
    /// No run after it.
    pub end_at: Option<DateTime<Utc>>,
    /// Runs it may still make (`maxExecutions`).
    pub left: Option<i64>,
    /// Rows it may add now (overlap).
    pub room: Option<i64>,
    /// Events that wait to be collected.
    pub held: usize,
    /// Dedup keys that came within the window.
    pub seen: HashSet<String>,
}

/// What becomes of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The outcome.
    pub outcome: DeliveryOutcome,
    /// Its dedup key, hashed.
    pub dedup_hash: Option<String>,
}

/// The dedup key of a payload, hashed: it may be of any size and kind.
#[must_use]
pub fn dedup_hash(options: &EventOptions, payload: &Value) -> Option<String> {
    let value = value_at(payload, options.dedup_key.as_deref()?)?;
    let hash = Sha256::digest(value.to_string());
    Some(hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// Judges one event and counts it.
#[must_use]
pub fn judge(listening: &mut Listening<'_>, event: &InboxEvent, now: DateTime<Utc>) -> Delivery {
    let dedup_hash = dedup_hash(listening.options, &event.payload);
    let outcome = outcome_of(listening, event, dedup_hash.as_deref(), now);
    match outcome {
        DeliveryOutcome::Held => listening.held += 1,
        DeliveryOutcome::Fired => listening.take(),
        _ => return Delivery { outcome, dedup_hash },
    }
    listening.seen.extend(dedup_hash.clone());
    Delivery { outcome, dedup_hash }
}

fn outcome_of(
    listening: &Listening<'_>,
    event: &InboxEvent,
    dedup_hash: Option<&str>,
    now: DateTime<Utc>,
) -> DeliveryOutcome {
    if event.depth > DEPTH_MAX {
        DeliveryOutcome::TooDeep
    } else if !listening.rule.admits(&event.payload) {
        DeliveryOutcome::Filtered
    } else if !listening.is_enabled {
        DeliveryOutcome::Paused
    } else if !listening.is_within(now) {
        DeliveryOutcome::Bounds
    } else if dedup_hash.is_some_and(|hash| listening.seen.contains(hash)) {
        DeliveryOutcome::Deduplicated
    } else if listening.options.collects() {
        if listening.held < HELD_MAX { DeliveryOutcome::Held } else { DeliveryOutcome::Overlap }
    } else if listening.has_room() {
        DeliveryOutcome::Fired
    } else {
        DeliveryOutcome::Overlap
    }
}

impl Listening<'_> {
    /// Whether `startAt`, `endAt` and `maxExecutions` allow a run.
    #[must_use]
    pub fn is_within(&self, now: DateTime<Utc>) -> bool {
        self.start_at.is_none_or(|start| start <= now)
            && self.end_at.is_none_or(|end| now <= end)
            && self.left.is_none_or(|left| left > 0)
    }

    /// Whether overlap allows a run.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.room.is_none_or(|room| room > 0)
    }

    /// Counts a run.
    pub fn take(&mut self) {
        self.room = self.room.map(|room| room - 1);
        self.left = self.left.map(|left| left - 1);
    }
}

/// The events that wait to be collected for one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many.
    pub count: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
    /// When the oldest came.
    pub first_at: DateTime<Utc>,
    /// When the newest came.
    pub last_at: DateTime<Utc>,
}

/// What is to be done with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupDecision {
    /// A run of this many of the oldest, if [`Collected::takes`] lets them.
    Fire(usize),
    /// Not before this instant.
    WaitUntil(DateTime<Utc>),
    /// Until something changes: it is paused, out of bounds, or its earlier run is not over.
    Wait,
}

/// Decides whether a group makes a run now.
#[must_use]
pub fn collect(listening: &Listening<'_>, group: Group, now: DateTime<Utc>) -> GroupDecision {
    let options = listening.options;
    let after = |at: DateTime<Utc>, ms: i64| {
        at.checked_add_signed(TimeDelta::milliseconds(ms)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    };
    let size = options.batch.map_or(COLLECTED_MAX, |batch| {
        usize::try_from(batch.size).unwrap_or(COLLECTED_MAX).min(COLLECTED_MAX)
    });
    let latest = options
        .batch
        .map(|batch| batch.max_wait_ms)
        .or(options.max_wait_ms)
        .map(|wait| after(group.first_at, wait));
    let quiet = options.debounce_ms.map(|wait| after(group.last_at, wait));
    let due = match (latest, quiet) {
        (Some(latest), Some(quiet)) => latest.min(quiet),
        (Some(due), None) | (None, Some(due)) => due,
        // It collects no more: an edit took the policy away.
        (None, None) => now,
    };
    let is_full = group.count >= size || group.bytes >= COLLECTED_BYTES_MAX;
    if !is_full && now < due {
        return GroupDecision::WaitUntil(due);
    }
    if !listening.is_enabled || !listening.is_within(now) || !listening.has_room() {
        return GroupDecision::Wait;
    }
    GroupDecision::Fire(group.count.min(size))
}

/// The events of a run, as they are taken from a group.
#[derive(Clone, Copy, Debug, Default)]
pub struct Collected {
    count: usize,
    bytes: usize,
}

impl Collected {
    /// Whether the next event, of so many bytes, goes with this run; the first always does.
    pub fn takes(&mut self, bytes: usize) -> bool {
        if self.count > 0 && self.bytes + bytes > COLLECTED_BYTES_MAX {
            return false;
        }
        self.count += 1;
        self.bytes += bytes;
        true
    }
}

/// What a task sees: of a schedule that collects, a list, also when one came alone.
#[must_use]
pub fn document_of(events: &[InboxEvent], collects: bool) -> Value {
    let Some(last) = events.last() else { return Value::Null };
    if !collects {
        return last.document();
    }
    json!({
        "name": last.name,
        "kind": last.kind,
        "occurredAt": instant_text(last.occurred_at),
        "depth": events.iter().map(|event| event.depth).max(),
        "count": events.len(),
        "events": events.iter().map(InboxEvent::document).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
