//! The janitor: deletes what is past its time, in small batches, so that no statement is long.
//!
//! Several nodes may sweep at once; a row is deleted by whoever comes first.

use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};

use crate::store::{Retention, Store};
use crate::supervision::Vitals;

/// The pause between two batches: sweeping never competes with work for long.
const BETWEEN_BATCHES: Duration = Duration::from_millis(100);

/// The janitor actor.
pub struct Janitor {
    store: Store,
    retention: Retention,
    every: Duration,
    vitals: Vitals,
}

impl Janitor {
    /// A janitor that sweeps `every` so often.
    #[must_use]
    pub fn new(store: Store, retention: Retention, every: Duration, vitals: Vitals) -> Self {
        Self { store, retention, every, vitals }
    }
}

impl Actor for Janitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Nobody depends on a swept store.
        self.vitals.ready();
        let (store, retention, every) = (self.store.clone(), self.retention.clone(), self.every);
        let sweep = async move {
            loop {
                tokio::time::sleep(every).await;
                loop {
                    match store.retention_sweep(retention.clone()).await {
                        Ok(true) => tokio::time::sleep(BETWEEN_BATCHES).await,
                        Ok(false) => break,
                        Err(error) => {
                            tracing::warn!(%error, "the retention sweep waits for the store");
                            break;
                        }
                    }
                }
            }
        };
        ctx.spawn(sweep.into_actor(self));
    }
}

crate::actor_messages!(Janitor:);
