//! What a schedule may say beyond the basics: policies, grouped by who honours them.
//!
//! Each group is a document of its own in one column, empty as long as nothing was said, so that a
//! schedule that uses none of them costs nothing. The [`CadenceOptions`] bear on when it fires, the
//! [`EventOptions`] on what else makes it fire; the [`TaskOptions`] travel with each execution,
//! retries included, as a later edit must not change what waits.
//!
//! Not here: reading them from a request (`api/wire/options`), and what follows from them (each
//! policy's own plan).

mod admission;
mod cadence;
mod events;
mod recovery;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::admission::{AdmissionOptions, Away, RateLimit, ResourceNeeds};
pub use self::cadence::{CadenceOptions, ClockChoice, ExcludedChoice};
pub use self::events::{BatchOptions, DEDUP_WINDOW_DEFAULT_MS, EventOptions};
pub use self::recovery::{BreakerOptions, RecoveryOptions, RetryBudget};

/// Everything beyond the basics that a schedule says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleOptions {
    /// When it fires.
    #[serde(skip_serializing_if = "is_default")]
    pub cadence: CadenceOptions,
    /// What makes it fire beside the clock.
    #[serde(skip_serializing_if = "is_default")]
    pub events: EventOptions,
    /// What goes with each execution.
    #[serde(skip_serializing_if = "is_default")]
    pub task: TaskOptions,
}

/// What goes with an execution and its retries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskOptions {
    /// When it may start.
    #[serde(skip_serializing_if = "is_default")]
    pub admission: AdmissionOptions,
    /// What follows when it fails.
    #[serde(skip_serializing_if = "is_default")]
    pub recovery: RecoveryOptions,
    /// What set it off, for the task to read: the payload of the events that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Value>,
    /// By how much its start was moved from its planned instant, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<i64>,
    /// So many failed chains in a row pause its schedule, which counts them then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_after_failures: Option<i32>,
    /// The backfill that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backfill: Option<BackfillMark>,
}

/// What an execution says of the backfill that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillMark {
    /// The backfill's id.
    pub id: i64,
    /// It runs instants that have run before.
    #[serde(default, skip_serializing_if = "is_default")]
    pub again: bool,
}

/// True for a value that says nothing.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl TaskOptions {
    /// The document as it is stored; `None` when nothing was said.
    #[must_use]
    pub fn document(&self) -> Option<Value> {
        if is_default(self) { None } else { serde_json::to_value(self).ok() }
    }
}
