//! The supervision tree on one screen.
//!
//! `one_for_one` throughout: every actor reads the store when it starts, so none depends on a
//! sibling's memory. The order is the order of start; each waits for the first successful pass of
//! the one before. Threads are pinned here: what blocks moves with its group.

use std::sync::Arc;
use std::time::Duration;

use crate::runtime::alerts::Alerts;
use crate::runtime::conductor::Conductor;
use crate::runtime::events::{EventHub, OnPass};
use crate::runtime::executor::Executor;
use crate::runtime::guard::StoreGuard;
use crate::runtime::janitor::Janitor;
use crate::runtime::nodes::Nodes;
use crate::runtime::recovery::Recovery;
use crate::runtime::scheduler::Scheduler;
use crate::runtime::sessions::SessionRegistry;
use crate::runtime::system::Parts;
use crate::runtime::triggers::Triggers;
use crate::supervision::{ActorRef, ChildSpec, RestartLimit, Strategy, SupervisorSpec, Vitals};

/// Messages that may wait for an actor.
const MAILBOX: usize = 1_000;
/// Restarts of one supervisor's children before it gives up.
const LIMIT: RestartLimit = RestartLimit { restarts: 10, within: Duration::from_secs(60) };
/// The same of the root.
const ROOT_LIMIT: RestartLimit = RestartLimit { restarts: 5, within: Duration::from_secs(60) };
/// How long a first pass may take: it waits out an absent database, which is no fault of the
/// actor that waits.
const FIRST_PASS: Duration = Duration::from_secs(24 * 60 * 60);

/// A reference to each actor; they exist before the actors do.
#[derive(Clone)]
pub struct Actors {
    pub(super) store_guard: ActorRef<StoreGuard>,
    pub(super) events: ActorRef<EventHub>,
    pub(super) sessions: ActorRef<SessionRegistry>,
    pub(super) executor: ActorRef<Executor>,
    pub(super) recovery: ActorRef<Recovery>,
    pub(super) scheduler: ActorRef<Scheduler>,
    pub(super) triggers: ActorRef<Triggers>,
    pub(super) nodes: ActorRef<Nodes>,
    pub(super) janitor: ActorRef<Janitor>,
    pub(super) alerts: ActorRef<Alerts>,
    pub(super) conductor: ActorRef<Conductor>,
}

impl Default for Actors {
    fn default() -> Self {
        Self {
            store_guard: ActorRef::new(MAILBOX),
            events: ActorRef::new(MAILBOX),
            sessions: ActorRef::new(MAILBOX),
            executor: ActorRef::new(MAILBOX),
            recovery: ActorRef::new(MAILBOX),
            scheduler: ActorRef::new(MAILBOX),
            triggers: ActorRef::new(MAILBOX),
            nodes: ActorRef::new(MAILBOX),
            janitor: ActorRef::new(MAILBOX),
            alerts: ActorRef::new(MAILBOX),
            conductor: ActorRef::new(MAILBOX),
        }
    }
}

/// The tree of these parts.
#[must_use]
pub fn spec(parts: &Parts, actors: &Actors) -> SupervisorSpec {
    SupervisorSpec {
        strategy: Strategy::OneForOne,
        limit: ROOT_LIMIT,
        children: vec![
            supervisor("ground", "the store's health, events, sessions", ground(parts, actors)),
            // Before the work: a first pass over a large backlog takes longer than a lease.
            supervisor("partners", "the rest of the world", partners(parts, actors)),
            supervisor("work", "runs what is due and recovers what failed", work(parts, actors)),
            supervisor("time", "fires schedules", time(parts, actors)),
        ],
    }
}

fn supervisor(name: &str, about: &str, children: Vec<ChildSpec>) -> ChildSpec {
    let spec = SupervisorSpec { strategy: Strategy::OneForOne, limit: LIMIT, children };
    ChildSpec::supervisor(name, spec).describe(about)
}

fn ground(parts: &Parts, actors: &Actors) -> Vec<ChildSpec> {
    let (guard, events, sessions) = (parts.clone(), parts.clone(), parts.clone());
    vec![
        ChildSpec::worker("store_guard", &actors.store_guard, move |vitals| {
            StoreGuard::new(guard.store.clone(), guard.store_health.clone(), vitals)
        })
        .describe("asks whether the database answers")
        .start_deadline(FIRST_PASS)
        .on("ground"),
        ChildSpec::worker("events", &actors.events, move |vitals| {
            let feed = events.live.feed.clone();
            EventHub::new(feed, events.clock.clone(), events.hub_settings(), pass(vitals))
        })
        .describe("tails the store's events for those who watch")
        .start_deadline(FIRST_PASS)
        .on("ground"),
        ChildSpec::worker("sessions", &actors.sessions, move |vitals| {
            let rows = Arc::new(sessions.store.clone());
            SessionRegistry::new(sessions.live.clone(), rows, pass(vitals))
        })
        .describe("keeps account of the WebSocket sessions")
        .start_deadline(FIRST_PASS)
        .on("ground"),
    ]
}

/// What the live side calls after each good pass.
fn pass(vitals: Vitals) -> OnPass {
    Arc::new(move || vitals.ready())
}

fn work(parts: &Parts, actors: &Actors) -> Vec<ChildSpec> {
    let (executor, recovery) = (parts.clone(), parts.clone());
    vec![
        ChildSpec::worker("executor", &actors.executor, move |vitals| {
            let batch = executor.settings.executor.claim_batch_max;
            Executor::new(executor.launcher.clone(), executor.store.clone(), batch, vitals)
        })
        .describe("claims what waits and runs it")
        .start_deadline(FIRST_PASS)
        .on("work"),
        ChildSpec::worker("recovery", &actors.recovery, move |vitals| {
            Recovery::new(recovery.recovery_parts(), vitals)
        })
        .describe("starts retries, takes over what lost nodes left")
        .start_deadline(FIRST_PASS)
        .on("work"),
    ]
}

fn time(parts: &Parts, actors: &Actors) -> Vec<ChildSpec> {
    let (scheduler, triggers) = (parts.clone(), parts.clone());
    vec![
        ChildSpec::worker("scheduler", &actors.scheduler, move |vitals| {
            Scheduler::new(scheduler.scheduler_parts(), vitals)
        })
        .describe("fires every planned instant once, on time")
        .start_deadline(FIRST_PASS)
        .on("ground"),
        ChildSpec::worker("triggers", &actors.triggers, move |vitals| {
            let tick = triggers.settings.scheduler.tick_ms.duration();
            Triggers::new(triggers.store.clone(), triggers.launcher.clone(), tick, vitals)
        })
        .describe("fires schedules by events")
        .start_deadline(FIRST_PASS)
        .on("work"),
    ]
}

fn partners(parts: &Parts, actors: &Actors) -> Vec<ChildSpec> {
    let (nodes, janitor, conductor) = (parts.clone(), parts.clone(), parts.clone());
    let alerts = parts.clone();
    let mut children = vec![
        ChildSpec::worker("nodes", &actors.nodes, move |vitals| {
            Nodes::new(nodes.launcher.clone(), nodes.store.clone(), vitals)
        })
        .describe("keeps this node's lease, fences it when that fails")
        .start_deadline(FIRST_PASS)
        .on("partners"),
        ChildSpec::worker("janitor", &actors.janitor, move |vitals| {
            let every = janitor.settings.retention.sweep_ms.duration();
            Janitor::new(janitor.store.clone(), janitor.retention(), every, vitals)
        })
        .describe("deletes what is past its time")
        .on("partners"),
        ChildSpec::worker("alerts", &actors.alerts, move |vitals| {
            Alerts::new(alerts.store.clone(), alerts.environment.notifier(), vitals)
        })
        .describe("raises alerts and delivers them")
        .start_deadline(FIRST_PASS)
        .on("partners"),
    ];
    if parts.settings.has_conductor() {
        children.push(
            ChildSpec::worker("conductor", &actors.conductor, move |vitals| {
                Conductor::new(
                    conductor.environment.clone(),
                    conductor.conductor_plan(),
                    conductor.conductor_health.clone(),
                    conductor.clock.clone(),
                    vitals,
                )
            })
            .describe("asks the conductor for its health, keeps its process running")
            .on("partners"),
        );
    }
    children
}
