//! The handle of a running tree: reports, operator verbs, orderly end.
//!
//! A [`Tree`] can be used from any thread and any runtime. The tree has a thread of its own for
//! its supervisors, with its own actix system, and one thread for each group of children.
//!
//! It guarantees that a report never waits for an actor, that a verb is answered or refused, and
//! that after [`Tree::shutdown`] no actor and no thread of the tree is left, but those blocked
//! for good in code that no one can interrupt. When the last handle is dropped without a
//! shutdown, everything is aborted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use super::control::{Command, ControlError, Verb};
use super::groups::Groups;
use super::node::{Board, Node, WallClock};
use super::panics::{Guarded, install_panic_hook};
use super::report::{CrashMode, NodeReport, NodeState, Notice};
use super::runner::Control;
use super::spec::{Body, ChildSpec, DEFAULT_HEARTBEAT, SupervisorSpec};
use super::supervisor::{Realm, Supervisor};
use super::vitals::{Pulse, Vitals};

/// The path and name of the root.
pub const ROOT: &str = "root";
/// How long a verb waits for what it started to be done, before it reports how far it got.
const VERB_WAIT: Duration = Duration::from_secs(10);

/// Why a tree did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The program was built so that a panic ends it, which leaves nothing to supervise.
    #[error("built with panic = \"abort\": actors cannot be supervised")]
    PanicAborts,
    /// A name is used twice under one supervisor, is empty, has a dot, or is `root`.
    #[error("bad name of an actor: {0:?}")]
    BadName(String),
    /// The thread of the supervisors could not be made.
    #[error("no thread for the supervisors")]
    Thread(#[source] io::Error),
}

/// The tree was not ready in time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not ready in time; waiting for: {}", waiting.join(", "))]
pub struct NotReady {
    /// The paths of nodes that are not running.
    pub waiting: Vec<String>,
}

struct Spot {
    node: Arc<Node>,
    parent: Arc<Node>,
    child: usize,
}

struct Inner {
    root: Arc<Node>,
    spots: BTreeMap<String, Spot>,
    board: Arc<Board>,
    control: UnboundedSender<Control>,
    closed: watch::Receiver<bool>,
}

/// A running tree of supervised actors; cheap to clone.
#[derive(Clone)]
pub struct Tree {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tree").field("paths", &self.paths()).finish()
    }
}

impl Tree {
    /// Starts a tree under the root supervisor `root`. Returns at once: see [`Tree::ready`].
    /// `clock` dates crashes.
    ///
    /// # Errors
    /// A build that aborts on panic, a bad name, or no thread to be had.
    pub fn start(root: SupervisorSpec, clock: WallClock) -> Result<Self, StartError> {
        if !cfg!(panic = "unwind") {
            return Err(StartError::PanicAborts);
        }
        check_names(&root)?;
        install_panic_hook();
        let limit = root.limit;
        let root = ChildSpec::supervisor(ROOT, root);
        let node = Node::grow(ROOT.to_owned(), "", &root);
        let keeper = SupervisorSpec { limit, children: vec![root], ..SupervisorSpec::default() };
        let keeper = ChildSpec::supervisor("", keeper);
        let keeper_node = Node::crown(&keeper, Arc::clone(&node));
        let board = Arc::new(Board {
            clock,
            listeners: Mutex::new(Vec::new()),
            changes: watch::Sender::new(0),
            gave_up: watch::Sender::new(false),
            lives: AtomicU64::new(0),
        });
        let mut spots = BTreeMap::new();
        plot(&keeper_node, &mut spots);
        let (control, orders) = unbounded_channel();
        let (closed_sender, closed) = watch::channel(false);
        node.open();
        let shared = Arc::clone(&board);
        let thread = std::thread::Builder::new().name("supervision".to_owned());
        let spawned = thread.spawn(move || {
            keep(keeper, keeper_node, shared, orders);
            closed_sender.send_replace(true);
        });
        spawned.map_err(StartError::Thread)?;
        let inner = Inner { root: node, spots, board, control, closed };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The whole tree, the root first.
    #[must_use]
    pub fn report(&self) -> NodeReport {
        self.inner.root.report(false)
    }

    /// One node with its crash history and backtraces.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<NodeReport> {
        self.inner.spots.get(path).map(|spot| spot.node.report(true))
    }

    /// The paths of all nodes.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.inner.spots.keys().cloned().collect()
    }

    /// Calls `listener` on every notice from now on, on the supervisors' thread: it must not
    /// block, or supervision stands still.
    pub fn on_notice(&self, listener: impl Fn(&Notice) + Send + Sync + 'static) {
        self.inner.board.listeners.lock().push(Arc::new(listener));
    }

    /// Changes whenever the state of a node does; the number itself means nothing.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.board.changes.subscribe()
    }

    /// Waits until every node that shall run is past its first successful pass.
    ///
    /// # Errors
    /// What is missing when `timeout` has passed.
    pub async fn ready(&self, timeout: Duration) -> Result<(), NotReady> {
        self.until(timeout, || self.inner.root.state() == NodeState::Running).await.map_err(|()| {
            let spots = self.inner.spots.iter();
            let waiting = spots.filter(|(_, spot)| spot.node.state() != NodeState::Running);
            NotReady { waiting: waiting.map(|(path, _)| path.clone()).collect() }
        })
    }

    /// Stops a node in order and starts it again, with fresh actors; starts it when it does not
    /// run. Not charged to any limit. Returns once the new life has begun.
    ///
    /// # Errors
    /// An unknown path, or a supervisor that does not run.
    pub async fn restart(&self, path: &str) -> Result<NodeReport, ControlError> {
        let before = self.spot(path)?.node.generation();
        self.command(path, Verb::Restart).await?;
        self.done(path, |node| node.generation() > before).await
    }

    /// Stops a node for as long as the process runs, or until it is started again. Its mailboxes
    /// close: messages are refused with `Gone`. Returns once it is down.
    ///
    /// # Errors
    /// An unknown path, a node that is stopped already, or a supervisor that does not run.
    pub async fn stop(&self, path: &str) -> Result<NodeReport, ControlError> {
        self.command(path, Verb::Stop).await?;
        self.done(path, |node| node.state() == NodeState::Stopped).await
    }

    /// Starts a node that was stopped or failed. Returns once its life has begun.
    ///
    /// # Errors
    /// An unknown path, a node that runs or is about to, or a supervisor that does not run.
    pub async fn start_node(&self, path: &str) -> Result<NodeReport, ControlError> {
        let before = self.spot(path)?.node.generation();
        self.command(path, Verb::Start).await?;
        self.done(path, |node| node.generation() > before).await
    }

    /// Makes a node crash. Returns once it is told to.
    ///
    /// # Errors
    /// An unknown path, a node that does not run, or a supervisor that does not run.
    pub async fn crash(&self, path: &str, mode: CrashMode) -> Result<NodeReport, ControlError> {
        self.command(path, Verb::Crash(mode)).await?;
        Ok(self.spot(path)?.node.report(true))
    }

    /// Makes an actor panic where it begins to handle the next message of that name.
    ///
    /// # Errors
    /// An unknown path, or a message that the actor does not take.
    pub fn crash_at(&self, path: &str, message: &str) -> Result<NodeReport, ControlError> {
        let node = &self.spot(path)?.node;
        if node.gauge.as_ref().is_some_and(|gauge| gauge.poison(message)) {
            return Ok(node.report(true));
        }
        let report = node.report(false);
        let (path, name) = (path.to_owned(), message.to_owned());
        Err(ControlError::UnknownMessage { path, name, known: report.messages.unwrap_or_default() })
    }

    /// Resolves when the root is over its restart limit; never when the tree is shut down before.
    pub async fn gave_up(&self) {
        let mut gave_up = self.inner.board.gave_up.subscribe();
        if gave_up.wait_for(|gave_up| *gave_up).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops all children in reverse order, each with its deadline, and ends all threads. Returns
    /// at once when that is done already.
    pub async fn shutdown(&self) {
        let _ = self.inner.control.send(Control::Stop { for_good: true });
        let mut closed = self.inner.closed.clone();
        // An error means that the thread is gone, which is as closed as can be.
        drop(closed.wait_for(|closed| *closed).await);
    }

    fn spot(&self, path: &str) -> Result<&Spot, ControlError> {
        self.inner
            .spots
            .get(path)
            .ok_or_else(|| ControlError::UnknownPath { path: path.to_owned(), known: self.paths() })
    }

    async fn command(&self, path: &str, verb: Verb) -> Result<(), ControlError> {
        let spot = self.spot(path)?;
        let wrong = |reason| ControlError::WrongState {
            path: path.to_owned(),
            state: spot.node.state(),
            reason,
        };
        if *self.inner.closed.borrow() || self.inner.closed.has_changed().is_err() {
            return Err(ControlError::Closed);
        }
        let absent = "its supervisor does not run";
        let commands = spot.parent.commands().ok_or_else(|| wrong(absent))?;
        let (reply, answer) = oneshot::channel();
        let command = Command { child: spot.child, verb, reply };
        commands.send(command).map_err(|_| wrong(absent))?;
        match tokio::time::timeout(VERB_WAIT, answer).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(reason))) => Err(wrong(reason)),
            Ok(Err(_)) => Err(wrong(absent)),
            Err(_) => Err(wrong("its supervisor does not answer")),
        }
    }

    async fn done(
        &self,
        path: &str,
        is_done: impl Fn(&Node) -> bool,
    ) -> Result<NodeReport, ControlError> {
        let spot = self.spot(path)?;
        // Not done in time is no error: the verb was accepted, and the report tells the rest.
        let _ = self.until(VERB_WAIT, || is_done(&spot.node)).await;
        Ok(spot.node.report(true))
    }

    async fn until(&self, timeout: Duration, is_done: impl Fn() -> bool) -> Result<(), ()> {
        let mut changes = self.watch();
        let wait = async {
            loop {
                changes.mark_unchanged();
                if is_done() {
                    return true;
                }
                if changes.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(timeout, wait).await.ok().filter(|done| *done).map(drop).ok_or(())
    }
}

/// The life of the supervisors' thread.
fn keep(keeper: ChildSpec, node: Arc<Node>, board: Arc<Board>, orders: UnboundedReceiver<Control>) {
    let Body::Supervisor(spec) = keeper.body else { return };
    actix::System::new().block_on(async move {
        let realm = Rc::new(Realm { groups: Groups::new(), board: Arc::clone(&board) });
        let vitals = Vitals::new(
            Arc::new(Pulse::new()),
            Arc::clone(&node.counters),
            1,
            Arc::clone(&node.path),
            Arc::new(|| {}),
        );
        let supervisor =
            Supervisor::new(Rc::clone(&realm), Arc::clone(&node), spec, vitals, DEFAULT_HEARTBEAT);
        if let Err(report) = Guarded::new(supervisor.into_keeper().run(orders)).await {
            tracing::error!(reason = report.message, "the keeper of the root panicked");
            board.gave_up.send_replace(true);
        }
        node.set_commands(None);
        super::supervisor::settle(&realm, &node).await;
        node.close();
        node.rest_below();
        if *board.gave_up.borrow() {
            for root in &node.children {
                root.set_state(NodeState::Failed);
            }
            let last = node.children.first().and_then(|root| root.report(false).last_crash);
            let reason = last.map_or_else(|| "unknown".to_owned(), |crash| crash.reason);
            tracing::error!(reason, "the root of the actors gave up");
            board.notify(&Notice::GaveUp { reason });
        }
        let left = realm.groups.close().await;
        if left > 0 {
            tracing::warn!(threads = left, "blocked threads of actors were left behind");
        }
        board.touch();
    });
}

fn plot(parent: &Arc<Node>, spots: &mut BTreeMap<String, Spot>) {
    for (child, node) in parent.children.iter().enumerate() {
        let spot = Spot { node: Arc::clone(node), parent: Arc::clone(parent), child };
        spots.insert(node.path.to_string(), spot);
        plot(node, spots);
    }
}

fn check_names(spec: &SupervisorSpec) -> Result<(), StartError> {
    let mut names = BTreeSet::new();
    for child in &spec.children {
        let name = &*child.name;
        if name.is_empty() || name.contains('.') || name == ROOT || !names.insert(name) {
            return Err(StartError::BadName(name.to_owned()));
        }
        if let Body::Supervisor(inner) = &child.body {
            check_names(inner)?;
        }
    }
    Ok(())
}
