//! The supervisor: applies its plan to real lives.
//!
//! A supervisor is a task on the tree's own thread, where no child runs, so no child can block it.
//! It is an ordinary child of its parent: it can crash, hang, be stopped and restarted, and when
//! it is over its restart limit it stops its children and fails. What it owns are the control
//! channels of its children's lives; when it goes, in whichever way, they close, and the lives end.
//!
//! All decisions are made in `plan`. Here are the effects: launching, watching, filing crashes,
//! publishing states.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::control::{Command, Verb};
use super::groups::{Groups, Place};
use super::node::{Board, Node};
use super::panics::Guarded;
use super::plan::{ABORT_GRACE, Action, Ending, Event, Phase, Plan, Policy};
use super::report::{Crash, CrashKind, CrashMode, NodeState, Notice};
use super::runner::{ChildEvent, Control, Exit, ExitReport, Failure, Life, News};
use super::spec::{Body, ChildSpec, SupervisorSpec};
use super::vitals::{Pulse, Vitals, beat_period};

/// How long a supervisor that crashed waits for its children's lives to end before it counts as
/// gone; those that do not are on a blocked thread, and their group moves. Shorter than the grace
/// that its parent gives an abort.
const SETTLE_DEADLINE: Duration = Duration::from_millis(300);
/// How often it looks meanwhile.
const SETTLE_PERIOD: Duration = Duration::from_millis(2);
/// A watch that comes so many periods late says more about this thread than about its children.
const LATE_PERIODS: u32 = 4;

/// What all supervisors of a tree share.
pub(crate) struct Realm {
    pub(crate) groups: Groups,
    pub(crate) board: Arc<Board>,
}

/// The current life of a child, as its supervisor sees it.
struct Held {
    generation: u64,
    id: u64,
    control: UnboundedSender<Control>,
    pulse: Arc<Pulse>,
    place: Option<Place>,
}

/// One life of a supervisor.
pub(crate) struct Supervisor {
    realm: Rc<Realm>,
    node: Arc<Node>,
    spec: Arc<SupervisorSpec>,
    vitals: Vitals,
    /// It watches the root: when its child gives up, so does it.
    keeper: bool,
    period: Duration,
    plan: Plan,
    started: Instant,
    last_watch: Instant,
    held: Vec<Option<Held>>,
    events: (UnboundedSender<ChildEvent>, UnboundedReceiver<ChildEvent>),
    commands: UnboundedReceiver<Command>,
    last_failure: Option<Failure>,
    over: Option<Exit>,
}

impl Supervisor {
    /// A supervisor that has launched nothing yet; `heartbeat` is its own.
    pub(crate) fn new(
        realm: Rc<Realm>,
        node: Arc<Node>,
        spec: Arc<SupervisorSpec>,
        vitals: Vitals,
        heartbeat: Duration,
    ) -> Self {
        let policy = Policy {
            strategy: spec.strategy,
            limit: spec.limit,
            children: spec.children.iter().map(|child| child.policy).collect(),
        };
        let is_held = |child: usize| {
            node.children.get(child).is_some_and(|child| child.held.load(Ordering::Acquire))
        };
        let plan = Plan::new(policy, is_held);
        let periods = spec.children.iter().map(|child| beat_period(child.heartbeat));
        let period = periods.fold(beat_period(heartbeat), Duration::min);
        let (sender, commands) = unbounded_channel();
        node.set_commands(Some(sender));
        node.open();
        let now = Instant::now();
        Self {
            realm,
            vitals,
            keeper: false,
            period,
            plan,
            started: now,
            last_watch: now,
            held: spec.children.iter().map(|_| None).collect(),
            node,
            spec,
            events: unbounded_channel(),
            commands,
            last_failure: None,
            over: None,
        }
    }

    /// Makes it the one that watches the root.
    pub(crate) const fn into_keeper(mut self) -> Self {
        self.keeper = true;
        self
    }

    /// Runs until it is told to stop, gives up or is injected a crash.
    pub(crate) async fn run(mut self, mut control: UnboundedReceiver<Control>) -> Exit {
        let mut moves = self.realm.groups.watch();
        let mut next_watch = Instant::now() + self.period;
        self.apply(Event::Tick);
        loop {
            if let Some(exit) = self.over.take() {
                return exit;
            }
            self.vitals.beat();
            let wake = self.plan.next_wake().map(|at| self.started + at);
            let wake = wake.map_or(next_watch, |at| at.min(next_watch));
            tokio::select! {
                biased;
                order = control.recv() => match order {
                    Some(Control::Stop { for_good }) => self.apply(Event::Close { for_good }),
                    Some(Control::Inject(CrashMode::Stop)) => {
                        self.apply(Event::Close { for_good: false });
                    }
                    Some(Control::Inject(CrashMode::Panic)) => {
                        #[expect(clippy::panic, reason = "a crash on demand")]
                        std::panic::panic_any("injected panic");
                    }
                    Some(Control::Inject(CrashMode::Hang)) => std::future::pending().await,
                    Some(Control::Abort) | None => return Exit::Aborted,
                },
                Some(event) = self.events.1.recv() => self.hear(event),
                Some(command) = self.commands.recv() => self.obey(command),
                Ok(()) = moves.changed() => self.follow_moves(),
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= next_watch {
                        self.watch();
                        next_watch = Instant::now() + self.period;
                    }
                    self.apply(Event::Tick);
                }
            }
        }
    }

    fn child(&self, child: usize) -> Option<(&ChildSpec, &Arc<Node>)> {
        Some((self.spec.children.get(child)?, self.node.children.get(child)?))
    }

    fn life(&self, child: usize) -> Option<&Held> {
        self.held.get(child)?.as_ref()
    }

    /// Takes in an event about a child's life.
    fn hear(&mut self, event: ChildEvent) {
        let child = event.child;
        if self.life(child).is_none_or(|life| life.generation != event.generation) {
            return;
        }
        match event.news {
            News::Ready => self.apply(Event::Ready(child)),
            News::Exited(exit) => {
                if let Some(held) = self.held.get_mut(child) {
                    *held = None;
                }
                let crashed = match exit {
                    Exit::Normal | Exit::Aborted => false,
                    Exit::Crashed(failure) => {
                        self.file(child, failure);
                        true
                    }
                    Exit::GaveUp(failure) => {
                        self.file(child, failure);
                        if self.keeper {
                            // Nobody is left to decide: the tree ends here.
                            self.apply(Event::Close { for_good: true });
                            self.realm.board.gave_up.send_replace(true);
                        }
                        true
                    }
                };
                self.apply(Event::Exited { child, crashed });
            }
        }
    }

    /// Decides about an event, and does what was decided.
    fn apply(&mut self, event: Event) {
        let now = self.started.elapsed();
        for action in self.plan.step(now, event) {
            match action {
                Action::Launch(child) => self.launch(child),
                Action::AskStop { child, for_good } => self.ask_stop(child, for_good),
                Action::StartTimedOut(child) => {
                    let reason = "no successful first pass in time".to_owned();
                    self.file(child, Failure::new(CrashKind::StartFailed, reason));
                }
                Action::Abort(child) => self.tell(child, Control::Abort),
                Action::Abandon(child) => self.abandon(child),
                Action::End(ending) => self.end(ending),
            }
        }
        self.publish();
    }

    fn tell(&self, child: usize, order: Control) {
        if let Some(life) = self.life(child) {
            // A life that is over has reported so; that event is on its way.
            let _ = life.control.send(order);
        }
    }

    fn launch(&mut self, child: usize) {
        let Some((spec, node)) = self.child(child) else { return };
        let pulse = Arc::new(Pulse::new());
        let (generation, restarts) = node.begin(Arc::clone(&pulse));
        let (control, orders) = unbounded_channel();
        let events = self.events.0.clone();
        let ready = events.clone();
        let vitals = Vitals::new(
            Arc::clone(&pulse),
            Arc::clone(&node.counters),
            generation,
            Arc::clone(&node.path),
            Arc::new(move || {
                drop(ready.send(ChildEvent { child, generation, news: News::Ready }));
            }),
        );
        let id = self.realm.board.next_life();
        let life = Life {
            id,
            vitals,
            heartbeat: spec.heartbeat,
            ready_at_once: !spec.policy.waits_for_ready,
            control: orders,
            exit: ExitReport::new(events, child, generation, Arc::clone(node)),
        };
        if let Some(gauge) = &node.gauge {
            gauge.open();
        }
        let path = node.path.to_string();
        let place = match &spec.body {
            Body::Worker { launch, .. } => self.place(spec, node).inspect(|place| {
                // On a thread that is gone the life reports its end by itself.
                launch.launch(life, place);
            }),
            Body::Supervisor(inner) => {
                let inner = Arc::clone(inner);
                launch_supervisor(Rc::clone(&self.realm), Arc::clone(node), inner, life);
                None
            }
        };
        if let Some(held) = self.held.get_mut(child) {
            *held = Some(Held { generation, id, control, pulse, place });
        }
        if restarts > 0 {
            tracing::info!(actor = path, actor.generation = generation, "actor restarted");
            self.realm.board.notify(&Notice::Restarted { path, generation, restarts });
        }
    }

    /// A place on a living thread of the child's group. Without one (the system has no thread to
    /// give) the life is dropped, which reports it as crashed, to be tried again.
    fn place(&self, spec: &ChildSpec, node: &Node) -> Option<Place> {
        let groups = &self.realm.groups;
        let place = groups.place(&spec.group).and_then(|place| {
            if place.handle.alive() { Ok(place) } else { groups.replace(&spec.group, place.epoch) }
        });
        match place {
            Ok(place) => {
                node.set_epoch(place.epoch);
                Some(place)
            }
            Err(error) => {
                tracing::error!(%error, group = %spec.group, "no thread for a group of actors");
                None
            }
        }
    }

    fn ask_stop(&self, child: usize, for_good: bool) {
        if for_good && let Some((_, node)) = self.child(child) {
            // Supervisors pass it on, so that children close in the order in which they stop.
            if let Some(gauge) = &node.gauge {
                gauge.close();
            }
        }
        self.tell(child, Control::Stop { for_good });
    }

    fn abandon(&mut self, child: usize) {
        let Some((spec, node)) = self.child(child) else { return };
        let Some(life) = self.life(child) else { return };
        node.leave(life.generation);
        tracing::error!(actor = %node.path, group = %spec.group,
            "the thread of an actor is blocked and was abandoned");
        if let Body::Worker { launch, .. } = &spec.body {
            launch.retire();
        }
        if let Some(place) = &life.place
            && let Err(error) = self.realm.groups.replace(&spec.group, place.epoch)
        {
            tracing::error!(%error, "no new thread for a group of actors");
        }
        if let Some(held) = self.held.get_mut(child) {
            *held = None;
        }
    }

    /// Brings children along whose group has moved to another thread.
    fn follow_moves(&mut self) {
        for child in 0..self.held.len() {
            let Some((spec, node)) = self.child(child) else { continue };
            let Some(life) = self.life(child) else { continue };
            let Some(place) = &life.place else { continue };
            if self.realm.groups.epoch(&spec.group).is_none_or(|epoch| epoch == place.epoch) {
                continue;
            }
            node.leave(life.generation);
            if let Body::Worker { launch, .. } = &spec.body {
                launch.retire();
            }
            if let Some(held) = self.held.get_mut(child) {
                *held = None;
            }
            self.apply(Event::Displaced(child));
        }
    }

    /// Looks for children that stand still.
    fn watch(&mut self) {
        let now = Instant::now();
        let late = now.duration_since(self.last_watch) > self.period.saturating_mul(LATE_PERIODS);
        self.last_watch = now;
        if late {
            return;
        }
        for child in 0..self.held.len() {
            if let Some(reason) = self.hang(child) {
                self.file(child, Failure::new(CrashKind::Hang, reason));
                self.apply(Event::Hung(child));
            }
        }
    }

    /// Why a child is taken for hung, if it is.
    fn hang(&self, child: usize) -> Option<String> {
        let (spec, _) = self.child(child)?;
        let life = self.life(child)?;
        let judged = match self.plan.phase(child)? {
            Phase::Running => true,
            // A worker's start has its own deadline; a supervisor beats from the start.
            Phase::Starting { .. } => spec.is_supervisor(),
            _ => false,
        };
        if !judged || life.pulse.is_protected() {
            return None;
        }
        let age = life.pulse.beat_age();
        if age > spec.heartbeat {
            let owner = life.place.as_ref().and_then(|place| place.busy.owner());
            let by_other = owner.is_some_and(|owner| owner != life.id);
            let patience = spec.heartbeat.saturating_add(ABORT_GRACE).saturating_mul(2);
            if by_other && age < patience {
                // Another child blocks the thread; when that one is judged, this one moves along.
                return None;
            }
            let what = match owner {
                Some(owner) if owner == life.id => "it blocks its thread",
                Some(_) => "its thread is blocked",
                None => "it waits",
            };
            return Some(format!("no beat for {} ms: {what}", age.as_millis()));
        }
        let pass = life.pulse.pass_age();
        (spec.pass_deadline.is_some_and(|deadline| pass > deadline))
            .then(|| format!("no pass for {} ms", pass.as_millis()))
    }

    fn file(&mut self, child: usize, failure: Failure) {
        let Some((_, node)) = self.child(child) else { return };
        let crash: Crash = node.file((self.realm.board.clock)(), &failure);
        tracing::error!(actor = %node.path, actor.generation = crash.generation,
            kind = ?crash.kind, reason = crash.reason,
            location = crash.location.as_deref().unwrap_or("-"), "actor crashed");
        self.realm.board.notify(&Notice::Failed { path: node.path.to_string(), crash });
        self.last_failure =
            Some(Failure { reason: format!("{}: {}", node.path, failure.reason), ..failure });
    }

    /// Does what an operator says.
    fn obey(&mut self, command: Command) {
        let Some((_, node)) = self.child(command.child) else { return };
        let node = Arc::clone(node);
        let phase = self.plan.phase(command.child);
        let live = matches!(phase, Some(Phase::Starting { .. } | Phase::Running));
        let refusal = match command.verb {
            _ if self.plan.is_ending() => Some("its supervisor is stopping"),
            Verb::Stop if phase == Some(Phase::Stopped) => Some("it is stopped already"),
            Verb::Start if self.plan.is_wanted(command.child) => Some("it is started already"),
            Verb::Crash(_) if !live => Some("it does not run"),
            _ => None,
        };
        if let Some(refusal) = refusal {
            let _ = command.reply.send(Err(refusal));
            return;
        }
        match command.verb {
            Verb::Crash(mode) => self.tell(command.child, Control::Inject(mode)),
            Verb::Stop => {
                node.held.store(true, Ordering::Release);
                self.apply(Event::Stop(command.child));
            }
            Verb::Restart | Verb::Start => {
                node.held.store(false, Ordering::Release);
                node.open();
                self.apply(match command.verb {
                    Verb::Restart => Event::Restart(command.child),
                    _ => Event::Start(command.child),
                });
            }
        }
        // An operator who does not wait for the answer is fine.
        let _ = command.reply.send(Ok(()));
    }

    fn end(&mut self, ending: Ending) {
        self.over = Some(match ending {
            Ending::Closed { .. } => Exit::Normal,
            Ending::GaveUp => {
                let limit = self.spec.limit;
                let last = self.last_failure.take();
                let kind = last.as_ref().map_or(CrashKind::Panic, |failure| failure.kind);
                let reason = format!(
                    "more than {} restarts within {} s; the last was {}",
                    limit.restarts,
                    limit.within.as_secs_f32(),
                    last.as_ref().map_or("unknown", |failure| failure.reason.as_str()),
                );
                Exit::GaveUp(Failure {
                    kind,
                    reason,
                    location: last.as_ref().and_then(|failure| failure.location.clone()),
                    trace: last.and_then(|failure| failure.trace),
                })
            }
        });
    }

    /// Lets everybody see where the children stand.
    fn publish(&self) {
        let now = self.started.elapsed();
        let mut changed = false;
        for (child, node) in self.node.children.iter().enumerate() {
            let Some(phase) = self.plan.phase(child) else { continue };
            let state = match phase {
                Phase::Down if self.plan.is_backing_off(child, now) => NodeState::Backoff,
                Phase::Down | Phase::Starting { .. } => NodeState::Starting,
                Phase::Running => NodeState::Running,
                Phase::Stopping { .. } => node.state(),
                Phase::Stopped => NodeState::Stopped,
                Phase::Failed => NodeState::Failed,
            };
            if node.set_state(state) {
                changed = true;
                if matches!(state, NodeState::Stopped | NodeState::Failed) && !self.plan.is_ending()
                {
                    node.close();
                }
            }
        }
        let restarts = self.plan.restarts_in_window(now);
        self.node.restarts_in_window.store(restarts, Ordering::Relaxed);
        if self.plan.has_passed() {
            self.vitals.ready();
        }
        if changed {
            self.realm.board.touch();
        }
    }
}

/// Starts a life of a supervisor, watched over by a task that outlives any crash of it.
fn launch_supervisor(realm: Rc<Realm>, node: Arc<Node>, spec: Arc<SupervisorSpec>, life: Life) {
    let Life { vitals, heartbeat, mut control, exit, .. } = life;
    drop(actix::spawn(async move {
        let (orders, inner) = unbounded_channel();
        let supervisor =
            Supervisor::new(Rc::clone(&realm), Arc::clone(&node), spec, vitals, heartbeat);
        let mut running = Guarded::new(supervisor.run(inner));
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut running => break match outcome {
                    Ok(exit) => exit,
                    Err(report) => {
                        Exit::Crashed(Failure::from_panic(CrashKind::Panic, report))
                    }
                },
                order = control.recv() => match order {
                    Some(Control::Abort) | None => break Exit::Aborted,
                    Some(order) => drop(orders.send(order)),
                },
            }
        };
        // The control channels of its children go with it.
        drop(running);
        node.set_commands(None);
        settle(&realm, &node).await;
        node.rest_below();
        exit.send(outcome);
    }));
}

/// Waits for the lives below a node to end; the groups of those that do not get new threads.
pub(crate) async fn settle(realm: &Realm, node: &Node) {
    let deadline = Instant::now() + SETTLE_DEADLINE;
    while node.children.iter().any(|child| child.is_alive()) {
        if Instant::now() >= deadline {
            for child in &node.children {
                child.for_each_alive(&mut |group, epoch| {
                    if let Err(error) = realm.groups.replace(group, epoch) {
                        tracing::error!(%error, "no new thread for a group of actors");
                    }
                });
            }
            return;
        }
        tokio::time::sleep(SETTLE_PERIOD).await;
    }
}
