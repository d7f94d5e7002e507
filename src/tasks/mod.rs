//! What a worker can run, and how: shell commands, HTTP requests, conductor threads, functions.
//!
//! One entrance, [`TaskEnvironment::run`]: a task, its context, a control and a sink in; an
//! [`Outcome`] out. It guarantees that no outcome is given before every process of the task is
//! gone, that the timeout, a cancel, a drain and a lost lease end any task, and that every output
//! has a named limit past which it is visibly cut.
//!
//! Deliberately not here: choosing what runs, leases, retries and storing anything. A task fails
//! with a `TaskError` whose kind the recovery can judge; the table is in `domain/task/error.rs`.

pub mod conductor;
mod control;
pub mod egress;
mod environment;
pub mod function;
mod http;
pub mod notify;
mod outcome;
mod output;
mod shell;
pub mod shim;

use std::future::Future;
use std::time::Duration;

pub use self::control::{StopReason, TaskControl};
pub use self::environment::{Limits, TaskEnvironment, TaskSettings, TaskSetupError};
pub use self::http::Outbound;
use self::outcome::Cut;
pub use self::outcome::{
    LogLine, LogStream, Outcome, OutcomeExtra, Progress, ResultHold, TaskContext, TaskSink, Usage,
};
pub use self::output::{LogBlock, RawLine};
pub use self::shell::group::ControlGroups;

pub use self::shell::PAUSE_MAX;

/// Whether commands can run as other users: only a server of root's can become one.
#[must_use]
pub fn may_run_as() -> bool {
    rustix::process::geteuid().is_root()
}

/// Awaits `work` unless its timeout, a stop or the end of the lease comes first; it is dropped
/// then.
async fn race<T>(
    work: impl Future<Output = T>,
    timeout: Duration,
    control: &TaskControl,
) -> Result<T, Cut> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        reason = control.stopped() => Err(match reason {
            StopReason::Cancel => Cut::Cancel,
            StopReason::Interrupt => Cut::Interrupt,
            StopReason::Preempt => Cut::Preempt,
        }),
        () = control.lease_lost() => Err(Cut::Lease),
        () = tokio::time::sleep(timeout) => Err(Cut::Timeout),
    }
}
