//! Alerts: follows the events, raises what rules ask for, and delivers it.
//!
//! Two loops that the store joins: one looks at events and at what is due, the other delivers
//! messages, so that a receiver that answers slowly delays no alert. Both are woken, by events, by
//! changes of rules and by the instant that is due next, and look again every `LOOK_EVERY`, which
//! bounds what a stepped clock or a node that died with a message in hand can cost; while no rule
//! is in force, one row is read. What to do is decided in `domain::alert` and done in one
//! transaction with the cursor, so that a crash or another node neither loses nor doubles an alert.
//! A message is delivered at least once, always under the same name.

mod deliver;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::runtime::meter;
use crate::runtime::wake::{STRETCH, Waker};
use crate::store::{AlertAdvance, AlertRules, AlertScan, Store, StoreError, Topic};
use crate::supervision::Vitals;
use crate::tasks::notify::Notifier;

/// How long a pass waits after the store failed.
const STORE_RETRY: Duration = Duration::from_millis(500);
/// The least time between two looks at the events: what comes meanwhile is one look.
const PAUSE: Duration = Duration::from_millis(200);
/// Events without meaning after which the cursor is moved past them.
const CURSOR_EVERY: i64 = 20_000;
/// The longest wait for the next look, whatever is due.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The alerts actor.
pub struct Alerts {
    store: Store,
    notifier: Notifier,
    vitals: Vitals,
}

crate::actor_messages!(Alerts:);

impl Alerts {
    /// Alerts of `store`, delivered by `notifier`.
    #[must_use]
    pub const fn new(store: Store, notifier: Notifier, vitals: Vitals) -> Self {
        Self { store, notifier, vitals }
    }
}

impl Actor for Alerts {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let made = Waker::default();
        let watch = Watch {
            store: self.store.clone(),
            known: Arc::default(),
            scanned: 0,
            made: made.clone(),
            vitals: self.vitals.clone(),
        };
        ctx.spawn(watch.run().into_actor(self));
        let delivery = deliver::run(self.store.clone(), self.notifier.clone(), made);
        ctx.spawn(delivery.into_actor(self));
    }
}

/// The loop that makes alerts of events.
struct Watch {
    store: Store,
    known: Arc<AlertRules>,
    /// The last event looked at; those between the cursor and it mean nothing.
    scanned: i64,
    /// Woken when messages were made.
    made: Waker,
    vitals: Vitals,
}

impl Watch {
    async fn run(mut self) {
        let mut events = self.store.changes(Topic::Events);
        let mut state = self.store.changes(Topic::State);
        loop {
            events.borrow_and_update();
            state.borrow_and_update();
            let wait = match self.pass().await {
                Ok(wait) => {
                    self.vitals.ready();
                    wait
                }
                Err(error) => {
                    tracing::warn!(%error, "alerts wait for the store");
                    self.scanned = 0;
                    STORE_RETRY
                }
            };
            let is_idle = self.known.rules.is_empty();
            // A closed channel means that the store is being closed: the pause keeps it calm.
            tokio::select! {
                _ = events.changed(), if !is_idle => {}
                _ = state.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Looks at what is there, for a while; gives how long until something is due.
    async fn pass(&mut self) -> Result<Duration, StoreError> {
        let until = Instant::now() + STRETCH;
        while Instant::now() < until {
            let scan = self.store.alert_scan(self.known.clone(), self.scanned).await?;
            self.known = scan.rules.clone();
            self.scanned = scan.scanned;
            if self.known.rules.is_empty() {
                return Ok(LOOK_EVERY);
            }
            let (next_at, now, has_more) = (scan.next_at, scan.now, scan.has_more);
            let is_due = next_at.is_some_and(|next| next <= now);
            let has_advanced = self.advance(scan).await?;
            // What is due is told however many failures come in meanwhile.
            if is_due {
                self.tick().await?;
            } else if !has_advanced && !has_more {
                return Ok(wait_for(next_at, now));
            }
        }
        Ok(Duration::ZERO)
    }

    /// Makes alerts of what was found; true when something was done or must be looked at again.
    async fn advance(&mut self, scan: AlertScan) -> Result<bool, StoreError> {
        if scan.steps.is_empty() && scan.scanned - scan.cursor < CURSOR_EVERY {
            return Ok(false);
        }
        let AlertScan { cursor, scanned, steps, .. } = scan;
        let advance = AlertAdvance { cursor, stamp: scan.rules.stamp, to: scanned, steps };
        match self.store.alert_advance(advance).await? {
            Some(done) => meter::alerts(done),
            // Another node was first, or a rule changed: what is new is looked at again.
            None => self.scanned = 0,
        }
        Ok(true)
    }

    async fn tick(&self) -> Result<(), StoreError> {
        let done = self.store.alert_tick().await?;
        meter::alerts(done);
        if done.messages > 0 {
            self.made.wake();
        }
        Ok(())
    }
}

/// From `now` to an instant, if there is one.
fn wait_for(next: Option<Timestamp>, now: Timestamp) -> Duration {
    let wait = next.map_or(LOOK_EVERY, |next| (next - now).to_std().unwrap_or(Duration::ZERO));
    wait.saturating_add(Duration::from_millis(1)).min(LOOK_EVERY)
}
