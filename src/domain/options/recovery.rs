//! What follows when an execution fails.

use serde::{Deserialize, Serialize};

use crate::domain::classification::Rule;

/// What follows when an execution fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecoveryOptions {
    /// The breaker of what it depends on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerOptions>,
    /// How failures are told apart; the first rule that fits wins over the built-in table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// How many retries may be planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
    /// A retry is made on another node than the attempt that failed, when there is one.
    #[serde(skip_serializing_if = "super::is_default")]
    pub retry_on_another_node: bool,
}

/// The breaker of what a task depends on; see `domain::breaker`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BreakerOptions {
    /// A name of the user's for what the task depends on, in place of its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Failures in a row that open it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// Runs that are looked back at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// Milliseconds before a probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_ms: Option<u64>,
    /// False: the task is held by no breaker and tells none of its ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// How many retries a schedule may plan (an ad-hoc chain: its own) in any span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Retries at most.
    pub max_retries: u32,
    /// In so many milliseconds.
    pub per_ms: u64,
}
