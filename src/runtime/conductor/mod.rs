//! The conductor's keeper: asks whether it answers, and keeps its subprocess running when the
//! settings name a command.
//!
//! A subprocess that ends is started again with back-off; tasks that failed meanwhile failed
//! transiently and are retried by policy, which outlasts a restart. A restart of this actor ends
//! and restarts the subprocess: it belongs to this life.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::supervision::Vitals;
use crate::tasks::conductor::{ConductorCommand, ConductorProcess};
use crate::tasks::{LogLine, Progress, TaskEnvironment, TaskSink};

/// First wait before an ended subprocess is started again; doubles up to [`RESTART_MAX`].
const RESTART_FIRST: Duration = Duration::from_millis(250);
/// Longest such wait.
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A subprocess that ran so long starts with the first wait again.
const PEACE: Duration = Duration::from_secs(60);
/// How often a conductor that does not answer is asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What is known of the conductor; survives the actor's generations.
#[derive(Debug, Default)]
pub struct ConductorHealth {
    state: Mutex<ConductorState>,
}

/// A copy of what is known.
#[derive(Clone, Debug, Default)]
pub struct ConductorState {
    /// It answered when it was last asked.
    pub answers: bool,
    /// When it was last asked.
    pub asked_at: Option<Timestamp>,
    /// Why it did not answer.
    pub fault: Option<String>,
    /// Its subprocess is running; `None` when there is none to run.
    pub process_running: Option<bool>,
    /// How often the subprocess was started again.
    pub process_restarts: u64,
    /// How the subprocess last ended.
    pub last_exit: Option<String>,
}

impl ConductorHealth {
    /// A copy of what is known.
    #[must_use]
    pub fn state(&self) -> ConductorState {
        self.state.lock().clone()
    }
}

/// How the conductor is kept.
#[derive(Clone, Debug)]
pub struct ConductorPlan {
    /// Program and arguments of the subprocess; empty for none.
    pub command: Vec<String>,
    /// Start it again when it ends.
    pub restart: bool,
    /// How often it is asked whether it answers.
    pub health_every: Duration,
}

/// The conductor's keeper.
pub struct Conductor {
    environment: Arc<TaskEnvironment>,
    plan: ConductorPlan,
    health: Arc<ConductorHealth>,
    clock: Clock,
    vitals: Vitals,
}

impl Conductor {
    /// A keeper that follows `plan`.
    #[must_use]
    pub fn new(
        environment: Arc<TaskEnvironment>,
        plan: ConductorPlan,
        health: Arc<ConductorHealth>,
        clock: Clock,
        vitals: Vitals,
    ) -> Self {
        Self { environment, plan, health, clock, vitals }
    }
}

crate::actor_messages!(Conductor:);

impl Actor for Conductor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Nobody waits for a conductor: its tasks fail transiently until it answers.
        self.vitals.ready();
        let asking = ask(
            self.environment.clone(),
            self.plan.clone(),
            self.health.clone(),
            self.clock.clone(),
        );
        ctx.spawn(asking.into_actor(self));
        if !self.plan.command.is_empty() {
            let keeping = keep(self.environment.clone(), self.plan.clone(), self.health.clone());
            ctx.spawn(keeping.into_actor(self));
        }
    }
}

async fn ask(
    environment: Arc<TaskEnvironment>,
    plan: ConductorPlan,
    health: Arc<ConductorHealth>,
    clock: Clock,
) {
    let Some(client) = environment.conductor() else { return };
    loop {
        let answer = client.health().await;
        let answers = answer.is_ok();
        let was = {
            let mut state = health.state.lock();
            state.asked_at = Some(clock.now());
            state.fault = answer.err().map(|error| error.message);
            std::mem::replace(&mut state.answers, answers)
        };
        if was != answers {
            tracing::info!(answers, "the conductor's health changed");
        }
        tokio::time::sleep(if answers { plan.health_every } else { ASK_AGAIN }).await;
    }
}

async fn keep(
    environment: Arc<TaskEnvironment>,
    plan: ConductorPlan,
    health: Arc<ConductorHealth>,
) {
    let mut wait = RESTART_FIRST;
    loop {
        let started = Instant::now();
        let exit = run_once(&environment, &plan, &health).await;
        tracing::warn!(exit, "the conductor's process ended");
        {
            let mut state = health.state.lock();
            state.process_running = Some(false);
            state.last_exit = Some(exit);
        }
        if !plan.restart {
            return;
        }
        if started.elapsed() >= PEACE {
            wait = RESTART_FIRST;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RESTART_MAX);
        health.state.lock().process_restarts += 1;
    }
}

async fn run_once(
    environment: &TaskEnvironment,
    plan: &ConductorPlan,
    health: &ConductorHealth,
) -> String {
    let mut words = plan.command.iter().cloned();
    let command = ConductorCommand {
        program: words.next().unwrap_or_default(),
        args: words.collect(),
        cwd: None,
        env: Vec::new(),
    };
    match ConductorProcess::start(environment, command, Arc::new(ServerLog)).await {
        Ok(process) => {
            health.state.lock().process_running = Some(true);
            let exit = process.wait().await;
            exit.fault.unwrap_or_else(|| match (exit.exit_code, exit.signal) {
                (Some(code), _) => format!("exit status {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "unknown".to_owned(),
            })
        }
        Err(error) => format!("it could not be started: {error}"),
    }
}

/// The subprocess's output goes to the server's log at level `debug`, escaped by the log.
struct ServerLog;

impl TaskSink for ServerLog {
    fn log(&self, line: LogLine) {
        tracing::debug!(stream = line.stream.name(), text = line.text, "conductor output");
    }

    fn progress(&self, _: Progress) {}
}
