//! The values of admission: claims of rows that are let in one by one, queues, ranks, deadlines.

use chrono::{DateTime, Utc};

use super::ClaimHere;
use crate::domain::execution::{Execution, Priority};

/// A claim among rows that are admitted one by one.
#[derive(Clone, Debug)]
pub struct ClaimGated {
    /// Who claims, and into how many slots; none: only what holds them is written.
    pub claim: ClaimHere,
    /// Lanes after this one are looked at; see [`GatedClaimed::next_lane`].
    pub after_lane: Option<String>,
    /// What the node has for those that declare needs; none when that does not limit.
    pub capacity: Option<Capacity>,
}

/// A named queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRow {
    /// Row id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// How many may run at once.
    pub max_concurrent: Option<i32>,
    /// How many may start in any minute.
    pub rate_per_minute: Option<i32>,
    /// Since when nothing starts.
    pub paused_at: Option<DateTime<Utc>>,
    /// Why.
    pub pause_reason: Option<String>,
    /// Who said so.
    pub paused_by: Option<String>,
    /// When it was first named.
    pub created_at: DateTime<Utc>,
    /// When its limits last changed.
    pub updated_at: DateTime<Utc>,
    /// What stands in it.
    pub counts: QueueCounts,
}

/// What stands in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Waiting, held or not.
    pub waiting: i64,
    /// Running.
    pub running: i64,
    /// Waiting for more than their instant and a slot.
    pub held: i64,
}

/// A change of a queue; what is none is left as it is.
#[derive(Clone, Debug, Default)]
pub struct QueueChange {
    /// How many may run at once.
    pub max_concurrent: Option<Option<i32>>,
    /// How many may start in any minute.
    pub rate_per_minute: Option<Option<i32>>,
    /// Paused or not.
    pub paused: Option<bool>,
    /// Why.
    pub reason: Option<String>,
    /// Who says so.
    pub by: Option<String>,
}

/// Another urgency for an execution that waits; what is none is left as it is.
#[derive(Clone, Debug, Default)]
pub struct Reranking {
    /// How urgent.
    pub priority: Option<Priority>,
    /// Its place among those of the same priority and age.
    pub order: Option<i32>,
    /// Who says so.
    pub by: Option<String>,
}

/// What a look at the deadlines found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadlineNews {
    /// Chains that have not succeeded in time.
    pub missed: usize,
    /// Chains that probably will not.
    pub at_risk: usize,
}

/// What a node has in all for tasks that declare needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Processors.
    pub cpu: f64,
    /// Memory in MiB.
    pub memory_mb: f64,
}

/// What a [`ClaimGated`] gave.
#[derive(Clone, Debug, Default)]
pub struct GatedClaimed {
    /// These run now.
    pub executions: Vec<Execution>,
    /// When to look again, whatever is announced.
    pub look_again_at: Option<DateTime<Utc>>,
    /// True when another look now may find more.
    pub more: bool,
    /// Where that look goes on.
    pub next_lane: Option<String>,
    /// True when somebody that might start found no slot.
    pub wants_slots: bool,
}
