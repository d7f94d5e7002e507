//! Triggers: gives stored events to the schedules that listen, and fires what was collected.
//!
//! Posted events are given out in the transaction that stores them; this actor does it for ends of
//! executions, for collected events whose instant has come, and for whatever a crash or a stopped
//! scheduler left waiting. All of that is in the store: a pass after a restart carries on. Several
//! nodes may pass at once; an event is taken by one of them.

use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use tokio::time::Instant;

use crate::domain::execution::ExecutionStatus;
use crate::runtime::executor::launcher::Launcher;
use crate::runtime::wake::STRETCH;
use crate::store::{Store, StoreError, Topic};
use crate::supervision::Vitals;

/// Events of one transaction.
const BATCH: i64 = 200;
/// Rows that one transaction may claim here.
const CLAIM: usize = 64;
/// How long a pass waits after the store failed.
const STORE_RETRY: Duration = Duration::from_millis(250);

/// The triggers actor.
pub struct Triggers {
    store: Store,
    launcher: Launcher,
    /// The safety net: a lost announcement costs at most this, and so long a run may wait that
    /// waited for an earlier one.
    tick: Duration,
    vitals: Vitals,
}

impl Triggers {
    /// Triggers over the store.
    #[must_use]
    pub fn new(store: Store, launcher: Launcher, tick: Duration, vitals: Vitals) -> Self {
        Self { store, launcher, tick, vitals }
    }
}

crate::actor_messages!(Triggers:);

impl Actor for Triggers {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let work = Work {
            store: self.store.clone(),
            launcher: self.launcher.clone(),
            tick: self.tick,
            vitals: self.vitals.clone(),
        };
        ctx.spawn(work.run().into_actor(self));
    }
}

struct Work {
    store: Store,
    launcher: Launcher,
    tick: Duration,
    vitals: Vitals,
}

impl Work {
    async fn run(self) {
        let mut inbox = self.store.changes(Topic::Inbox);
        let mut state = self.store.changes(Topic::State);
        loop {
            let wait = match self.pass().await {
                Ok(wait) => {
                    self.vitals.ready();
                    wait
                }
                Err(error) => {
                    tracing::warn!(%error, "events wait for the store");
                    STORE_RETRY
                }
            };
            // A closed channel means that the store is being closed: the tick ends the wait.
            tokio::select! {
                _ = inbox.changed() => {}
                _ = state.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Gives out what waits, for a while; how long the next pass may wait.
    async fn pass(&self) -> Result<Duration, StoreError> {
        let until = Instant::now() + STRETCH;
        while Instant::now() < until {
            if self.launcher.is_draining() || !self.store.inbox_waits().await? {
                return Ok(self.tick);
            }
            let ticket = self.launcher.ticket(CLAIM);
            let claim = ticket.as_ref().map(|ticket| ticket.claim.clone());
            let done = self.store.inbox_dispatch(claim, BATCH).await?;
            let running =
                done.executions.into_iter().filter(|row| row.status == ExecutionStatus::Running);
            self.launcher.launch(running, ticket);
            if done.more {
                continue;
            }
            let Some(due) = done.next_due else { return Ok(self.tick) };
            let wait = (due - self.store.now().await?).to_std().unwrap_or(Duration::ZERO);
            return Ok((wait + Duration::from_millis(1)).min(self.tick));
        }
        Ok(Duration::ZERO)
    }
}
