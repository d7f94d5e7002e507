//! What a tree is made of: child and supervisor specifications.
//!
//! A specification is a value that is built once, before anything runs, and read by every life of
//! the supervisor that owns it. It holds factories, never actors: a restart asks the factory for a
//! fresh actor, because the state of one that panicked is not to be trusted.
//!
//! Deliberately not here: specifications that change while the tree runs. The set of children is
//! fixed when the tree starts; what varies in number (sessions, jobs) is tasks, not children.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context};

use super::actor_ref::ActorRef;
use super::mailbox::MailboxGauge;
use super::messages::Messages;
use super::runner::{Launch, Worker};
use super::vitals::Vitals;

/// The heartbeat a child has unless it asks for another.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a worker may take to stop before it is aborted, unless it asks for another limit.
pub const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(5);
/// How long a worker may take to its first successful pass, unless it asks for another limit.
pub const DEFAULT_START_DEADLINE: Duration = Duration::from_secs(30);
/// The group of children that name none.
const DEFAULT_GROUP: &str = "default";

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after a crash; ending by itself is final.
    Transient,
    /// Never.
    Temporary,
}

/// Who goes down with a child that crashed, and is started again after it, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Nobody.
    #[default]
    OneForOne,
    /// The children that were started after it.
    RestForOne,
    /// All children of the supervisor.
    OneForAll,
}

impl Strategy {
    /// The name that reports use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::RestForOne => "rest_for_one",
            Self::OneForAll => "one_for_all",
        }
    }
}

/// How many restarts a supervisor makes in a window before it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLimit {
    /// Restarts allowed in the window; the next one makes the supervisor give up.
    pub restarts: usize,
    /// The window, sliding.
    pub within: Duration,
}

impl RestartLimit {
    /// The limit that suits the root of a tree, tighter because limits multiply through levels.
    pub const ROOT: Self = Self { restarts: 5, within: Duration::from_secs(60) };
}

impl Default for RestartLimit {
    fn default() -> Self {
        Self { restarts: 10, within: Duration::from_secs(60) }
    }
}

/// The delay before a crashed child is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first restart.
    pub first: Duration,
    /// What each further crash multiplies the delay by.
    pub factor: u32,
    /// No delay is longer.
    pub max: Duration,
    /// A child that has not crashed for so long starts over with `first`.
    pub forget: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            factor: 2,
            max: Duration::from_secs(5),
            forget: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The delay after `crashes` crashes in a row (1 is the first).
    #[must_use]
    pub fn delay(&self, crashes: u32) -> Duration {
        let power = self.factor.checked_pow(crashes.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(power).min(self.max)
    }
}

/// The name of a group of children that share one thread.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for GroupName {
    fn default() -> Self {
        Self::from(DEFAULT_GROUP)
    }
}

impl From<&str> for GroupName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl From<String> for GroupName {
    fn from(name: String) -> Self {
        Self(Arc::from(name))
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What the planner needs to know of a child; times are from the specification.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildPolicy {
    pub(crate) restart: Restart,
    pub(crate) shutdown: Duration,
    pub(crate) start_deadline: Option<Duration>,
    pub(crate) backoff: Backoff,
    pub(crate) waits_for_ready: bool,
}

/// What a child runs.
#[derive(Clone)]
pub(crate) enum Body {
    Worker { launch: Arc<dyn Launch>, gauge: Arc<dyn MailboxGauge> },
    Supervisor(Arc<SupervisorSpec>),
}

/// One child of a supervisor: a worker (an actor) or another supervisor.
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) name: Arc<str>,
    pub(crate) description: Arc<str>,
    pub(crate) policy: ChildPolicy,
    pub(crate) heartbeat: Duration,
    pub(crate) pass_deadline: Option<Duration>,
    pub(crate) group: GroupName,
    pub(crate) body: Body,
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChildSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ChildSpec {
    /// An actor, made anew by `factory` for every life and reached through `actor_ref` in all of
    /// them. The factory runs on the thread of the child's group; a panic in it is a failed start.
    pub fn worker<A, F>(name: &str, actor_ref: &ActorRef<A>, factory: F) -> Self
    where
        A: Messages + Actor<Context = Context<A>>,
        F: Fn(Vitals) -> A + Send + Sync + 'static,
    {
        let worker = Arc::new(Worker::new(actor_ref.mailbox(), Arc::new(factory)));
        Self::new(
            name,
            Body::Worker { launch: worker, gauge: actor_ref.mailbox() },
            Some(DEFAULT_START_DEADLINE),
            DEFAULT_SHUTDOWN,
        )
    }

    /// A supervisor. It has no start deadline of its own (its children have), and by default as
    /// long to stop as its children need one after the other.
    #[must_use]
    pub fn supervisor(name: &str, spec: SupervisorSpec) -> Self {
        let shutdown = spec.shutdown();
        Self::new(name, Body::Supervisor(Arc::new(spec)), None, shutdown)
    }

    fn new(name: &str, body: Body, start_deadline: Option<Duration>, shutdown: Duration) -> Self {
        Self {
            name: Arc::from(name),
            description: Arc::from(""),
            policy: ChildPolicy {
                restart: Restart::default(),
                shutdown,
                start_deadline,
                backoff: Backoff::default(),
                waits_for_ready: true,
            },
            heartbeat: DEFAULT_HEARTBEAT,
            pass_deadline: None,
            group: GroupName::default(),
            body,
        }
    }

    /// When it is started again; permanent by default.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.policy.restart = restart;
        self
    }

    /// How long it may take to stop before it is aborted.
    #[must_use]
    pub fn shutdown(mut self, deadline: Duration) -> Self {
        self.policy.shutdown = deadline;
        self
    }

    /// Without a beat for so long it is declared hung. The beats are automatic.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// The actor promises to call [`Vitals::beat`] at least so often; without, it is declared
    /// hung even though its context is alive. Off by default.
    #[must_use]
    pub fn pass_deadline(mut self, deadline: Duration) -> Self {
        self.pass_deadline = Some(deadline);
        self
    }

    /// How long it may take to its first successful pass; later is a failed start.
    #[must_use]
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.policy.start_deadline = Some(deadline);
        self
    }

    /// The delays between crash and restart.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// The thread it runs on, shared with all children of the tree that name the same group.
    /// When one of them blocks the thread, the whole group moves to a new one.
    #[must_use]
    pub fn on(mut self, group: impl Into<GroupName>) -> Self {
        self.group = group.into();
        self
    }

    /// Whether its successors wait for its [`Vitals::ready`] (the default). With `false` the
    /// actor has no start work: it counts as ready once `started` has returned.
    #[must_use]
    pub fn waits_for_ready(mut self, waits: bool) -> Self {
        self.policy.waits_for_ready = waits;
        self
    }

    /// What it is for, in a few words, for those who read the report.
    #[must_use]
    pub fn describe(mut self, text: &str) -> Self {
        self.description = Arc::from(text);
        self
    }

    /// Whether it is itself a supervisor.
    pub(crate) fn is_supervisor(&self) -> bool {
        matches!(self.body, Body::Supervisor(_))
    }
}

/// A supervisor: its children in start order, and what it does when one of them crashes.
#[derive(Clone, Debug, Default)]
pub struct SupervisorSpec {
    /// Who goes down with a crashed child.
    pub strategy: Strategy,
    /// How many restarts it makes before it gives up.
    pub limit: RestartLimit,
    /// Started in this order, stopped in reverse.
    pub children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// The longest its children may take to stop one after the other.
    fn shutdown(&self) -> Duration {
        let grace = super::plan::ABORT_GRACE.saturating_mul(2);
        self.children.iter().fold(grace, |sum, child| {
            sum.saturating_add(child.policy.shutdown).saturating_add(grace)
        })
    }
}
