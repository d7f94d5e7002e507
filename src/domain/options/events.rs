//! What makes a schedule of type `event` fire beside its rule: which events are one, and which are
//! collected.

use serde::{Deserialize, Serialize};

/// The window of a dedup key that names none: an hour, in milliseconds.
pub const DEDUP_WINDOW_DEFAULT_MS: i64 = 3_600_000;

/// How events become runs; only schedules of type `event` have any of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventOptions {
    /// Events with the same value at this path of their payload are one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup_key: Option<String>,
    /// For so long, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup_window_ms: Option<i64>,
    /// Events are collected until none has come for so long, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debounce_ms: Option<i64>,
    /// But never longer than this after the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait_ms: Option<i64>,
    /// Events are collected until they are so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchOptions>,
}

/// How many events make a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchOptions {
    /// So many.
    pub size: i64,
    /// Or fewer, so long after the first of them, in milliseconds.
    pub max_wait_ms: i64,
}

impl EventOptions {
    /// Whether events wait to be collected.
    #[must_use]
    pub const fn collects(&self) -> bool {
        self.debounce_ms.is_some() || self.batch.is_some()
    }

    /// How long a dedup key counts, in milliseconds.
    #[must_use]
    pub fn dedup_window_ms(&self) -> i64 {
        self.dedup_window_ms.unwrap_or(DEDUP_WINDOW_DEFAULT_MS)
    }
}
