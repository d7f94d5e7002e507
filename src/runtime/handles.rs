//! What others may ask of the running system: verbs of intent, no addresses, no mailboxes.
//!
//! The HTTP layer holds one `Arc<dyn Handles>` and nothing else of the runtime. Every method is
//! either a cheap read of shared counters, a wake-up that may be lost without harm (the store is
//! the truth, messages are hints), or an operator's command to the supervision tree. No method
//! waits for an actor to do durable work.
//!
//! Deliberately not here: anything that changes schedules, executions or errors. Those are store
//! operations followed by a [`Handles::wake`].

use async_trait::async_trait;
use serde_json::Value;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::execution::Execution;
use crate::runtime::executor::launcher::ClaimTicket;

/// Who is to look at the store again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    /// Schedules or the scheduler's state changed.
    Scheduler,
    /// Executions wait, or were asked to cancel.
    Executor,
    /// Retries were planned or withdrawn.
    Recovery,
}

/// Where the whole server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The tree has not had its first pass: nothing but `/livez` answers.
    Starting,
    /// All is open.
    Running,
    /// What runs is finished, nothing new is taken.
    Draining,
    /// The server is about to close.
    Stopping,
}

impl Phase {
    /// The word for it in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// The scheduler of this process, read from shared counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerStatus {
    /// Whether the actor fires schedules in this process.
    pub running: bool,
    /// When this generation started.
    pub started_at: Option<Timestamp>,
    /// When it last looked at what is due.
    pub last_tick_at: Option<Timestamp>,
    /// Executions made from planned instants since the process started.
    pub dispatched: u64,
    /// Planned instants that went to the ledger since then.
    pub skipped: u64,
    /// Executions that ended well on this node since then.
    pub completed: u64,
    /// Executions that ended `failed` or `timeout` on this node since then.
    pub failed: u64,
}

/// How a part fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthStatus {
    /// As it should be.
    Ok,
    /// Works, but a person should look.
    Degraded,
    /// Does not work.
    Down,
}

impl HealthStatus {
    /// The word for it in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// One part's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthState {
    /// How it fares.
    pub status: HealthStatus,
    /// Why, when there is something to say.
    pub detail: Option<String>,
}

/// Whether traffic should be sent here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Yes or no.
    pub ready: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// Why a command to the supervision tree did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such actor.
    #[error("there is no actor `{0}`")]
    NotFound(String),
    /// Its state does not allow the command; a sentence for a person.
    #[error("{0}")]
    WrongState(String),
    /// The tree did not answer.
    #[error("the supervision tree did not answer: {0}")]
    Unavailable(String),
}

/// An operator's command to one actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorCommand {
    /// Stop it gracefully and start a fresh generation.
    Restart,
    /// Stop it until it is started again.
    Stop,
    /// Start it again.
    Start,
    /// Make it fail; exists only with `admin.faultInjection`.
    Crash(CrashMode),
}

/// How an injected fault fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// It panics in a handler.
    Panic,
    /// It stops answering.
    Hang,
    /// It stops of itself.
    Stop,
}

/// The running system as the HTTP layer sees it.
#[async_trait]
pub trait Handles: Send + Sync {
    /// Reserves up to `wanted` free slots, so that a row may be claimed in the transaction that
    /// creates it; `None` when nothing is free or this node takes no work. A ticket that is
    /// dropped gives its slots back.
    fn claim_here(&self, wanted: usize) -> Option<ClaimTicket>;

    /// Hands the rows that were claimed here (status `running`; others are left out) to the
    /// executor and gives the ticket's slots back.
    fn launched(&self, rows: Vec<Execution>, ticket: Option<ClaimTicket>);

    /// Asks for a look at the store; a lost wake-up costs an interval.
    fn wake(&self, what: Wake);

    /// Tells a running task of this node at once that somebody asked to cancel it; a task of
    /// another node learns it from the store.
    fn cancel_requested(&self, id: i64);

    /// The scheduler's counters.
    fn scheduler_status(&self) -> SchedulerStatus;

    /// The supervision tree as one root node (`api.md`, Admin).
    async fn tree_report(&self) -> Value;

    /// One node with its crash history.
    ///
    /// # Errors
    /// `NotFound`.
    async fn actor_report(&self, path: &str) -> Result<Value, ControlError>;

    /// Carries out a command and answers with the node's new state.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Unavailable`.
    async fn actor_command(&self, path: &str, command: ActorCommand)
    -> Result<Value, ControlError>;

    /// Every configured part and how it fares; parts that are not configured are left out.
    fn health(&self) -> Vec<(String, HealthState)>;

    /// Whether traffic should be sent here.
    fn readiness(&self) -> Readiness;

    /// Where the server stands.
    fn phase(&self) -> Phase;

    /// Takes no new work from now on; returns at once.
    async fn drain(&self);

    /// The log filter in force.
    fn log_level(&self) -> String;

    /// Makes an actor panic at the next message of that name; exists only with
    /// `admin.faultInjection`.
    ///
    /// # Errors
    /// `NotFound` for the actor, `WrongState` for a message that it does not take.
    fn crash_at_message(&self, path: &str, message: &str) -> Result<Value, ControlError>;

    /// Sets the log filter.
    ///
    /// # Errors
    /// A sentence for a person when `level` is not a filter.
    fn set_log_level(&self, level: &str) -> Result<(), String>;

    /// `{connections, rooms, sent, dropped, perSecond}`.
    fn websocket_stats(&self) -> Value;

    /// The conductor's workers as they were last seen.
    fn conductor_workers(&self) -> Value;

    /// The registered handlers with their payload schemas, as a list.
    fn functions(&self) -> Value;

    /// All metrics in the Prometheus text form.
    fn metrics_text(&self) -> String;

    /// Facts about this node for `GET /api/admin/system`, as an object.
    fn system(&self) -> Value;

    /// This node's machine for `GET /api/v2/resources`, as an object with `nodeId` and `bootId`.
    fn resources(&self) -> Value;

    /// Time since the process started.
    fn uptime(&self) -> Duration;
}
