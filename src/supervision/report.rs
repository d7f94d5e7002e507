//! What operators see of a tree: values, ready to be serialized.
//!
//! A report is read from shared vitals and never asks an actor anything, so a stuck actor delays
//! nobody. Numbers are from about the same instant, not from one and the same.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a node of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// An actor.
    Worker,
    /// A supervisor.
    Supervisor,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Not past its first successful pass, or waiting for a predecessor to be.
    Starting,
    /// Past its first successful pass.
    Running,
    /// Crashed; it will be started again when its delay has passed.
    Backoff,
    /// Stopped by an operator or with its supervisor, or ended by itself for good.
    Stopped,
    /// Crashed, and not to be started again by itself.
    Failed,
}

/// How a life ended that should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashKind {
    /// A panic, or a failure the actor reported itself.
    Panic,
    /// No beat within its heartbeat, or no pass within its deadline.
    Hang,
    /// A crash before the first successful pass, or no such pass in time.
    StartFailed,
}

/// A crash on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashMode {
    /// Panics.
    Panic,
    /// Stands still, until its heartbeat is missed.
    Hang,
    /// Ends by itself, as if it were done.
    Stop,
}

/// One crash of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Crash {
    /// When it was noticed.
    pub at: DateTime<Utc>,
    /// How it ended.
    pub kind: CrashKind,
    /// The panic's message, or what was missed.
    pub reason: String,
    /// `file:line:column` of a panic.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub location: Option<String>,
    /// The backtrace of a panic; only where a single node is reported, because looking up its
    /// symbols takes long the first time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backtrace: Option<String>,
    /// Which life crashed.
    pub generation: u64,
}

/// The restart limit of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intensity {
    /// Restarts allowed in the window.
    pub restarts: usize,
    /// The window, in milliseconds.
    pub within_ms: u64,
}

/// One node and all below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Dotted, such as `time.scheduler`; the root is `root`.
    pub path: String,
    /// What it is.
    pub kind: NodeKind,
    /// What it is for.
    pub description: String,
    /// Where it stands.
    pub state: NodeState,
    /// Which life it is in; 0 before the first.
    pub generation: u64,
    /// How often it was started again, for whatever reason.
    pub restarts: u64,
    /// Its last crash.
    pub last_crash: Option<Crash>,
    /// Messages that wait; 0 for a supervisor.
    pub mailbox_depth: usize,
    /// Milliseconds since its last beat; nothing while it does not run.
    pub last_beat_ms: Option<u64>,
    /// How many messages may wait; workers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mailbox_capacity: Option<usize>,
    /// Names of the messages that it takes; workers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub messages: Option<Vec<String>>,
    /// Messages handled over all lives; workers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handled: Option<u64>,
    /// Messages refused, the mailbox being full or closed; workers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rejected: Option<u64>,
    /// The group of children it shares a thread with; workers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    /// What the actor itself counts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub counters: BTreeMap<String, u64>,
    /// Who goes down with a crashed child; supervisors only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub strategy: Option<String>,
    /// The restart limit; supervisors only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub intensity: Option<Intensity>,
    /// Restarts charged to the limit at present; supervisors only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restarts_in_window: Option<usize>,
    /// Recent crashes, newest first; only where a single node is reported.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub crashes: Option<Vec<Crash>>,
    /// Its children, in start order.
    pub children: Vec<NodeReport>,
}

/// Something that happened in the tree, for events and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A new life began that is not the first.
    Restarted {
        /// The node.
        path: String,
        /// The new life.
        generation: u64,
        /// Restarts so far.
        restarts: u64,
    },
    /// A node crashed; it may be restarted.
    Failed {
        /// The node.
        path: String,
        /// How; without backtrace.
        crash: Crash,
    },
    /// The root is over its restart limit: everything is stopped and stays so.
    GaveUp {
        /// Why.
        reason: String,
    },
}
