//! The nodes of a tree: what outlives every life of a child and its supervisor.
//!
//! Nodes are made once, when the tree starts, and are shared by the supervisors (who write) and
//! the reports (who read). Locks are held for a copy only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::control::Command;
use super::mailbox::MailboxGauge;
use super::panics::Trace;
use super::report::{Crash, Intensity, NodeKind, NodeReport, NodeState, Notice};
use super::runner::Failure;
use super::spec::{Body, ChildSpec, GroupName, RestartLimit, Strategy};
use super::vitals::{Counters, Pulse};

/// Crashes remembered per node.
const CRASHES_MAX: usize = 20;

/// Tells the wall-clock time; injected, because supervision does not read the clock.
pub type WallClock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

type Listener = Arc<dyn Fn(&Notice) + Send + Sync>;

/// What the whole tree shares.
pub(crate) struct Board {
    pub(crate) clock: WallClock,
    pub(crate) listeners: Mutex<Vec<Listener>>,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) gave_up: watch::Sender<bool>,
    pub(crate) lives: AtomicU64,
}

impl Board {
    /// Tells those who wait for something that something changed.
    pub(crate) fn touch(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells the listeners; a panic in one is its own affair.
    pub(crate) fn notify(&self, notice: &Notice) {
        let listeners = self.listeners.lock().clone();
        for listener in listeners {
            if let Err(report) = super::panics::guard(|| listener(notice)) {
                tracing::error!(reason = report.message, "a listener for notices panicked");
            }
        }
    }

    /// A number that no other life of the tree has.
    pub(crate) fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

struct FiledCrash {
    crash: Crash,
    trace: Option<Trace>,
}

struct Record {
    state: NodeState,
    generation: u64,
    restarts: u64,
    crashes: VecDeque<FiledCrash>,
    pulse: Option<Arc<Pulse>>,
    commands: Option<UnboundedSender<Command>>,
    /// Lives that are neither over nor abandoned: one, but for an instant.
    lives: BTreeSet<u64>,
    /// The epoch of the group in which the last life was launched.
    epoch: u64,
}

/// A node of the tree.
pub(crate) struct Node {
    pub(crate) path: Arc<str>,
    pub(crate) children: Vec<Arc<Node>>,
    pub(crate) counters: Arc<Counters>,
    /// An operator stopped it; holds over restarts of its supervisor.
    pub(crate) held: AtomicBool,
    pub(crate) restarts_in_window: AtomicUsize,
    description: Arc<str>,
    pub(crate) group: Option<GroupName>,
    pub(crate) gauge: Option<Arc<dyn MailboxGauge>>,
    supervision: Option<(Strategy, RestartLimit)>,
    record: Mutex<Record>,
}

impl Node {
    /// The node of `spec` under `prefix`, and all below it.
    pub(crate) fn grow(path: String, prefix: &str, spec: &ChildSpec) -> Arc<Self> {
        let (children, gauge, supervision) = match &spec.body {
            Body::Worker { gauge, .. } => (Vec::new(), Some(Arc::clone(gauge)), None),
            Body::Supervisor(inner) => {
                let children = inner.children.iter().map(|child| {
                    let path = format!("{prefix}{}", child.name);
                    let prefix = format!("{path}.");
                    Self::grow(path, &prefix, child)
                });
                (children.collect(), None, Some((inner.strategy, inner.limit)))
            }
        };
        Arc::new(Self {
            path: Arc::from(path),
            children,
            counters: Arc::default(),
            held: AtomicBool::new(false),
            restarts_in_window: AtomicUsize::new(0),
            description: Arc::clone(&spec.description),
            group: gauge.is_some().then(|| spec.group.clone()),
            gauge,
            supervision,
            record: Mutex::new(Record {
                state: NodeState::Starting,
                generation: 0,
                restarts: 0,
                crashes: VecDeque::new(),
                pulse: None,
                commands: None,
                lives: BTreeSet::new(),
                epoch: 0,
            }),
        })
    }

    /// The node above the root, for the one who watches over the root.
    pub(crate) fn crown(spec: &ChildSpec, root: Arc<Self>) -> Arc<Self> {
        let bare = ChildSpec { body: Body::Supervisor(Arc::default()), ..spec.clone() };
        let mut crown = Self::grow(String::new(), "", &bare);
        if let Some(crown) = Arc::get_mut(&mut crown) {
            crown.children = vec![root];
        }
        crown
    }

    /// A new life begins: its generation, and how often the node was started again.
    pub(crate) fn begin(&self, pulse: Arc<Pulse>) -> (u64, u64) {
        let mut record = self.record.lock();
        record.generation = record.generation.saturating_add(1);
        record.restarts = record.generation.saturating_sub(1);
        record.pulse = Some(pulse);
        (record.generation, record.restarts)
    }

    pub(crate) fn enter(&self, generation: u64) {
        self.record.lock().lives.insert(generation);
    }

    pub(crate) fn leave(&self, generation: u64) {
        self.record.lock().lives.remove(&generation);
    }

    /// Whether a life is left here or below.
    pub(crate) fn is_alive(&self) -> bool {
        !self.record.lock().lives.is_empty() || self.children.iter().any(|child| child.is_alive())
    }

    /// Calls `visit` for every worker at or below this node that still has a life, with its
    /// group's epoch at launch.
    pub(crate) fn for_each_alive(&self, visit: &mut dyn FnMut(&GroupName, u64)) {
        let (alive, epoch) = {
            let record = self.record.lock();
            (!record.lives.is_empty(), record.epoch)
        };
        if let Some(group) = &self.group
            && alive
        {
            visit(group, epoch);
        }
        for child in &self.children {
            child.for_each_alive(visit);
        }
    }

    pub(crate) fn set_epoch(&self, epoch: u64) {
        self.record.lock().epoch = epoch;
    }

    pub(crate) fn generation(&self) -> u64 {
        self.record.lock().generation
    }

    pub(crate) fn state(&self) -> NodeState {
        self.record.lock().state
    }

    /// Sets the state; true when it changed.
    pub(crate) fn set_state(&self, state: NodeState) -> bool {
        std::mem::replace(&mut self.record.lock().state, state) != state
    }

    pub(crate) fn set_commands(&self, commands: Option<UnboundedSender<Command>>) {
        self.record.lock().commands = commands;
    }

    pub(crate) fn commands(&self) -> Option<UnboundedSender<Command>> {
        self.record.lock().commands.clone()
    }

    /// Files a crash and returns it as others may see it.
    pub(crate) fn file(&self, at: DateTime<Utc>, failure: &Failure) -> Crash {
        let mut record = self.record.lock();
        let crash = Crash {
            at,
            kind: failure.kind,
            reason: failure.reason.clone(),
            location: failure.location.clone(),
            backtrace: None,
            generation: record.generation,
        };
        record.crashes.truncate(CRASHES_MAX - 1);
        let trace = failure.trace.clone();
        record.crashes.push_front(FiledCrash { crash: crash.clone(), trace });
        crash
    }

    /// Opens the mailboxes here and below, but those an operator has stopped.
    pub(crate) fn open(&self) {
        if let Some(gauge) = &self.gauge {
            gauge.open();
        }
        for child in &self.children {
            if !child.held.load(Ordering::Acquire) {
                child.open();
            }
        }
    }

    /// Closes the mailboxes here and below.
    pub(crate) fn close(&self) {
        if let Some(gauge) = &self.gauge {
            gauge.close();
        }
        for child in &self.children {
            child.close();
        }
    }

    /// Marks everything below as stopped: its supervisor is gone.
    pub(crate) fn rest_below(&self) {
        for child in &self.children {
            child.set_state(NodeState::Stopped);
            child.rest_below();
        }
    }

    /// The node as operators see it; crash history and backtraces only in detail.
    pub(crate) fn report(&self, detailed: bool) -> NodeReport {
        let (state, generation, restarts, pulse, crashes) = {
            let record = self.record.lock();
            let wanted = if detailed { CRASHES_MAX } else { 1 };
            let crashes: Vec<(Crash, Option<Trace>)> = record
                .crashes
                .iter()
                .take(wanted)
                .map(|filed| (filed.crash.clone(), filed.trace.clone()))
                .collect();
            (record.state, record.generation, record.restarts, record.pulse.clone(), crashes)
        };
        let crashes: Vec<Crash> = crashes
            .into_iter()
            .map(|(crash, trace)| {
                let trace = trace.filter(|_| detailed);
                Crash { backtrace: trace.map(|trace| trace.text().to_owned()), ..crash }
            })
            .collect();
        let counters: BTreeMap<String, u64> =
            self.counters.lock().iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let runs = matches!(state, NodeState::Starting | NodeState::Running);
        NodeReport {
            path: self.path.to_string(),
            kind: if self.gauge.is_some() { NodeKind::Worker } else { NodeKind::Supervisor },
            description: self.description.to_string(),
            state,
            generation,
            restarts,
            last_crash: crashes.first().cloned(),
            mailbox_depth: self.gauge.as_ref().map_or(0, |gauge| gauge.depth()),
            last_beat_ms: pulse.filter(|_| runs).map(|pulse| millis(pulse.beat_age())),
            mailbox_capacity: self.gauge.as_ref().map(|gauge| gauge.capacity()),
            messages: self
                .gauge
                .as_ref()
                .map(|gauge| gauge.messages().iter().map(|name| (*name).to_owned()).collect()),
            handled: self.gauge.as_ref().map(|gauge| gauge.handled()),
            rejected: self.gauge.as_ref().map(|gauge| gauge.rejected()),
            group: self.group.as_ref().map(ToString::to_string),
            counters,
            strategy: self.supervision.map(|(strategy, _)| strategy.name().to_owned()),
            intensity: self.supervision.map(|(_, limit)| Intensity {
                restarts: limit.restarts,
                within_ms: millis(limit.within),
            }),
            restarts_in_window: self
                .supervision
                .map(|_| self.restarts_in_window.load(Ordering::Relaxed)),
            crashes: detailed.then_some(crashes),
            children: self.children.iter().map(|child| child.report(false)).collect(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
