//! The running system: its shared parts, its tree, and what others may ask of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::event::instant_text;
use crate::domain::execution::{Execution, ExecutionStatus};
use crate::domain::pressure::Pressure;
use crate::domain::recovery::RecoveryLimits;
use crate::runtime::conductor::{ConductorHealth, ConductorPlan};
use crate::runtime::events::{HubSettings, RingLimits};
use crate::runtime::executor::launcher::{ClaimTicket, Launcher};
use crate::runtime::guard::StoreHealth;
use crate::runtime::handles::{
    ActorCommand, ControlError, CrashMode, Handles, HealthState, HealthStatus, Phase, Readiness,
    SchedulerStatus, Wake as Who,
};
use crate::runtime::meter::{self, Gauges};
use crate::runtime::recovery::{LetterWatch, RecoveryParts};
use crate::runtime::scheduler::SchedulerParts;
use crate::runtime::scheduler::status::SchedulerStatus as SharedSchedulerStatus;
use crate::runtime::sessions::LiveState;
use crate::runtime::tree::Actors;
use crate::runtime::wake::Wake;
use crate::store::{Retention, Store};
use crate::supervision::{self, NodeReport, NodeState, Tree};
use crate::tasks::TaskEnvironment;
use crate::telemetry::{LogControl, Metrics};

/// A scheduler that has not looked for due instants for so long is not well.
const TICK_LATE: chrono::Duration = chrono::Duration::seconds(10);
/// Seconds in a day.
const DAY: u64 = 24 * 60 * 60;

/// What the actors share; clones share it all.
#[derive(Clone)]
pub struct Parts {
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// The clock.
    pub clock: Clock,
    /// The store.
    pub store: Store,
    /// What can run a task.
    pub environment: Arc<TaskEnvironment>,
    /// Where claimed rows become running tasks.
    pub launcher: Launcher,
    /// Those who watch.
    pub live: Arc<LiveState>,
    /// What is known of the database.
    pub store_health: Arc<StoreHealth>,
    /// What is known of the conductor.
    pub conductor_health: Arc<ConductorHealth>,
    /// What is known of the scheduler.
    pub scheduler_status: Arc<SharedSchedulerStatus>,
}

impl Parts {
    /// Limits of recovery, from the settings.
    #[must_use]
    pub fn recovery_limits(settings: &Settings) -> RecoveryLimits {
        let max = i32::try_from(settings.recovery.max_crash_attempts).unwrap_or(i32::MAX);
        RecoveryLimits { max_crash_attempts: max }
    }

    pub(super) fn recovery_parts(&self) -> RecoveryParts {
        RecoveryParts {
            store: self.store.clone(),
            clock: self.clock.clone(),
            launcher: self.launcher.clone(),
            limits: Self::recovery_limits(&self.settings),
            batch: i64::try_from(self.settings.recovery.batch_max).unwrap_or(i64::MAX),
            tick: self.settings.recovery.tick_ms.duration(),
            letters: LetterWatch {
                threshold: self.settings.recovery.dead_letter_alert.into(),
                window: self.settings.recovery.dead_letter_alert_ms.duration(),
            },
        }
    }

    pub(super) fn scheduler_parts(&self) -> SchedulerParts {
        SchedulerParts {
            store: self.store.clone(),
            clock: self.clock.clone(),
            launcher: self.launcher.clone(),
            status: self.scheduler_status.clone(),
            default_zone: self.settings.scheduler.timezone.name().to_owned(),
            tick: self.settings.scheduler.tick_ms.duration(),
            batch: self.settings.scheduler.batch_max,
        }
    }

    pub(super) fn hub_settings(&self) -> HubSettings {
        let events = &self.settings.events;
        HubSettings {
            interval: events.tail_ms.duration(),
            batch: i64::try_from(events.batch_max).unwrap_or(i64::MAX),
            ring: RingLimits::default(),
        }
    }

    pub(super) fn conductor_plan(&self) -> ConductorPlan {
        let conductor = &self.settings.conductor;
        ConductorPlan {
            command: conductor.command.clone(),
            restart: conductor.restart,
            health_every: conductor.health_ms.duration(),
        }
    }

    pub(super) fn retention(&self) -> Retention {
        let days = |days: u32| Duration::from_secs(u64::from(days) * DAY);
        let (keep, events) = (&self.settings.retention, &self.settings.events);
        Retention {
            completed: days(keep.completed_days),
            failed: days(keep.failed_days),
            logs: days(keep.logs_days),
            events: days(events.keep_days),
            events_min: i64::try_from(events.keep_min).unwrap_or(i64::MAX),
            dead_letters: days(self.settings.recovery.dead_letter_days),
            audit: days(keep.audit_days),
            batch: i64::try_from(keep.batch_max).unwrap_or(i64::MAX),
        }
    }
}

/// The running system.
pub struct System {
    parts: Parts,
    actors: Actors,
    tree: Tree,
    phase: AtomicU8,
    started: Instant,
    log: LogControl,
    metrics: Metrics,
}

impl System {
    /// A system whose tree was started and has not had its first pass yet.
    #[must_use]
    pub fn new(
        parts: Parts,
        actors: Actors,
        tree: Tree,
        log: LogControl,
        metrics: Metrics,
    ) -> Self {
        let phase = AtomicU8::new(Phase::Starting as u8);
        Self { parts, actors, tree, phase, started: Instant::now(), log, metrics }
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Goes on to a later phase; an earlier one is never gone back to.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Reads what the gauges show and folds the distributions; called every few seconds.
    pub async fn measure(&self) {
        let store = &self.parts.store;
        let counts = store.execution_counts().await.unwrap_or_default();
        let letters = store.dead_letter_stats().await.unwrap_or_default();
        let breakers = store.breaker_counts().await.unwrap_or_default();
        let (_, newest) = store.event_bounds().await.unwrap_or_default();
        meter::gauges(Gauges {
            running: self.parts.launcher.running().len(),
            ready: counts.ready,
            dead_letters: letters.pending,
            breakers_open: breakers.open + breakers.half_open,
            event_seq: newest,
            sessions: self.parts.live.table.count(),
        });
        mailboxes(&self.tree.report());
        self.metrics.run_upkeep();
    }

    fn actor_health(&self, path: &str) -> HealthState {
        match self.tree.find(path).map(|node| node.state) {
            Some(NodeState::Running) => ok(),
            Some(state) => {
                degraded(format!("{path} is {}", serde_json::to_value(state).unwrap_or_default()))
            }
            None => degraded(format!("{path} is not there")),
        }
    }

    fn resource_health(&self) -> HealthState {
        let pressure = self.parts.launcher.host().state().pressure;
        pressure.reason().map_or_else(ok, |reason| degraded(reason.to_owned()))
    }

    fn scheduler_health(&self) -> HealthState {
        let actor = self.actor_health("time.scheduler");
        let snapshot = self.parts.scheduler_status.snapshot();
        if actor.status != HealthStatus::Ok || !snapshot.running {
            return actor;
        }
        match snapshot.last_tick_at {
            Some(at) if self.parts.clock.now() - at > TICK_LATE => {
                degraded(format!("no tick since {}", instant_text(at)))
            }
            _ => actor,
        }
    }
}

fn mailboxes(node: &NodeReport) {
    if node.children.is_empty() {
        meter::mailbox(&node.path, node.mailbox_depth);
    }
    node.children.iter().for_each(mailboxes);
}

fn ok() -> HealthState {
    HealthState { status: HealthStatus::Ok, detail: None }
}

fn degraded(detail: String) -> HealthState {
    HealthState { status: HealthStatus::Degraded, detail: Some(detail) }
}

fn control_error(error: &supervision::ControlError) -> ControlError {
    match error {
        supervision::ControlError::UnknownPath { path, .. } => ControlError::NotFound(path.clone()),
        supervision::ControlError::WrongState { .. }
        | supervision::ControlError::UnknownMessage { .. } => {
            ControlError::WrongState(error.to_string())
        }
        _ => ControlError::Unavailable(error.to_string()),
    }
}

fn report_value(node: &NodeReport) -> Value {
    serde_json::to_value(node).unwrap_or_default()
}

#[async_trait]
impl Handles for System {
    fn claim_here(&self, wanted: usize) -> Option<ClaimTicket> {
        self.parts.launcher.ticket(wanted)
    }

    fn launched(&self, rows: Vec<Execution>, ticket: Option<ClaimTicket>) {
        let running = rows.into_iter().filter(|row| row.status == ExecutionStatus::Running);
        self.parts.launcher.launch(running, ticket);
    }

    fn cancel_requested(&self, id: i64) {
        if !self.parts.launcher.cancel(id) {
            self.wake(Who::Executor);
        }
    }

    fn wake(&self, what: Who) {
        let sent = match what {
            Who::Scheduler => self.actors.scheduler.try_send(Wake),
            Who::Executor => self.actors.executor.try_send(Wake),
            Who::Recovery => self.actors.recovery.try_send(Wake),
        };
        if let Err(error) = sent {
            // Harmless: the store is looked at within an interval anyway.
            tracing::debug!(?what, %error, "a wake-up was not delivered");
        }
    }

    fn scheduler_status(&self) -> SchedulerStatus {
        let shared = self.parts.scheduler_status.snapshot();
        let counters = self.parts.launcher.counters();
        SchedulerStatus {
            running: shared.running,
            started_at: shared.started_at,
            last_tick_at: shared.last_tick_at,
            dispatched: shared.dispatched,
            skipped: shared.skipped,
            completed: counters.completed.load(Ordering::Relaxed) as u64,
            failed: counters.failed.load(Ordering::Relaxed) as u64,
        }
    }

    async fn tree_report(&self) -> Value {
        report_value(&self.tree.report())
    }

    async fn actor_report(&self, path: &str) -> Result<Value, ControlError> {
        self.tree
            .find(path)
            .map(|node| report_value(&node))
            .ok_or_else(|| ControlError::NotFound(path.to_owned()))
    }

    async fn actor_command(
        &self,
        path: &str,
        command: ActorCommand,
    ) -> Result<Value, ControlError> {
        let done = match command {
            ActorCommand::Restart => self.tree.restart(path).await,
            ActorCommand::Stop => self.tree.stop(path).await,
            ActorCommand::Start => self.tree.start_node(path).await,
            ActorCommand::Crash(mode) => {
                let mode = match mode {
                    CrashMode::Panic => supervision::CrashMode::Panic,
                    CrashMode::Hang => supervision::CrashMode::Hang,
                    CrashMode::Stop => supervision::CrashMode::Stop,
                };
                self.tree.crash(path, mode).await
            }
        };
        done.map(|node| report_value(&node)).map_err(|error| control_error(&error))
    }

    fn crash_at_message(&self, path: &str, message: &str) -> Result<Value, ControlError> {
        let poisoned = self.tree.crash_at(path, message);
        poisoned.map(|node| report_value(&node)).map_err(|error| control_error(&error))
    }

    fn health(&self) -> Vec<(String, HealthState)> {
        let database = match self.parts.store.unwritable() {
            _ if !self.parts.store_health.is_up() => {
                let detail = Some("the database does not answer".to_owned());
                HealthState { status: HealthStatus::Down, detail }
            }
            Some(reason) => degraded(format!("nothing can be stored: {reason}")),
            None => ok(),
        };
        let mut parts = vec![
            ("database".to_owned(), database),
            ("scheduler".to_owned(), self.scheduler_health()),
            ("executor".to_owned(), self.actor_health("work.executor")),
            ("recovery".to_owned(), self.actor_health("work.recovery")),
            ("sessions".to_owned(), self.actor_health("ground.sessions")),
            ("events".to_owned(), self.actor_health("ground.events")),
            ("resources".to_owned(), self.resource_health()),
            ("triggers".to_owned(), self.actor_health("time.triggers")),
        ];
        if self.parts.settings.has_conductor() {
            let state = self.parts.conductor_health.state();
            let health = if state.answers {
                ok()
            } else {
                degraded(state.fault.unwrap_or_else(|| "it was not asked yet".to_owned()))
            };
            parts.push(("conductor".to_owned(), health));
        }
        parts
    }

    fn readiness(&self) -> Readiness {
        let not = |reason: &str| Readiness { ready: false, reason: Some(reason.to_owned()) };
        match self.phase() {
            Phase::Starting => not("starting"),
            Phase::Draining => not("draining"),
            Phase::Stopping => not("stopping"),
            Phase::Running if !self.parts.store_health.is_up() => {
                not("the database does not answer")
            }
            Phase::Running => Readiness { ready: true, reason: None },
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Running,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    async fn drain(&self) {
        self.parts.launcher.drain();
        self.enter(Phase::Draining);
        tracing::info!("draining: what runs goes on, nothing new is taken");
    }

    fn log_level(&self) -> String {
        self.log.level()
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        self.log.set_level(level).map_err(|error| error.to_string())
    }

    fn websocket_stats(&self) -> Value {
        serde_json::to_value(self.parts.live.stats()).unwrap_or_default()
    }

    fn conductor_workers(&self) -> Value {
        if !self.parts.settings.has_conductor() {
            return json!([]);
        }
        let state = self.parts.conductor_health.state();
        json!([{
            "url": self.parts.settings.conductor.url,
            "answers": state.answers,
            "askedAt": state.asked_at.map(instant_text),
            "fault": state.fault,
            "processRunning": state.process_running,
            "processRestarts": state.process_restarts,
            "lastExit": state.last_exit,
        }])
    }

    fn functions(&self) -> Value {
        serde_json::to_value(self.parts.environment.functions().list()).unwrap_or_default()
    }

    fn metrics_text(&self) -> String {
        self.metrics.render()
    }

    fn system(&self) -> Value {
        let claimant = self.parts.launcher.lease().claimant();
        let running = self.parts.launcher.running();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "nodeId": claimant.node_id,
            "bootId": claimant.boot_id,
            "backend": self.parts.store.backend_name(),
            "phase": self.phase().as_str(),
            "uptimeMs": u64::try_from(self.uptime().as_millis()).unwrap_or(u64::MAX),
            "slots": running.slots(),
            "running": running.len(),
            "leaseMs": u64::try_from(self.parts.launcher.lease().length().as_millis())
                .unwrap_or(u64::MAX),
            "databaseOutages": self.parts.store_health.outages(),
            "databasePingMs": self.parts.store_health.ping().as_secs_f64() * 1000.0,
        })
    }

    fn resources(&self) -> Value {
        let claimant = self.parts.launcher.lease().claimant();
        let running = self.parts.launcher.running();
        let host = self.parts.launcher.host().state();
        let takes = match &host.pressure {
            Pressure::None => "all",
            Pressure::HighOnly(_) => "high",
            Pressure::Stop(_) => "nothing",
        };
        json!({
            "nodeId": claimant.node_id,
            "bootId": claimant.boot_id,
            "host": host.sample,
            "takes": takes,
            "reason": host.pressure.reason(),
            "slots": running.slots(),
            "running": running.len(),
        })
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}
