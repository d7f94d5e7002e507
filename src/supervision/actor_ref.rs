//! A stable reference to a supervised actor.
//!
//! An [`ActorRef`] exists before its actor does, so that everyone's references can be handed to
//! everyone's factories, and stays valid through every restart: it names the mailbox, not a life.
//! It works from any thread and any runtime.
//!
//! What a sender can rely on:
//! - sending never blocks and never queues past the capacity;
//! - while the actor is being restarted (back-off included) messages wait and are answered later;
//! - an actor that was never started, or was stopped for good, refuses at once with `Gone`;
//! - a question is always answered, with an error at the latest when its time is up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Actor, Message};
use thiserror::Error;

use super::mailbox::{Mailbox, MailboxGauge, Refusal, pack, pack_question};
use super::messages::{Messages, Takes};

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// As many messages as the mailbox holds are waiting.
    #[error("mailbox full")]
    Full,
    /// The actor was not started, or was stopped for good.
    #[error("actor is gone")]
    Gone,
}

/// Why a question got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// As many messages as the mailbox holds are waiting; the question was not taken.
    #[error("mailbox full")]
    Full,
    /// The actor was not started, or was stopped for good before it came to the question.
    #[error("actor is gone")]
    Gone,
    /// The actor ended while it was at the question: it may or may not have taken effect.
    #[error("actor crashed while it handled the message")]
    Crashed,
    /// The time is up; a question that still waits is skipped, one begun takes its course.
    #[error("no answer in time")]
    Timeout,
}

impl From<SendError> for AskError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full => Self::Full,
            SendError::Gone => Self::Gone,
        }
    }
}

/// A reference to the actor `A`, in whichever life; cheap to clone.
pub struct ActorRef<A: Actor> {
    mailbox: Arc<Mailbox<A>>,
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self { mailbox: Arc::clone(&self.mailbox) }
    }
}

impl<A: Messages> fmt::Debug for ActorRef<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ActorRef").field("waiting", &self.mailbox.depth()).finish()
    }
}

impl<A: Messages> ActorRef<A> {
    /// A reference to an actor that is not started yet. At most `mailbox_capacity` messages wait
    /// for it (at least one).
    #[must_use]
    pub fn new(mailbox_capacity: usize) -> Self {
        Self { mailbox: Arc::new(Mailbox::new(mailbox_capacity)) }
    }

    pub(crate) fn mailbox(&self) -> Arc<Mailbox<A>> {
        Arc::clone(&self.mailbox)
    }

    /// How many messages wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.mailbox.depth()
    }

    /// Sends a message and forgets it.
    ///
    /// # Errors
    /// `Full` or `Gone`; the message was not taken and is dropped.
    pub fn try_send<M>(&self, message: M) -> Result<(), SendError>
    where
        A: Takes<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.mailbox.push(pack(message)).map_err(|refusal| match refusal {
            Refusal::Full => SendError::Full,
            Refusal::Closed => SendError::Gone,
        })
    }

    /// Sends a message and waits for its answer, `timeout` at most. An actor that asks itself
    /// waits in vain.
    ///
    /// # Errors
    /// `Full`, `Gone`, `Crashed` or `Timeout`. After the last two the message may have taken
    /// effect.
    pub async fn ask<M>(&self, message: M, timeout: Duration) -> Result<M::Result, AskError>
    where
        A: Takes<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let job = pack_question(message, sender, Arc::clone(&begun));
        self.mailbox.push(job).map_err(|refusal| match refusal {
            Refusal::Full => AskError::Full,
            Refusal::Closed => AskError::Gone,
        })?;
        match tokio::time::timeout(timeout, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) if begun.load(Ordering::Acquire) => Err(AskError::Crashed),
            Ok(Err(_)) => Err(AskError::Gone),
            Err(_) => Err(AskError::Timeout),
        }
    }
}
