//! What a task tells while it runs, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::task::TaskError;
use crate::tasks::output::LogBlock;

/// Which attempt of which execution runs, and for how long it may.
#[derive(Clone, Debug)]
pub struct TaskContext {
    /// The execution's public id.
    pub execution_id: Uuid,
    /// The `execution_id` of the chain's first attempt; the idempotency key towards others.
    pub chain_id: Uuid,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The schedule that fired, if one did.
    pub schedule_id: Option<i64>,
    /// The planned instant.
    pub scheduled_at: DateTime<Utc>,
    /// The row's id, so that a task's own store can refuse an older attempt.
    pub fencing_token: i64,
    /// W3C trace context to pass on.
    pub traceparent: Option<String>,
    /// What set it off, if an event did: `{name, payload, ...}`, or a list of those in `events`.
    pub event: Option<Arc<Value>>,
    /// The longest run, already chosen from config, schedule and default.
    pub timeout: Duration,
}

impl TaskContext {
    /// The name of the event that set it off.
    #[must_use]
    pub fn event_name(&self) -> Option<&str> {
        self.event.as_deref()?.get("name")?.as_str()
    }
}

/// Where a line of output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// The task's standard output.
    Stdout,
    /// The task's standard error.
    Stderr,
    /// Carillon itself, about the task.
    System,
}

impl LogStream {
    /// The stream's name in the API and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }
}

/// One line of a task's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Where it comes from.
    pub stream: LogStream,
    /// When it was read.
    pub at: DateTime<Utc>,
    /// The line without its end, at most `Limits::line_bytes`.
    pub text: String,
    /// The text goes on in the next line of the stream: the task wrote a longer line.
    pub continues: bool,
}

/// How far a task says it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: Option<f64>,
    /// The milliseconds that the task thinks it still needs.
    pub eta_ms: Option<u64>,
    /// A word for people.
    pub message: Option<String>,
}

/// Takes what a task tells while it runs. Called on the thread that runs the task: an
/// implementation must not block, and must bound what it keeps.
pub trait TaskSink: Send + Sync {
    /// One line of output.
    fn log(&self, line: LogLine);
    /// Lines of one stream that were read together.
    fn output(&self, block: LogBlock<'_>) {
        block.log_lines().for_each(|line| self.log(line));
    }
    /// A report of progress.
    fn progress(&self, progress: Progress);
}

/// What the processes of a command used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The most memory seen, in bytes: of the largest process, or of the whole tree where a limit
    /// or a control group has it measured.
    pub peak_memory_bytes: u64,
    /// Processor time of all of them, in milliseconds.
    pub cpu_ms: u64,
}

/// What is known of a run besides its result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutcomeExtra {
    /// How many processes had to be ended (all of a stopped task's, or those left behind by one
    /// that ended by itself).
    pub killed: u32,
    /// What a command used.
    pub usage: Option<Usage>,
    /// The conductor thread that was used.
    pub conductor_thread_id: Option<String>,
    /// The last known status of that thread.
    pub conductor_status: Option<String>,
    /// The wait that an HTTP answer asked for (`Retry-After`), at most a day.
    pub retry_after: Option<Duration>,
    /// The right to hold a large result in memory; kept until the result is stored.
    pub held: Option<ResultHold>,
}

/// A share of the memory for large results, given back with the last clone.
#[derive(Clone, Debug)]
pub struct ResultHold {
    /// Given back when it is dropped.
    pub(crate) _permit: std::sync::Arc<tokio::sync::OwnedSemaphorePermit>,
}

impl PartialEq for ResultHold {
    /// It says nothing about the result.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// How a task ended. None is given before every process of the task is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It did what it was to do.
    Completed {
        /// The result in the shape of the task's type.
        result: Value,
        /// What else is known.
        extra: OutcomeExtra,
    },
    /// It failed, or was interrupted, or lost its lease.
    Failed {
        /// Why.
        error: TaskError,
        /// What there is of a result (output, response body).
        result: Option<Value>,
        /// What else is known.
        extra: OutcomeExtra,
    },
    /// It ran past its timeout and was ended.
    Timeout {
        /// What there is of a result.
        result: Option<Value>,
        /// What else is known.
        extra: OutcomeExtra,
    },
    /// It was cancelled, and nothing of it is alive.
    Cancelled {
        /// What there is of a result.
        result: Option<Value>,
        /// What else is known.
        extra: OutcomeExtra,
    },
}

impl Outcome {
    /// A failure without a result.
    pub(crate) fn failed(error: TaskError) -> Self {
        Self::Failed { error, result: None, extra: OutcomeExtra::default() }
    }

    /// Ties the right to hold a large result to it.
    pub(crate) fn hold(&mut self, held: Option<ResultHold>) {
        match self {
            Self::Completed { extra, .. }
            | Self::Failed { extra, .. }
            | Self::Timeout { extra, .. }
            | Self::Cancelled { extra, .. } => extra.held = held,
        }
    }

    /// What is known besides the result.
    #[must_use]
    pub const fn extra(&self) -> &OutcomeExtra {
        match self {
            Self::Completed { extra, .. }
            | Self::Failed { extra, .. }
            | Self::Timeout { extra, .. }
            | Self::Cancelled { extra, .. } => extra,
        }
    }

    /// The result, if there is one.
    #[must_use]
    pub const fn result(&self) -> Option<&Value> {
        match self {
            Self::Completed { result, .. } => Some(result),
            Self::Failed { result, .. }
            | Self::Timeout { result, .. }
            | Self::Cancelled { result, .. } => result.as_ref(),
        }
    }
}

/// Why a task that does not end by itself is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Past its timeout.
    Timeout,
    /// Cancelled by somebody.
    Cancel,
    /// A drain reached its deadline.
    Interrupt,
    /// It makes room for something urgent.
    Preempt,
    /// The lease ran out.
    Lease,
}

impl Cut {
    /// The outcome of a task that was cut off.
    pub(crate) fn outcome(self, result: Option<Value>, extra: OutcomeExtra) -> Outcome {
        let failed = |kind: &str, message: &str, result, extra| Outcome::Failed {
            error: TaskError::new(kind, message),
            result,
            extra,
        };
        match self {
            Self::Timeout => Outcome::Timeout { result, extra },
            Self::Cancel => Outcome::Cancelled { result, extra },
            Self::Interrupt => {
                failed("interrupted", "the server was drained while the task ran", result, extra)
            }
            Self::Preempt => {
                failed("preempted", "it made room for a task of high priority", result, extra)
            }
            Self::Lease => {
                failed("node_lost", "the lease ran out while the task ran", result, extra)
            }
        }
    }
}
