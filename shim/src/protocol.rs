//! What server and shim say to each other over the shim's standard input, a socket pair.
//!
//! Lines of JSON. The server sends one [`Spec`], then [`Command`]s; the shim answers with one
//! [`Report`] when nothing of the task is alive, and exits. The end of the server's side means
//! that the server is gone.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What to run. Travels over the socket and not as arguments, which every user could read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Spec {
    /// The program: a path, or a name that PATH of `env` finds.
    pub program: String,
    /// Its arguments, its name not included.
    pub args: Vec<String>,
    /// Its working directory; `/` if left out.
    pub cwd: Option<String>,
    /// The environment of the task, later entries win; see `declared_from`.
    pub env: Vec<(String, String)>,
    /// Where in `env` the task's own variables begin. A user's HOME comes before them.
    pub declared_from: usize,
    /// The wait between TERM and KILL.
    pub grace_ms: u64,
    /// That wait when the server is gone or the lease has run out, if shorter than usual.
    pub lost_grace_ms: Option<u64>,
    /// The longest run, if limited.
    pub timeout_ms: Option<u64>,
    /// When the lease ends, if there is one: milliseconds since the machine started. An instant,
    /// not what is left: a server that was frozen meanwhile must not prolong anything.
    pub lease_until_ms: Option<u64>,
    /// The most processes that the user may have (`RLIMIT_NPROC`), if limited.
    pub process_limit: Option<u64>,
    /// The soft limit of open files of a process that has none of its own (`RLIMIT_NOFILE`), where
    /// the server raised its own.
    pub open_files: Option<u64>,
    /// What the task may use.
    pub limits: Limits,
    /// As whom it runs; as the server's user if left out.
    pub run_as: Option<RunAs>,
    /// The control group made for it, if one was.
    pub cgroup: Option<String>,
    /// The progress file, which another user must be given.
    pub progress_file: Option<String>,
    /// The file with the event that set the command off; likewise.
    pub event_file: Option<String>,
}

/// What the tree of a command may use; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of its processes together (anonymous and resident), in MiB.
    pub memory_mb: Option<u64>,
    /// Processor time of its processes together, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Processes at the same time.
    pub processes: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
}

/// As whom a command runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunAs {
    /// The user's name.
    pub user: String,
    /// The group's name, if it is not the user's own.
    pub group: Option<String>,
}

/// Time since the machine started, its sleep included: a lease goes on while a laptop is closed,
/// and the usual monotonic clock does not.
pub(crate) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// An instant as it travels, in milliseconds since the machine started. The shared clock is read
/// first: whoever is frozen between the two readings gets an earlier instant, never a later one.
pub fn boot_millis(until: Instant) -> u64 {
    let base = since_boot();
    let at = base.saturating_add(until.saturating_duration_since(Instant::now()));
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

/// What the server asks of a shim whose task runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// End the task: it was cancelled.
    Cancel,
    /// End the task: the server is drained.
    Interrupt,
    /// End the task: it wrote more than it may.
    Output,
    /// Let every process of the task stand still, for so long at most; then it goes on by itself.
    Pause {
        /// In milliseconds.
        limit_ms: u64,
    },
    /// Let them go on.
    Resume,
    /// The lease now ends then, likewise.
    Lease {
        /// In milliseconds since the machine started.
        until_ms: u64,
    },
}

/// Why the task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
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
pub struct StartFault {
    /// A kind of error as the server knows them, such as `command_not_found`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
}

impl StartFault {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into() }
    }
}

/// How the task ended; sent when no process of it is alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Why it ended.
    pub end: End,
    /// The exit code of the main process, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended the main process, if one did.
    pub signal: Option<i32>,
    /// How many processes had to be ended.
    pub killed: u32,
    /// The most memory that was seen: of the largest process, or of the tree where it is measured.
    pub peak_memory_bytes: u64,
    /// Processor time of all its processes.
    pub cpu_ms: u64,
    /// Why it could not be started, if so.
    pub fault: Option<StartFault>,
}
