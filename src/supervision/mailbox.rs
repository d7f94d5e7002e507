//! The mailbox of a supervised actor: a bounded queue that outlives every life of the actor.
//!
//! actix keeps its own mailbox inside the running context, where it cannot be counted, is lost
//! with a hung context and takes its senders along. So messages wait here instead, and a
//! [`Pump`], a future in the actor's own context, hands them to the ordinary `Handler`s. What a
//! crash, a hang or a restart leaves in the queue is handled by the next life.
//!
//! It guarantees:
//! - never more than `capacity` messages wait; each is handed out once, in order;
//! - only the current life takes messages: an older one that wakes up late finds nothing;
//! - a message dropped because the mailbox closed is told apart from one lost in a crash.
//!
//! As in actix, no message is handled while the context waits (`ctx.wait`) or stops, and a
//! question whose asker has gone is skipped.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, ActorFuture, AsyncContext, Context, Message};
use parking_lot::Mutex;

use super::messages::{Messages, Takes};
use super::panics::guard;

/// Messages handed out in one turn before other futures of the thread get theirs.
const TURN_MAX: usize = 64;

/// A message of any type on its way to `A`.
pub(crate) trait Job<A: Actor>: Send {
    fn run(self: Box<Self>, actor: &mut A, context: &mut A::Context);
    /// The name of the message's type.
    fn name(&self) -> &'static str;
    /// Panics where its handler would begin.
    fn crash(self: Box<Self>);
}

struct Envelope<M: Message> {
    message: M,
    reply: Option<Reply<M>>,
}

struct Reply<M: Message> {
    sender: OneshotSender<M::Result>,
    /// Set when the handler begins, so that a lost reply can be told from a dropped message.
    begun: Arc<AtomicBool>,
}

impl<A, M> Job<A> for Envelope<M>
where
    A: Actor + Takes<M>,
    M: Message + Send,
    M::Result: Send,
{
    fn name(&self) -> &'static str {
        <A as Takes<M>>::NAME
    }

    fn crash(self: Box<Self>) {
        if let Some(reply) = &self.reply {
            reply.begun.store(true, Ordering::Release);
        }
        #[expect(clippy::panic, reason = "a crash on demand")]
        std::panic::panic_any(format!("injected panic at a message {}", <A as Takes<M>>::NAME));
    }

    fn run(self: Box<Self>, actor: &mut A, context: &mut A::Context) {
        let sender = match self.reply {
            Some(reply) if reply.sender.is_closed() => return,
            Some(reply) => {
                reply.begun.store(true, Ordering::Release);
                Some(reply.sender)
            }
            None => None,
        };
        actor.handle(self.message, context).handle(context, sender);
    }
}

/// Packs a message that nobody waits for.
pub(crate) fn pack<A, M>(message: M) -> Box<dyn Job<A>>
where
    A: Actor + Takes<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    Box::new(Envelope { message, reply: None })
}

/// Packs a message whose answer goes to `sender`.
pub(crate) fn pack_question<A, M>(
    message: M,
    sender: OneshotSender<M::Result>,
    begun: Arc<AtomicBool>,
) -> Box<dyn Job<A>>
where
    A: Actor + Takes<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    Box::new(Envelope { message, reply: Some(Reply { sender, begun }) })
}

/// Why a mailbox did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
}

struct Queue<A: Actor> {
    jobs: VecDeque<Box<dyn Job<A>>>,
    open: bool,
    /// The life that may take messages.
    generation: u64,
    waker: Option<Waker>,
}

/// The queue of one actor, shared by its references and its lives.
pub(crate) struct Mailbox<A: Actor> {
    queue: Mutex<Queue<A>>,
    capacity: usize,
    handled: AtomicU64,
    rejected: AtomicU64,
    /// Whether `poison` holds anything: what each message pays for the injection of panics.
    is_poisoned: AtomicBool,
    /// The name of the message whose next handling panics.
    poison: Mutex<Option<&'static str>>,
}

impl<A: Actor> Mailbox<A> {
    /// A closed, empty mailbox for at most `capacity` waiting messages (at least one).
    pub(crate) fn new(capacity: usize) -> Self {
        let queue = Queue { jobs: VecDeque::new(), open: false, generation: 0, waker: None };
        Self {
            queue: Mutex::new(queue),
            capacity: capacity.max(1),
            handled: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            is_poisoned: AtomicBool::new(false),
            poison: Mutex::new(None),
        }
    }

    /// Whether the handling of a message of that name is to panic, this once.
    fn strikes(&self, name: &'static str) -> bool {
        self.is_poisoned.load(Ordering::Relaxed) && {
            let mut poison = self.poison.lock();
            let strikes = *poison == Some(name);
            if strikes {
                *poison = None;
                self.is_poisoned.store(false, Ordering::Relaxed);
            }
            strikes
        }
    }

    pub(crate) fn push(&self, job: Box<dyn Job<A>>) -> Result<(), Refusal> {
        let mut queue = self.queue.lock();
        let refusal = if !queue.open {
            Refusal::Closed
        } else if queue.jobs.len() >= self.capacity {
            Refusal::Full
        } else {
            queue.jobs.push_back(job);
            let waker = queue.waker.take();
            drop(queue);
            if let Some(waker) = waker {
                waker.wake();
            }
            return Ok(());
        };
        drop(queue);
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Err(refusal)
    }

    /// Makes `generation` the only life that is given messages.
    pub(crate) fn adopt(&self, generation: u64) {
        let mut queue = self.queue.lock();
        queue.generation = generation;
        queue.waker = None;
    }

    /// The next message for `generation`; `Err` when it is not the current life any more.
    fn take(&self, generation: u64, waker: &Waker) -> Result<Option<Box<dyn Job<A>>>, ()> {
        let mut queue = self.queue.lock();
        if queue.generation != generation {
            return Err(());
        }
        let job = queue.jobs.pop_front();
        if job.is_none() && !queue.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            queue.waker = Some(waker.clone());
        }
        Ok(job)
    }
}

/// What the supervisor and reports see of a mailbox, whatever its actor.
pub(crate) trait MailboxGauge: Send + Sync {
    fn depth(&self) -> usize;
    fn capacity(&self) -> usize;
    fn handled(&self) -> u64;
    fn rejected(&self) -> u64;
    /// Takes messages from now on.
    fn open(&self);
    /// Takes no more and drops what waits: askers are told that the actor is gone.
    fn close(&self);
    /// The names of the messages that it takes.
    fn messages(&self) -> &'static [&'static str];
    /// Lets the next handling of a message of that name panic; false when there is none.
    fn poison(&self, name: &str) -> bool;
}

impl<A: Messages> MailboxGauge for Mailbox<A> {
    fn messages(&self) -> &'static [&'static str] {
        A::NAMES
    }

    fn poison(&self, name: &str) -> bool {
        let known = A::NAMES.iter().find(|known| **known == name);
        if known.is_some() {
            *self.poison.lock() = known.copied();
            self.is_poisoned.store(true, Ordering::Relaxed);
        }
        known.is_some()
    }

    fn depth(&self) -> usize {
        self.queue.lock().jobs.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    fn open(&self) {
        self.queue.lock().open = true;
    }

    fn close(&self) {
        let dropped = {
            let mut queue = self.queue.lock();
            queue.open = false;
            std::mem::take(&mut queue.jobs)
        };
        // Outside the lock: dropping a message may run anything, sending to this mailbox included.
        if let Err(report) = guard(|| drop(dropped)) {
            tracing::warn!(reason = report.message, "a message panicked while it was dropped");
        }
    }
}

/// Hands messages to one life of the actor; lives in that actor's context.
pub(crate) struct Pump<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
    generation: u64,
}

impl<A: Actor> Pump<A> {
    pub(crate) const fn new(mailbox: Arc<Mailbox<A>>, generation: u64) -> Self {
        Self { mailbox, generation }
    }
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        context: &mut Context<A>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        for _ in 0..TURN_MAX {
            if context.waiting() {
                // The context polls everything again once it is done waiting.
                return Poll::Pending;
            }
            match self.mailbox.take(self.generation, task.waker()) {
                Ok(Some(job)) => {
                    self.mailbox.handled.fetch_add(1, Ordering::Relaxed);
                    if self.mailbox.strikes(job.name()) {
                        job.crash();
                    } else {
                        job.run(actor, context);
                    }
                }
                Ok(None) => return Poll::Pending,
                Err(()) => return Poll::Ready(()),
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}
