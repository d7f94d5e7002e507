//! What needs a person now, in the order in which a person should look at it, each with what cures
//! it.
//!
//! A pure function from facts to a ranked list: worst first, then by kind, then oldest first, then
//! by subject, so that two calls over the same facts give the same list. Each item has at least one
//! action, which is a route of the API.
//!
//! Deliberately not here: where the facts come from, and alerts (this list is asked for).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::event::instant_text;
use crate::domain::execution::Severity;
use crate::domain::text_enum;

mod facts;
mod failures;

pub use facts::*;

/// Items of an answer at most; what is left out is the least urgent, and said so.
pub const ITEMS_MAX: usize = 200;
/// Restarts within the actor's own window that are worth a look.
const RESTARTS_MANY: u64 = 3;
/// Waiting for longer than this is more than a nuisance.
const WAITING_LONG: TimeDelta = TimeDelta::hours(1);
/// Characters of a message in a detail.
const MESSAGE_MAX: usize = 300;

text_enum! {
    /// What is the matter; in the order in which items of one severity stand.
    pub enum AttentionKind {
        /// A part does not work.
        Health = "health",
        /// Nothing fires.
        SchedulerStopped = "scheduler_stopped",
        /// A task ends the node that runs it.
        PoisonTask = "poison_task",
        /// A part of the server failed, was stopped, or restarts often.
        Actor = "actor",
        /// A node went away without a word.
        NodeLost = "node_lost",
        /// What a target is asked for is held back.
        BreakerOpen = "breaker_open",
        /// A schedule fails so often that it was paused.
        SchedulePausedByFailures = "schedule_paused_by_failures",
        /// A schedule should have fired and did not.
        ScheduleOverdue = "schedule_overdue",
        /// A cause that somebody said was cured came back.
        ErrorRegressed = "error_regressed",
        /// More chains are given up than is usual.
        DeadLettersGrowing = "dead_letters_growing",
        /// Chains failed and nothing more is tried.
        Error = "error",
        /// Chains were given up, and their errors are settled or gone.
        DeadLetter = "dead_letter",
        /// Executions wait though their instant has passed.
        ExecutionWaiting = "execution_waiting",
        /// Processes stand still by a person's word.
        ExecutionPaused = "execution_paused",
    }
}

/// What an item is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Subject {
    /// `error`, `schedule`, `execution`, `actor`, `node`, ...
    pub kind: &'static str,
    /// Its id or name.
    pub id: String,
    /// Where it is read.
    pub href: String,
}

/// A request that a person may send.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Action {
    /// What it does, for a button.
    pub label: String,
    /// `POST`, `GET`, ...
    pub method: &'static str,
    /// The path, ready to be sent.
    pub path: String,
    /// The body, when one is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

impl Action {
    fn post(label: &str, path: String) -> Self {
        Self { label: label.to_owned(), method: "POST", path, body: None }
    }

    fn get(label: &str, path: String) -> Self {
        Self { label: label.to_owned(), method: "GET", path, body: None }
    }

    fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

/// One thing that needs a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What is the matter.
    pub kind: AttentionKind,
    /// How bad.
    pub severity: Severity,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// One line.
    pub title: String,
    /// What a person should know before acting.
    pub detail: String,
    /// What it is about.
    pub subject: Subject,
    /// How many of it there are.
    pub count: u64,
    /// What cures it, the likeliest first.
    pub actions: Vec<Action>,
}

impl Item {
    /// As the API shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "kind": self.kind,
            "severity": self.severity,
            "since": self.since.map(instant_text),
            "title": self.title,
            "detail": self.detail,
            "subject": self.subject,
            "count": self.count,
            "actions": self.actions,
        })
    }
}

/// The ranked list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attention {
    /// Worst first, at most [`ITEMS_MAX`].
    pub items: Vec<Item>,
    /// Less urgent items were left out, or facts were cut at their limit.
    pub truncated: bool,
}

/// Ranks what the facts say.
#[must_use]
pub fn rank(facts: &Facts) -> Attention {
    let mut items = Vec::new();
    items.extend(facts.health.iter().map(health_item));
    items.extend(scheduler_item(facts));
    items.extend(facts.actors.iter().filter_map(actor_item));
    items.extend(lost_nodes(facts));
    items.extend(facts.breakers.iter().map(failures::breaker_item));
    items.extend(facts.paused_by_failures.iter().map(paused_schedule_item));
    items.extend(overdue_items(facts));
    items.extend(failures::growth_item(facts));
    items.extend(failures::error_items(facts));
    items.extend(failures::letter_items(facts));
    items.extend(waiting_items(facts));
    items.extend(facts.paused.iter().map(|one| paused_item(one, facts)));
    items.sort_by(|left, right| key(left).cmp(&key(right)));
    let truncated = facts.truncated || items.len() > ITEMS_MAX;
    items.truncate(ITEMS_MAX);
    Attention { items, truncated }
}

type Key<'a> =
    (std::cmp::Reverse<Severity>, AttentionKind, bool, Option<DateTime<Utc>>, &'a Subject);

/// Worst first, then by kind, then oldest first (those of no known age last), then by subject.
fn key(item: &Item) -> Key<'_> {
    let ageless = item.since.is_none();
    (std::cmp::Reverse(item.severity), item.kind, ageless, item.since, &item.subject)
}

fn health_item(part: &PartFact) -> Item {
    let severity = if part.is_down { Severity::Critical } else { Severity::High };
    let state = if part.is_down { "down" } else { "degraded" };
    Item {
        kind: AttentionKind::Health,
        severity,
        since: None,
        title: format!("{} is {state}", part.name),
        detail: part.detail.clone().unwrap_or_else(|| "no more is known".to_owned()),
        subject: Subject { kind: "part", id: part.name.clone(), href: "/api/v1/health".to_owned() },
        count: 1,
        actions: vec![Action::get("Look at every part", "/api/v1/health".to_owned())],
    }
}

fn scheduler_item(facts: &Facts) -> Option<Item> {
    if facts.scheduler.is_running {
        return None;
    }
    let fires = facts.scheduler.enabled_schedules;
    Some(Item {
        kind: AttentionKind::SchedulerStopped,
        severity: if fires > 0 { Severity::Critical } else { Severity::Medium },
        since: facts.scheduler.stopped_at,
        title: "The scheduler is stopped".to_owned(),
        detail: format!("{fires} enabled schedules do not fire on any node until it is started"),
        subject: Subject {
            kind: "scheduler",
            id: "scheduler".to_owned(),
            href: "/api/v1/scheduler/status".to_owned(),
        },
        count: fires,
        actions: vec![Action::post("Start the scheduler", "/api/v1/scheduler/start".to_owned())],
    })
}

fn actor_item(actor: &ActorFact) -> Option<Item> {
    let (severity, what, verb) = match actor.state.as_str() {
        "failed" => (Severity::Critical, "has failed".to_owned(), "restart"),
        "stopped" => (Severity::High, "is stopped".to_owned(), "start"),
        "backoff" => (Severity::High, "waits to be restarted".to_owned(), "restart"),
        _ if actor.restarts >= RESTARTS_MANY => {
            (Severity::Medium, format!("was restarted {} times", actor.restarts), "restart")
        }
        _ => return None,
    };
    let path = &actor.path;
    let label = if verb == "start" { "Start it" } else { "Restart it" };
    Some(Item {
        kind: AttentionKind::Actor,
        severity,
        since: actor.crashed_at,
        title: format!("{path} {what}"),
        detail: shorten(actor.reason.as_deref().unwrap_or("it left no reason")),
        subject: Subject {
            kind: "actor",
            id: path.clone(),
            href: format!("/api/admin/actors/{path}"),
        },
        count: actor.restarts.max(1),
        actions: vec![
            Action::post(label, format!("/api/admin/actors/{path}/{verb}")),
            Action::get("See its crashes", format!("/api/admin/actors/{path}")),
        ],
    })
}

/// Nodes whose newest boot said no goodbye and holds no lease. A node that came back has a newer
/// boot, and one that was stopped said so.
fn lost_nodes(facts: &Facts) -> Vec<Item> {
    let mut newest: BTreeMap<&str, &NodeFact> = BTreeMap::new();
    for node in &facts.nodes {
        let kept = newest.entry(&node.node_id).or_insert(node);
        if node.started_at > kept.started_at {
            *kept = node;
        }
    }
    let is_lost = |node: &&NodeFact| !node.is_stopped && !node.is_alive;
    newest.into_values().filter(is_lost).map(lost_node_item).collect()
}

fn lost_node_item(node: &NodeFact) -> Item {
    Item {
        kind: AttentionKind::NodeLost,
        severity: Severity::High,
        since: Some(node.lease_until),
        title: format!("Node {} is lost", node.node_id),
        detail: "it went away without a goodbye; its work was taken over; start the server on \
                 that host again, or leave it: this item goes a day after the loss"
            .to_owned(),
        subject: Subject {
            kind: "node",
            id: node.node_id.clone(),
            href: "/api/admin/system".to_owned(),
        },
        count: 1,
        actions: vec![Action::get("See how the others fare", "/api/v1/health".to_owned())],
    }
}

fn paused_schedule_item(schedule: &ScheduleFact) -> Item {
    let id = schedule.id;
    Item {
        kind: AttentionKind::SchedulePausedByFailures,
        severity: Severity::High,
        since: schedule.since,
        title: format!("Schedule {} was paused after failing too often", schedule.name),
        detail: "mend what it does, then resume it".to_owned(),
        subject: schedule_subject(id),
        count: 1,
        actions: vec![
            Action::post("Resume it", format!("/api/v1/scheduler/schedules/{id}/resume")),
            Action::post("Run it once", format!("/api/v1/scheduler/schedules/{id}/trigger")),
        ],
    }
}

fn schedule_subject(id: i64) -> Subject {
    let href = format!("/api/v1/scheduler/schedules/{id}");
    Subject { kind: "schedule", id: id.to_string(), href }
}

/// Late schedules have one cause more often than many, so the one late for longest stands for all.
fn overdue_items(facts: &Facts) -> Option<Item> {
    if !facts.scheduler.is_running {
        return None;
    }
    let first = facts.overdue.iter().min_by_key(|schedule| (schedule.since, schedule.id))?;
    let id = first.id;
    let count = facts.overdue.len() as u64;
    Some(Item {
        kind: AttentionKind::ScheduleOverdue,
        severity: Severity::High,
        since: first.since,
        title: match count {
            1 => format!("Schedule {} is overdue", first.name),
            _ => format!("{count} schedules are overdue, {} for longest", first.name),
        },
        detail: "its instant has passed and it did not fire though the scheduler runs; it may \
                 wait for earlier runs to end"
            .to_owned(),
        subject: schedule_subject(id),
        count,
        actions: vec![
            Action::post(
                "Restart the scheduler",
                "/api/admin/actors/time.scheduler/restart".to_owned(),
            ),
            Action::post("Run it once", format!("/api/v1/scheduler/schedules/{id}/trigger")),
        ],
    })
}

/// Rows that wait for the same thing are one item. What waits for a breaker is said by it.
fn waiting_items(facts: &Facts) -> Vec<Item> {
    let held: BTreeSet<&str> = facts.breakers.iter().map(|breaker| breaker.key.as_str()).collect();
    let is_said =
        |row: &&WaitingFact| row.target.as_deref().is_none_or(|target| !held.contains(target));
    let mut groups: BTreeMap<Option<&str>, Vec<&WaitingFact>> = BTreeMap::new();
    for row in facts.waiting.iter().filter(is_said) {
        groups.entry(row.held_reason.as_deref()).or_default().push(row);
    }
    groups.into_values().filter_map(|group| waiting_item(&group, facts.now)).collect()
}

fn waiting_item(group: &[&WaitingFact], now: DateTime<Utc>) -> Option<Item> {
    let oldest = group.iter().min_by_key(|row| (row.available_at, row.id))?;
    let (id, count) = (oldest.id, group.len() as u64);
    let waits_long = now - oldest.available_at > WAITING_LONG;
    let why = match oldest.held_reason.as_deref() {
        Some(reason) => format!("held: {reason}"),
        None => "no node has a free slot for it, or none claims".to_owned(),
    };
    let href = format!("/api/v2/executions/{id}");
    let mut actions = vec![
        Action::post("Skip the oldest", format!("{href}/skip")),
        Action::get("See it", href.clone()),
    ];
    if let Some(queue) = &oldest.paused_queue {
        let path = format!("/api/v2/queues/{}/resume", percent(queue));
        actions.insert(0, Action::post("Resume its queue", path));
    } else if oldest.held_reason.is_none() {
        let path = "/api/admin/actors/work.executor/restart".to_owned();
        actions.insert(0, Action::post("Restart the executor", path));
    }
    Some(Item {
        kind: AttentionKind::ExecutionWaiting,
        severity: if waits_long { Severity::High } else { Severity::Medium },
        since: Some(oldest.available_at),
        title: match count {
            1 => format!("Execution {id} waits past its instant"),
            _ => format!("{count} executions wait past their instant, {id} for longest"),
        },
        detail: why,
        subject: Subject { kind: "execution", id: id.to_string(), href },
        count,
        actions,
    })
}

fn paused_item(one: &PausedFact, facts: &Facts) -> Item {
    let id = one.id;
    let href = format!("/api/v2/executions/{id}");
    let by = one.paused_by.as_deref().unwrap_or("somebody");
    let until = one.paused_at + facts.pause_max;
    Item {
        kind: AttentionKind::ExecutionPaused,
        severity: Severity::Low,
        since: Some(one.paused_at),
        title: format!("Execution {id} was paused by {by}"),
        detail: format!(
            "{}; it goes on by itself at {}",
            shorten(one.reason.as_deref().unwrap_or("no reason was given")),
            instant_text(until)
        ),
        subject: Subject { kind: "execution", id: id.to_string(), href: href.clone() },
        count: 1,
        actions: vec![
            Action::post("Resume it", format!("{href}/resume")),
            Action::post("Cancel it", format!("/api/v1/execution/executions/{id}/cancel")),
        ],
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MESSAGE_MAX).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// A name as one segment of a path.
fn percent(text: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().fold(String::new(), |mut path, byte| {
        if plain(byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
        path
    })
}

#[cfg(test)]
#[path = "attention_tests.rs"]
pub(crate) mod tests;
