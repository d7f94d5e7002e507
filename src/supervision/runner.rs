//! One life of a child: launched on a thread, run under a guard, reported exactly once.
//!
//! A worker's life is a [`Runner`]: it polls actix's own context future inside a guard, so a panic
//! in `started`, a handler, a timer or a future of the context ends this life and nothing else.
//! Its end is reported whatever happens: by the runner, or, when the thread ends under it and
//! drops it, by the drop of its [`ExitReport`].
//!
//! Futures that an actor spawns outside its context (`ResponseFuture` handlers, `actix::spawn`)
//! are outside the guard: a panic there loses that answer and leaves the actor as it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::dev::ContextFut;
use actix::{Actor, ActorContext, AsyncContext, Context};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::groups::{Busy, Place};
use super::mailbox::{Mailbox, Pump};
use super::node::Node;
use super::panics::{PanicReport, Trace, guard};
use super::report::{CrashKind, CrashMode};
use super::vitals::{Heart, Vitals};

/// What a supervisor tells a life. The channel is unbounded, and holds a handful: a stop, an
/// abort, and what operators inject. A closed channel means abort.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    Stop { for_good: bool },
    Abort,
    Inject(CrashMode),
}

/// How a life ended.
#[derive(Debug)]
pub(crate) enum Exit {
    /// By itself, or as it was asked to.
    Normal,
    /// By a crash.
    Crashed(Failure),
    /// Aborted; whoever aborted it knows why.
    Aborted,
    /// A supervisor over its restart limit.
    GaveUp(Failure),
}

/// Why a life ended, before it is dated and filed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: CrashKind,
    pub(crate) reason: String,
    pub(crate) location: Option<String>,
    pub(crate) trace: Option<Trace>,
}

impl Failure {
    pub(crate) const fn new(kind: CrashKind, reason: String) -> Self {
        Self { kind, reason, location: None, trace: None }
    }

    pub(crate) fn from_panic(kind: CrashKind, report: PanicReport) -> Self {
        Self { kind, reason: report.message, location: report.location, trace: report.trace }
    }
}

/// What a supervisor hears of a child's life.
#[derive(Debug)]
pub(crate) struct ChildEvent {
    pub(crate) child: usize,
    pub(crate) generation: u64,
    pub(crate) news: News,
}

/// See [`ChildEvent`].
#[derive(Debug)]
pub(crate) enum News {
    Ready,
    Exited(Exit),
}

/// Reports the end of a life once, even when it is dropped unseen.
pub(crate) struct ExitReport {
    pub(crate) events: UnboundedSender<ChildEvent>,
    pub(crate) child: usize,
    pub(crate) generation: u64,
    pub(crate) node: Arc<Node>,
    sent: bool,
}

impl ExitReport {
    /// Enters the life into the node's register of lives.
    pub(crate) fn new(
        events: UnboundedSender<ChildEvent>,
        child: usize,
        generation: u64,
        node: Arc<Node>,
    ) -> Self {
        node.enter(generation);
        Self { events, child, generation, node, sent: false }
    }

    pub(crate) fn send(mut self, exit: Exit) {
        self.report(exit);
    }

    fn report(&mut self, exit: Exit) {
        if !std::mem::replace(&mut self.sent, true) {
            self.node.leave(self.generation);
            let news = News::Exited(exit);
            // A supervisor that is gone does not care any more.
            drop(self.events.send(ChildEvent {
                child: self.child,
                generation: self.generation,
                news,
            }));
        }
    }
}

impl Drop for ExitReport {
    fn drop(&mut self) {
        let reason = "the thread it ran on ended".to_owned();
        self.report(Exit::Crashed(Failure::new(CrashKind::Panic, reason)));
    }
}

/// All that one life needs.
pub(crate) struct Life {
    pub(crate) id: u64,
    pub(crate) vitals: Vitals,
    pub(crate) heartbeat: Duration,
    /// No start work: ready after the first turn.
    pub(crate) ready_at_once: bool,
    pub(crate) control: UnboundedReceiver<Control>,
    pub(crate) exit: ExitReport,
}

/// Something whose lives run on a group's thread.
pub(crate) trait Launch: Send + Sync {
    /// Starts a life; false when the thread is gone (the life then reports its own end).
    fn launch(&self, life: Life, place: &Place) -> bool;
    /// Makes sure that no life so far takes another message.
    fn retire(&self);
}

type Factory<A> = Arc<dyn Fn(Vitals) -> A + Send + Sync>;

/// A worker: an actor, its factory and its mailbox.
pub(crate) struct Worker<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
    factory: Factory<A>,
}

impl<A: Actor> Worker<A> {
    pub(crate) fn new(mailbox: Arc<Mailbox<A>>, factory: Factory<A>) -> Self {
        Self { mailbox, factory }
    }
}

impl<A: Actor<Context = Context<A>>> Launch for Worker<A> {
    fn launch(&self, life: Life, place: &Place) -> bool {
        let mailbox = Arc::clone(&self.mailbox);
        let factory = Arc::clone(&self.factory);
        let busy = Arc::clone(&place.busy);
        mailbox.adopt(life.exit.generation);
        place.handle.spawn_fn(move || {
            busy.enter(life.id);
            let made = guard(|| factory(life.vitals.clone()));
            busy.leave();
            match made {
                Ok(actor) => drop(actix::spawn(Runner::new(actor, mailbox, life, busy))),
                Err(report) => life
                    .exit
                    .send(Exit::Crashed(Failure::from_panic(CrashKind::StartFailed, report))),
            }
        })
    }

    fn retire(&self) {
        self.mailbox.adopt(0);
    }
}

/// Runs one life of an actor.
struct Runner<A: Actor<Context = Context<A>>> {
    context: Option<Box<ContextFut<A, Context<A>>>>,
    id: u64,
    vitals: Vitals,
    ready_at_once: bool,
    control: UnboundedReceiver<Control>,
    exit: Option<ExitReport>,
    busy: Arc<Busy>,
}

impl<A: Actor<Context = Context<A>>> Runner<A> {
    fn new(actor: A, mailbox: Arc<Mailbox<A>>, life: Life, busy: Arc<Busy>) -> Self {
        let mut context = Context::new();
        context.spawn(Heart::new(life.vitals.pulse(), life.heartbeat));
        context.spawn(Pump::new(mailbox, life.exit.generation));
        Self {
            context: Some(Box::new(context.into_future(actor))),
            id: life.id,
            vitals: life.vitals,
            ready_at_once: life.ready_at_once,
            control: life.control,
            exit: Some(life.exit),
            busy,
        }
    }

    /// One turn; `Some` when the life is over.
    fn turn(&mut self, task: &mut TaskContext<'_>) -> Option<Exit> {
        let context = self.context.as_mut()?;
        let mut crash = None;
        loop {
            match self.control.poll_recv(task) {
                Poll::Pending => break,
                Poll::Ready(None | Some(Control::Abort)) => return Some(Exit::Aborted),
                Poll::Ready(Some(Control::Stop { .. } | Control::Inject(CrashMode::Stop))) => {
                    context.ctx().stop();
                }
                Poll::Ready(Some(Control::Inject(CrashMode::Panic))) => {
                    crash = Some("injected panic");
                }
                Poll::Ready(Some(Control::Inject(CrashMode::Hang))) => {
                    let forever = actix::fut::wrap_future(std::future::pending::<()>());
                    context.ctx().wait(forever);
                }
            }
        }
        let polled = guard(|| {
            if let Some(text) = crash {
                #[expect(clippy::panic, reason = "a crash on demand")]
                std::panic::panic_any(text);
            }
            Pin::new(context.as_mut()).poll(task)
        });
        match polled {
            Ok(Poll::Ready(())) => Some(self.failure().unwrap_or(Exit::Normal)),
            Ok(Poll::Pending) => {
                if self.ready_at_once {
                    self.vitals.ready();
                }
                self.failure()
            }
            Err(report) => Some(Exit::Crashed(Failure::from_panic(self.crash_kind(), report))),
        }
    }

    fn failure(&self) -> Option<Exit> {
        let reason = self.vitals.pulse().take_failure()?;
        Some(Exit::Crashed(Failure::new(self.crash_kind(), reason)))
    }

    fn crash_kind(&self) -> CrashKind {
        if self.vitals.pulse().is_ready() { CrashKind::Panic } else { CrashKind::StartFailed }
    }

    /// Drops the actor without polling it again: its state is not to be trusted.
    fn bury(&mut self) {
        if let Some(mut context) = self.context.take() {
            self.busy.enter(self.id);
            if let Err(report) = guard(move || {
                context.ctx().terminate();
                drop(context);
            }) {
                tracing::warn!(
                    actor = self.vitals.path(),
                    reason = report.message,
                    "an actor panicked while it was dropped"
                );
            }
            self.busy.leave();
        }
    }
}

impl<A: Actor<Context = Context<A>>> Future for Runner<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.vitals.pulse().waker.register(task.waker());
        this.busy.enter(this.id);
        let over = this.turn(task);
        this.busy.leave();
        let Some(exit) = over else { return Poll::Pending };
        this.bury();
        if let Some(report) = this.exit.take() {
            report.send(exit);
        }
        Poll::Ready(())
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Runner<A> {
    fn drop(&mut self) {
        self.bury();
    }
}
