//! What is asked of the system to say what needs a person.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::execution::Severity;

/// The cause of letters whose task ended the node that ran it.
pub const POISON: &str = "poison";

/// Everything the list is made of; each list is bounded by whoever fills it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The instant of the facts.
    pub now: DateTime<Utc>,
    /// The scheduler as it is stored.
    pub scheduler: SchedulerFact,
    /// Parts that do not fare well.
    pub health: Vec<PartFact>,
    /// Parts of the supervision tree.
    pub actors: Vec<ActorFact>,
    /// Boots of nodes, newest first.
    pub nodes: Vec<NodeFact>,
    /// Errors that are unresolved or escalated.
    pub errors: Vec<ErrorFact>,
    /// Letters that wait.
    pub letters: Vec<LetterFact>,
    /// Schedules whose instant is past the grace.
    pub overdue: Vec<ScheduleFact>,
    /// Schedules that their failures paused.
    pub paused_by_failures: Vec<ScheduleFact>,
    /// Executions that wait long past their instant.
    pub waiting: Vec<WaitingFact>,
    /// Executions whose processes stand still.
    pub paused: Vec<PausedFact>,
    /// Breakers that are not closed.
    pub breakers: Vec<BreakerFact>,
    /// Causes that came back after they were resolved.
    pub regressed: Vec<RegressedFact>,
    /// How fast letters are added.
    pub growth: Option<GrowthFact>,
    /// How long a pause lasts at most.
    pub pause_max: TimeDelta,
    /// A list was cut at its limit.
    pub truncated: bool,
}

/// The scheduler.
#[derive(Clone, Debug)]
pub struct SchedulerFact {
    /// It fires.
    pub is_running: bool,
    /// When it was stopped.
    pub stopped_at: Option<DateTime<Utc>>,
    /// Schedules that would fire.
    pub enabled_schedules: u64,
}

impl Default for SchedulerFact {
    fn default() -> Self {
        Self { is_running: true, stopped_at: None, enabled_schedules: 0 }
    }
}

/// A part that does not fare well.
#[derive(Clone, Debug)]
pub struct PartFact {
    /// Its name.
    pub name: String,
    /// Down, else degraded.
    pub is_down: bool,
    /// Why.
    pub detail: Option<String>,
}

/// An actor.
#[derive(Clone, Debug)]
pub struct ActorFact {
    /// Its dotted path.
    pub path: String,
    /// `running`, `backoff`, `stopped`, `failed`, ...
    pub state: String,
    /// Restarts that count.
    pub restarts: u64,
    /// Its last crash.
    pub crashed_at: Option<DateTime<Utc>>,
    /// Why.
    pub reason: Option<String>,
}

/// One boot of a node.
#[derive(Clone, Debug)]
pub struct NodeFact {
    /// The node's name.
    pub node_id: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Its lease's end.
    pub lease_until: DateTime<Utc>,
    /// It holds a lease, or lost it a moment ago.
    pub is_alive: bool,
    /// It said goodbye.
    pub is_stopped: bool,
}

/// An error that needs a person.
#[derive(Clone, Debug)]
pub struct ErrorFact {
    /// Row id.
    pub id: i64,
    /// Equal for the same cause.
    pub fingerprint: String,
    /// How bad.
    pub severity: Severity,
    /// Escalated, else unresolved.
    pub is_escalated: bool,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// The failure's kind.
    pub kind: String,
    /// Its message.
    pub message: String,
    /// Whose task.
    pub schedule_name: Option<String>,
    /// Who looks after it.
    pub assignee: Option<String>,
    /// Its cause is counted as a group; those from before there were groups have none.
    pub has_group: bool,
}

/// A letter that waits.
#[derive(Clone, Debug)]
pub struct LetterFact {
    /// Row id.
    pub id: i64,
    /// Its error.
    pub error_id: i64,
    /// Why it is there.
    pub cause: String,
    /// The schedule.
    pub schedule_id: Option<i64>,
    /// Its name.
    pub schedule_name: Option<String>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

/// A schedule, and since when something is the matter with it.
#[derive(Clone, Debug)]
pub struct ScheduleFact {
    /// Row id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
}

/// An execution that waits long past its instant.
#[derive(Clone, Debug)]
pub struct WaitingFact {
    /// Row id.
    pub id: i64,
    /// When it could have started.
    pub available_at: DateTime<Utc>,
    /// What holds it.
    pub held_reason: Option<String>,
    /// Its queue, if that is paused.
    pub paused_queue: Option<String>,
    /// Its target, if the breaker of that holds it.
    pub target: Option<String>,
}

/// An execution whose processes stand still.
#[derive(Clone, Debug)]
pub struct PausedFact {
    /// Row id.
    pub id: i64,
    /// Since when.
    pub paused_at: DateTime<Utc>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// A breaker that is not closed.
#[derive(Clone, Debug)]
pub struct BreakerFact {
    /// What is not asked.
    pub key: String,
    /// `open` or `half_open`.
    pub state: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// Who forced it open, if somebody did.
    pub forced_by: Option<String>,
    /// Why they did.
    pub reason: Option<String>,
    /// Executions that wait for it.
    pub waiting: u64,
}

/// A cause of errors that came back after somebody said that it was cured.
#[derive(Clone, Debug)]
pub struct RegressedFact {
    /// Equal for the same cause.
    pub fingerprint: String,
    /// The failures' kind.
    pub kind: String,
    /// The newest message.
    pub message: String,
    /// When it came back.
    pub regressed_at: Option<DateTime<Utc>>,
    /// How often it did.
    pub regressions: u64,
}

/// Letters that were added lately.
#[derive(Clone, Debug)]
pub struct GrowthFact {
    /// So many.
    pub added: u64,
    /// Within so long.
    pub window: TimeDelta,
    /// How many are worth an alert; 0 for none.
    pub threshold: u64,
}
