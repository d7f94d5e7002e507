//! Everything that tasks run with, built once at start, and the one entrance to run them.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::conductor::{self, ConductorClient, ConductorSettings};
use super::control::TaskControl;
use super::egress::EgressPolicy;
use super::function::{self, FunctionPool, FunctionRegistry, FunctionServices};
use super::http::{self, Outbound};
use super::outcome::{Outcome, ResultHold, TaskContext, TaskSink};
use super::output::Secrets;
use super::shell::event_file::EventFile;
use super::shell::group::{ControlGroups, GroupParent};
use super::shell::progress::ProgressFile;
use super::shell::{self, Listener};
use super::shim::{self, Program, Reserve};
use crate::clock::Clock;
use crate::domain::task::{Task, TaskLimits};

/// Large results that are in memory at once, on their way to the store.
const LARGE_RESULTS: usize = 2;
/// How long a large result waits for its turn.
const LARGE_RESULT_WAIT: Duration = Duration::from_secs(30);

/// The ceilings of what tasks may produce.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes kept of each of a command's streams, head and tail together.
    pub output_bytes: usize,
    /// Bytes of one line of output; a longer line becomes several.
    pub line_bytes: usize,
    /// The wait between TERM and KILL of a command that does not say.
    pub grace: Duration,
    /// Bytes kept of an HTTP answer's body.
    pub body_bytes: usize,
    /// Functions that run at the same time; more of them wait.
    pub functions: usize,
    /// The most processes that the server's user may have while a command runs
    /// (`RLIMIT_NPROC`: it counts all of the user's, and does not bind root).
    pub processes: Option<u64>,
    /// What a command may use that does not say.
    pub task_defaults: TaskLimits,
    /// What a command may use at most.
    pub task_maxima: TaskLimits,
    /// The wait between TERM and KILL of a command whose server is gone or whose lease is over.
    /// With it the last process must be dead before another node may take over.
    pub lost_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            output_bytes: 1024 * 1024,
            line_bytes: 8 * 1024,
            grace: Duration::from_secs(5),
            body_bytes: 1024 * 1024,
            functions: 256,
            processes: None,
            task_defaults: TaskLimits::default(),
            task_maxima: TaskLimits::default(),
            lost_grace: shim::LOST_GRACE,
        }
    }
}

/// What the configuration says about tasks.
#[derive(Clone, Debug)]
pub struct TaskSettings {
    /// The program that is started as shim, if not the one within this binary.
    pub shim: Option<PathBuf>,
    /// Where progress files live, in a folder `progress` of its own.
    pub data_dir: PathBuf,
    /// What is masked in the output of every task, besides the task's own secrets.
    pub secrets: Vec<String>,
    /// PATH, HOME, LANG and TZ as commands see them.
    pub base_environment: Vec<(String, String)>,
    /// The ceilings.
    pub limits: Limits,
    /// Which addresses tasks may reach.
    pub egress: EgressPolicy,
    /// Where commands get control groups (cgroup v2) of their own.
    pub groups: ControlGroups,
    /// The open files that a process of a command may have which asks for nothing (the soft limit),
    /// where the server raised its own.
    pub open_files: Option<u64>,
    /// The conductor; without one, conductor tasks fail for good.
    pub conductor: Option<ConductorSettings>,
}

impl TaskSettings {
    /// The defaults, with progress files under `data_dir`.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Self {
            shim: None,
            data_dir,
            secrets: Vec::new(),
            base_environment: [("PATH", path), ("HOME", "/"), ("LANG", "C.UTF-8"), ("TZ", "UTC")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            limits: Limits::default(),
            egress: EgressPolicy::default(),
            groups: ControlGroups::None,
            open_files: None,
            conductor: None,
        }
    }
}

/// Why tasks cannot be run at all.
#[derive(Debug, thiserror::Error)]
pub enum TaskSetupError {
    /// The folder of the progress files cannot be used.
    #[error("the folder {0} cannot be used: {1}")]
    Directory(PathBuf, #[source] io::Error),
    /// The control group cannot be used.
    #[error(
        "the control group {0} cannot be used: {1}; name a cgroup v2 folder that was delegated"
    )]
    ControlGroup(PathBuf, #[source] io::Error),
    /// The threads of the functions cannot be started.
    #[error("the threads of functions cannot be started: {0}")]
    Threads(#[source] io::Error),
}

/// What tasks run with. Shared by all of them; made once at start.
pub struct TaskEnvironment {
    settings: TaskSettings,
    shims: Reserve,
    progress_directory: PathBuf,
    output_directory: PathBuf,
    results: Arc<Semaphore>,
    groups: Option<GroupParent>,
    functions: FunctionRegistry,
    services: OnceLock<Arc<dyn FunctionServices>>,
    pool: FunctionPool,
    outbound: Outbound,
    own_listeners: Arc<ArcSwap<Vec<SocketAddr>>>,
    conductor: Option<ConductorClient>,
    clock: Clock,
}

impl TaskEnvironment {
    /// Makes the folder for progress files (and empties it of an earlier run's) and the threads
    /// for functions.
    ///
    /// # Errors
    /// When either cannot be had.
    pub fn new(
        settings: TaskSettings,
        functions: FunctionRegistry,
        clock: Clock,
    ) -> Result<Self, TaskSetupError> {
        let progress_directory = settings.data_dir.join("progress");
        // Absolute, for tasks run in folders of their own.
        let progress_directory = empty_directory(&progress_directory)
            .map_err(|error| TaskSetupError::Directory(progress_directory.clone(), error))?;
        let output_directory = settings.data_dir.join("output");
        let output_directory = empty_directory(&output_directory)
            .map_err(|error| TaskSetupError::Directory(output_directory.clone(), error))?;
        let groups = match &settings.groups {
            ControlGroups::None => None,
            ControlGroups::Auto => GroupParent::find(),
            ControlGroups::At(path) => Some(
                GroupParent::open(path)
                    .map_err(|error| TaskSetupError::ControlGroup(path.clone(), error))?,
            ),
        };
        let pool =
            FunctionPool::start(settings.limits.functions).map_err(TaskSetupError::Threads)?;
        let own_listeners = Arc::new(ArcSwap::default());
        let outbound = Outbound::new(
            settings.egress.clone(),
            Arc::clone(&own_listeners),
            settings.limits.body_bytes,
        );
        let conductor = settings
            .conductor
            .clone()
            .map(|settings| ConductorClient::new(settings, outbound.trusting()));
        let program = settings.shim.clone().map_or_else(Program::embedded, Program::at);
        let shims = Reserve::new(program);
        Ok(Self {
            settings,
            shims,
            progress_directory,
            output_directory,
            results: Arc::new(Semaphore::new(LARGE_RESULTS)),
            groups,
            functions,
            services: OnceLock::new(),
            pool,
            outbound,
            own_listeners,
            conductor,
            clock,
        })
    }

    /// Names the addresses that the server itself listens on, which tasks may not reach.
    pub fn set_own_listeners(&self, listeners: Vec<SocketAddr>) {
        self.own_listeners.store(Arc::new(listeners));
    }

    /// Gives functions the services of the runtime, which is built after this. The first call
    /// counts; until then functions that need services fail and are tried again.
    pub fn install_services(&self, services: Arc<dyn FunctionServices>) {
        drop(self.services.set(services));
    }

    /// The registered functions.
    #[must_use]
    pub const fn functions(&self) -> &FunctionRegistry {
        &self.functions
    }

    /// The conductor's client, if one is configured.
    #[must_use]
    pub const fn conductor(&self) -> Option<&ConductorClient> {
        self.conductor.as_ref()
    }

    /// The timeout of `task` when neither its config nor its schedule sets one: a function's own,
    /// else the type's.
    #[must_use]
    pub fn default_timeout(&self, task: &Task) -> Duration {
        match task {
            Task::Function(call) => self.functions.timeout_of(&call.name),
            _ => None,
        }
        .unwrap_or_else(|| task.default_timeout())
    }

    /// Runs `task` to its end. Must be awaited on a current-thread tokio runtime with a
    /// `LocalSet` (an actix arbiter is one); the future is not `Send`, as HTTP clients are not.
    ///
    /// Dropping it ends the task as if the server had gone. A handler's panic is an outcome; a
    /// panic of this code is caught too and is the outcome `failed` with kind `panic`.
    pub async fn run(
        &self,
        task: &Task,
        context: TaskContext,
        control: TaskControl,
        sink: Arc<dyn TaskSink>,
    ) -> Outcome {
        let running = self.dispatch(task, &context, &control, sink);
        match futures_util::FutureExt::catch_unwind(AssertUnwindSafe(running)).await {
            Ok(outcome) => outcome,
            Err(panic) => Outcome::failed(function::panic_error(panic.as_ref())),
        }
    }

    async fn dispatch(
        &self,
        task: &Task,
        context: &TaskContext,
        control: &TaskControl,
        sink: Arc<dyn TaskSink>,
    ) -> Outcome {
        // Boxed, so that a function, the cheapest of them, does not carry the size of the others.
        match task {
            Task::Shell(task) => {
                let limits = self.settings.limits.clone();
                let (clock, secrets) = (self.clock.clone(), self.secrets(&task.env));
                let listener = Listener { sink, clock, limits, secrets };
                Box::pin(shell::run(self, task, context, control, listener)).await
            }
            Task::Http(task) => {
                Box::pin(http::run(&self.outbound, &self.clock, task, context, control)).await
            }
            Task::Conductor(task) => {
                Box::pin(conductor::run(self.conductor.as_ref(), task, context, control)).await
            }
            Task::Function(task) => function::run(self, task, context, control, sink).await,
        }
    }

    pub(super) const fn shims(&self) -> &Reserve {
        &self.shims
    }

    pub(super) const fn groups(&self) -> Option<&GroupParent> {
        self.groups.as_ref()
    }

    pub(super) const fn open_files(&self) -> Option<u64> {
        self.settings.open_files
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    pub(super) fn base_environment(&self) -> &[(String, String)] {
        &self.settings.base_environment
    }

    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) const fn pool(&self) -> &FunctionPool {
        &self.pool
    }

    /// What delivers messages about alerts.
    #[must_use]
    pub fn notifier(&self) -> super::notify::Notifier {
        super::notify::Notifier::new(self.outbound.clone(), self.clock.clone())
    }

    pub(super) const fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    pub(super) fn services(&self) -> Option<Arc<dyn FunctionServices>> {
        self.services.get().cloned()
    }

    /// Where output that is too much for memory lies.
    pub(super) fn output_directory(&self) -> &Path {
        &self.output_directory
    }

    /// What is masked in the output of a task with these variables.
    pub(super) fn secrets(&self, variables: &[(String, String)]) -> Arc<Secrets> {
        Arc::new(Secrets::of(variables, &self.settings.secrets))
    }

    /// Waits for the right to hold one more large result in memory. After a while it is granted
    /// anyhow: a store that is away must not hold results back for ever.
    pub(super) async fn hold_result(&self) -> Option<ResultHold> {
        let turn = Arc::clone(&self.results).acquire_owned();
        let permit = tokio::time::timeout(LARGE_RESULT_WAIT, turn).await.ok()?.ok()?;
        Some(ResultHold { _permit: Arc::new(permit) })
    }

    /// The file of the event that set the task off, if one did.
    pub(super) fn event_file(&self, context: &TaskContext) -> Option<io::Result<EventFile>> {
        let event = context.event.as_deref()?;
        let name = format!("{}.event.json", context.execution_id);
        Some(EventFile::create(&self.progress_directory, &name, event))
    }

    pub(super) fn progress_file(&self, context: &TaskContext) -> io::Result<ProgressFile> {
        let name = format!("{}.jsonl", context.execution_id);
        ProgressFile::create(&self.progress_directory, &name)
    }
}

/// Makes the folder if need be, empties it, and answers its absolute path.
fn empty_directory(path: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(path)?;
    for entry in std::fs::read_dir(path)? {
        std::fs::remove_file(entry?.path())?;
    }
    path.canonicalize()
}
