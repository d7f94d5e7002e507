//! Which messages an actor takes, in a list that cannot be incomplete.
//!
//! An [`ActorRef`](super::ActorRef) sends only what [`actor_messages!`](crate::actor_messages)
//! lists for its actor, so whoever goes through [`Messages::NAMES`] (the tests that let each
//! handler panic, for one) leaves no message out. Messages an actor sends itself, by `notify` or
//! timers, do not pass the mailbox and are not listed.

use actix::{Handler, Message};

/// An actor and the names of all messages that it can be sent.
pub trait Messages: actix::Actor {
    /// Their types' names.
    const NAMES: &'static [&'static str];
}

/// An actor takes messages of type `M`. Implemented by [`actor_messages!`](crate::actor_messages).
pub trait Takes<M: Message>: Handler<M> + Messages {
    /// The name of `M`.
    const NAME: &'static str;
}

/// Lists the messages of an actor: `actor_messages!(Scheduler: Wake, Stop)`; none is
/// `actor_messages!(Janitor:)`.
#[macro_export]
macro_rules! actor_messages {
    ($actor:ty: $($message:ident),* $(,)?) => {
        impl $crate::supervision::Messages for $actor {
            const NAMES: &'static [&'static str] = &[$(stringify!($message)),*];
        }
        $(impl $crate::supervision::Takes<$message> for $actor {
            const NAME: &'static str = stringify!($message);
        })*
    };
}
