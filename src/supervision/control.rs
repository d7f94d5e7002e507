//! What operators ask of a supervisor, and what it can answer.

use thiserror::Error;
use tokio::sync::oneshot;

use super::report::{CrashMode, NodeState};

/// Why an operator's verb was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControlError {
    /// No node has this path.
    #[error("no actor {path:?}; there are: {}", known.join(", "))]
    UnknownPath {
        /// What was asked for.
        path: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The node is not in a state for it.
    #[error("{path} is {state:?}: {reason}")]
    WrongState {
        /// The node.
        path: String,
        /// Where it stands.
        state: NodeState,
        /// Why that is in the way.
        reason: &'static str,
    },
    /// The actor takes no message of this name.
    #[error("{path} takes no message {name:?}; it takes: {}", known.join(", "))]
    UnknownMessage {
        /// The node.
        path: String,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The tree is shut down, or was given up.
    #[error("the tree is closed")]
    Closed,
}

/// What an operator may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Restart,
    Stop,
    Start,
    Crash(CrashMode),
}

/// A verb about a child, on its way to the supervisor.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) child: usize,
    pub(crate) verb: Verb,
    /// Accepted, or why not.
    pub(crate) reply: oneshot::Sender<Result<(), &'static str>>,
}
