//! The conductor as a subprocess, under a shim of its own.
//!
//! As with a shell task, the whole tree ends when it is stopped, when this is dropped and when the
//! server dies. When to start and restart it is the supervision's affair.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::tasks::control::TaskControl;
use crate::tasks::environment::TaskEnvironment;
use crate::tasks::outcome::{LogStream, TaskSink};
use crate::tasks::output::OutputBudget;
use crate::tasks::shell::{Listener, Supervised, milliseconds, supervise};
use crate::tasks::shim::Pipes;
use crate::tasks::shim::Shimmed;
use crate::tasks::shim::protocol::Spec;

/// "For ever", for a process that has no timeout.
const NO_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How much longer than its grace the shim may take.
const SHIM_MARGIN: Duration = Duration::from_secs(3);

/// What to start as the conductor.
#[derive(Clone, Debug)]
pub struct ConductorCommand {
    /// The program: a path, or a name to find in PATH.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its working directory; `/` if left out.
    pub cwd: Option<String>,
    /// Variables besides PATH, HOME, LANG and TZ.
    pub env: Vec<(String, String)>,
}

/// How the conductor's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConductorExit {
    /// Its exit status, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Why it could not be started, if it could not.
    pub fault: Option<String>,
}

/// A running conductor. Dropping it, or the future of [`ConductorProcess::wait`], ends its tree.
pub struct ConductorProcess {
    shimmed: Shimmed,
    pipes: Pipes,
    control: TaskControl,
    listener: Listener,
}

impl ConductorProcess {
    /// Starts `command`; its output goes to `sink` line by line.
    ///
    /// # Errors
    /// When its shim cannot be started. A command that does not exist is told by
    /// [`ConductorProcess::wait`].
    pub async fn start(
        environment: &TaskEnvironment,
        command: ConductorCommand,
        sink: Arc<dyn TaskSink>,
    ) -> io::Result<Self> {
        let mut env = environment.base_environment().to_vec();
        env.extend(command.env);
        let spec = Spec {
            program: command.program,
            args: command.args,
            cwd: command.cwd,
            env,
            open_files: environment.open_files(),
            grace_ms: milliseconds(environment.limits().grace),
            ..Spec::default()
        };
        let (shimmed, pipes) = Shimmed::start(environment.shims(), &spec, None).await?;
        let limits = environment.limits().clone();
        let secrets = environment.secrets(&spec.env);
        let listener = Listener { sink, clock: environment.clock().clone(), limits, secrets };
        Ok(Self { shimmed, pipes, control: TaskControl::new(None), listener })
    }

    /// A handle whose `cancel` stops the process, also while [`ConductorProcess::wait`] is awaited.
    #[must_use]
    pub fn control(&self) -> TaskControl {
        self.control.clone()
    }

    /// Drains the output and waits until nothing of the process is alive.
    pub async fn wait(self) -> ConductorExit {
        let Self { shimmed, pipes, control, listener } = self;
        let (over, is_over) = watch::channel(false);
        let budget = OutputBudget::new(None);
        let plan = Supervised {
            control: &control,
            lease: control.lease(),
            timeout: NO_TIMEOUT,
            watchdog: listener.limits.grace + SHIM_MARGIN,
            budget: &budget,
        };
        let supervised = async {
            let ended = supervise(shimmed, plan).await;
            over.send_replace(true);
            ended
        };
        let ((report, ..), _, _) = tokio::join!(
            supervised,
            listener.capture(LogStream::Stdout, 0, None).drain(pipes.stdout, is_over.clone()),
            listener.capture(LogStream::Stderr, 0, None).drain(pipes.stderr, is_over),
        );
        let fault = match &report {
            None => Some("the conductor's shim was killed".to_owned()),
            Some(report) => report.fault.as_ref().map(|fault| fault.message.clone()),
        };
        ConductorExit {
            exit_code: report.as_ref().and_then(|report| report.exit_code),
            signal: report.as_ref().and_then(|report| report.signal),
            fault,
        }
    }
}
