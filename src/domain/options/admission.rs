//! When an execution may start, beside a free slot.

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;

/// When an execution may start, beside a free slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdmissionOptions {
    /// The named queue it stands in, which may be paused and has limits of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// A key (a tenant, a host) whose running holders are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// How many with that key may run at once; 1 when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_limit: Option<i32>,
    /// How often one with that key may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// How many of its schedule may run at once; the server's word, for runs that are queued rather
    /// than skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_limit: Option<i32>,
    /// Its place among those of the same priority and age: 100 first, -100 last, 0 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<i32>,
    /// How long after its planned instant its chain is to have succeeded, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sla_ms: Option<i64>,
    /// What it needs of its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceNeeds>,
    /// It may be interrupted and begun anew to make room for what is urgent.
    #[serde(skip_serializing_if = "super::is_default")]
    pub preemptible: bool,
    /// How often its chain made room; the server's word.
    #[serde(skip_serializing_if = "super::is_default")]
    pub preempted: i32,
    /// The node that it keeps away from for a while; the server's word, for retries that are to be
    /// made on another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away: Option<Away>,
}

/// A node that a retry keeps away from, as long as there is another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// The node on which the attempt before failed.
    pub from: String,
    /// From then on it may run anywhere: better there than not at all.
    pub until: Timestamp,
}

/// How often something may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Starts at most ...
    pub count: i32,
    /// ... in any span of this many milliseconds.
    pub per_ms: i64,
}

/// What an execution needs of its node while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceNeeds {
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Memory in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<i64>,
}

impl AdmissionOptions {
    /// True when it is admitted one by one, by plan.
    #[must_use]
    pub const fn is_gated(&self) -> bool {
        self.queue.is_some()
            || self.concurrency_key.is_some()
            || self.overlap_limit.is_some()
            || self.resources.is_some()
            || self.away.is_some()
    }
}
