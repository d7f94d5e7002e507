//! Supervision: trees of actix actors that are restarted when they crash or hang.
//!
//! actix's own `Supervisor` does not restart an actor that panics, has no restart limit and no
//! tree. This room builds what Erlang/OTP has on actix's public API, and knows nothing of the
//! program it serves.
//!
//! # In use
//! 1. Make all references first: `ActorRef::new(capacity)`. They can be handed to every factory.
//! 2. Describe the tree: `ChildSpec::worker(name, &actor_ref, factory)` and
//!    `ChildSpec::supervisor(name, SupervisorSpec { strategy, limit, children })`.
//! 3. `Tree::start(spec, clock)`, then `tree.ready(timeout)`, in the end `tree.shutdown()`; and
//!    when `tree.gave_up()` resolves, the program should drain and end.
//!
//! # For those who write an actor
//! - Call [`Vitals::ready`] after the first successful pass (from `started`, or when the future
//!   that `started` spawned is done): successors wait for it, and its deadline is
//!   `start_deadline`. With `waits_for_ready(false)` it is called for you.
//! - Beats are automatic. Blocking the thread, or a `ctx.wait` that does not resolve, is a hang
//!   after `heartbeat`. Say [`Vitals::protect`] around waits that are long on purpose; it protects
//!   that actor, not the others on its thread, so what blocks belongs on a blocking pool.
//! - A panic cancels everything in the actor's context, asynchronous handlers included. Work that
//!   must outlive a crash of the actor runs in tasks of its own.
//! - `stopped` is called after an orderly stop, and may not be after a crash: do nothing durable
//!   there. A panic while another unwinds ends the process.
//! - List its messages with [`actor_messages!`](crate::actor_messages); no other can be sent to it.
//! - Hand out the [`ActorRef`], never `ctx.address()`: that address dies with this life. actix's
//!   own `notify` and timers work as always.
//!
//! # What is guaranteed
//! - A restart is a fresh actor from its factory on the same mailbox. The message in flight is
//!   answered with [`AskError::Crashed`], what was queued is handled by the next life, hangs
//!   included. An actor that was stopped for good refuses with `Gone`, as does one not started.
//! - Children start in order, each after the first pass of those before it, and stop in reverse,
//!   each with its deadline, after which they are aborted.
//! - A blocked thread cannot be killed: it is abandoned, and all children of its group move to a
//!   new one, uncharged but for the culprit. The thread leaks until the blocking call returns.
//! - Past its limit a supervisor stops its children and fails; its parent restarts it, or gives
//!   up in turn. Operators' restarts and moves of a group are never charged.
//! - Reports come from shared vitals and never wait for an actor.
//!
//! # Where is what
//! `plan` decides (pure), `supervisor` applies, `runner` runs one life, `mailbox` holds messages
//! over lives, `groups` holds the threads, `node` and `report` hold what is seen, `tree` is the
//! handle. Deliberately not here: named registries, remote actors, children added at run time.

mod actor_ref;
mod control;
mod groups;
mod mailbox;
mod messages;
mod node;
mod panics;
mod plan;
mod report;
mod runner;
mod spec;
mod supervisor;
mod tree;
mod vitals;

pub use actor_ref::{ActorRef, AskError, SendError};
pub use control::ControlError;
pub use messages::{Messages, Takes};
pub use node::WallClock;
pub use panics::install_panic_hook;
pub use report::{Crash, CrashKind, CrashMode, Intensity, NodeKind, NodeReport, NodeState, Notice};
pub use spec::{
    Backoff, ChildSpec, DEFAULT_HEARTBEAT, DEFAULT_SHUTDOWN, DEFAULT_START_DEADLINE, GroupName,
    Restart, RestartLimit, Strategy, SupervisorSpec,
};
pub use tree::{NotReady, ROOT, StartError, Tree};
pub use vitals::{Protection, Vitals};
