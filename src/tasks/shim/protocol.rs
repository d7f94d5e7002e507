//! What server and shim say to each other over the shim's standard input, a socket pair.
//!
//! Lines of JSON. The server sends one [`Spec`], then [`Command`]s; the shim answers with one
//! [`Report`] when nothing of the task is alive, and exits. The end of the server's side means
//! that the server is gone.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::domain::task::{RunAs, TaskLimits};

/// What to run. Travels over the socket and not as arguments, which every user could read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) cwd: Option<String>,
    /// The environment of the task, later entries win; see `declared_from`.
    pub(crate) env: Vec<(String, String)>,
    /// Where in `env` the task's own variables begin. A user's HOME comes before them.
    pub(crate) declared_from: usize,
    /// The wait between TERM and KILL.
    pub(crate) grace_ms: u64,
    /// That wait when the server is gone or the lease has run out, if shorter than usual.
    pub(crate) lost_grace_ms: Option<u64>,
    /// The longest run, if limited.
    pub(crate) timeout_ms: Option<u64>,
    /// When the lease ends, if there is one: milliseconds since the machine started. An instant,
    /// not what is left: a server that was frozen meanwhile must not prolong anything.
    pub(crate) lease_until_ms: Option<u64>,
    /// The most processes that the user may have (`RLIMIT_NPROC`), if limited.
    pub(crate) process_limit: Option<u64>,
    /// The soft limit of open files of a process that has none of its own (`RLIMIT_NOFILE`), where
    /// the server raised its own.
    pub(crate) open_files: Option<u64>,
    /// What the task may use.
    pub(crate) limits: TaskLimits,
    /// As whom it runs; as the server's user if left out.
    pub(crate) run_as: Option<RunAs>,
    /// The control group made for it, if one was.
    pub(crate) cgroup: Option<String>,
    /// The progress file, which another user must be given.
    pub(crate) progress_file: Option<String>,
    /// The file with the event that set the command off; likewise.
    pub(crate) event_file: Option<String>,
}

/// Time since the machine started, its sleep included: a lease goes on while a laptop is closed,
/// and the usual monotonic clock does not.
pub(super) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// An instant as it travels, in milliseconds since the machine started. The shared clock is read
/// first: whoever is frozen between the two readings gets an earlier instant, never a later one.
pub(crate) fn boot_millis(until: Instant) -> u64 {
    let base = since_boot();
    let at = base.saturating_add(until.saturating_duration_since(Instant::now()));
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

/// What the server asks of a shim whose task runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Command {
    /// End the task: it was cancelled.
    Cancel,
    /// End the task: the server is drained.
    Interrupt,
    /// End the task: it wrote more than it may.
    Output,
    /// Let every process of the task stand still, for so long at most; then it goes on by itself.
    Pause { limit_ms: u64 },
    /// Let them go on.
    Resume,
    /// The lease now ends then, likewise.
    Lease { until_ms: u64 },
}

/// Why the task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// Its main process ended by itself.
    Exited,
    /// It could not be started.
    NotStarted,
    /// It ran past its timeout.
    Timeout,
    /// It was cancelled.
    Cancel,
    /// The server was drained.
    Interrupt,
    /// The lease ran out.
    Lease,
    /// The server went away.
    ServerLost,
    /// It used more memory than it may.
    Memory,
    /// It used more processor time than it may.
    Cpu,
    /// It had more processes than it may.
    Processes,
    /// It wrote more than it may.
    Output,
}

/// How a task could not be started: a kind of `TaskError` and a sentence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartFault {
    pub(crate) kind: String,
    pub(crate) message: String,
}

impl StartFault {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into() }
    }
}

/// How the task ended; sent when no process of it is alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) end: End,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// How many processes had to be ended.
    pub(crate) killed: u32,
    /// The most memory that was seen: of the largest process, or of the tree where it is measured.
    pub(crate) peak_memory_bytes: u64,
    /// Processor time of all its processes.
    pub(crate) cpu_ms: u64,
    pub(crate) fault: Option<StartFault>,
}
