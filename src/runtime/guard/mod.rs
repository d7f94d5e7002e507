//! The store guard: knows whether the database answers.
//!
//! It asks once a second and on demand keeps what it learned in shared atomics, so that health
//! and readiness cost no round trip and say `down` within seconds. Nobody waits for it: those that
//! need the store ask the store and wait out its absence themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};

use crate::store::Store;
use crate::supervision::Vitals;

/// How often the database is asked.
const PING_EVERY: Duration = Duration::from_secs(1);
/// A database that does not answer within it is away.
const PING_LIMIT: Duration = Duration::from_millis(1500);

/// What is known of the database; survives the actor's generations.
#[derive(Debug, Default)]
pub struct StoreHealth {
    up: AtomicBool,
    outages: AtomicU64,
    ping_micros: AtomicU64,
}

impl StoreHealth {
    /// True when the last question was answered.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// How often it went away since the process started.
    #[must_use]
    pub fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    /// How long the last answer took.
    #[must_use]
    pub fn ping(&self) -> Duration {
        Duration::from_micros(self.ping_micros.load(Ordering::Relaxed))
    }

    fn note(&self, answer: Result<Duration, String>) {
        match answer {
            Ok(took) => {
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.ping_micros.store(micros, Ordering::Relaxed);
                if !self.up.swap(true, Ordering::AcqRel) {
                    tracing::info!("the database answers");
                }
            }
            Err(reason) => {
                if self.up.swap(false, Ordering::AcqRel) {
                    self.outages.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(reason, "the database does not answer; work waits");
                }
            }
        }
    }
}

/// The store guard actor.
pub struct StoreGuard {
    store: Store,
    health: Arc<StoreHealth>,
    vitals: Vitals,
}

impl StoreGuard {
    /// A guard of `store` that keeps what it learns in `health`.
    #[must_use]
    pub fn new(store: Store, health: Arc<StoreHealth>, vitals: Vitals) -> Self {
        Self { store, health, vitals }
    }
}

impl Actor for StoreGuard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (store, health, vitals) =
            (self.store.clone(), self.health.clone(), self.vitals.clone());
        let watch = async move {
            loop {
                let asked = tokio::time::Instant::now();
                let answer = match tokio::time::timeout(PING_LIMIT, store.ping()).await {
                    Ok(Ok(())) => Ok(asked.elapsed()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("no answer in time".to_owned()),
                };
                if answer.is_ok() {
                    vitals.ready();
                }
                health.note(answer);
                tokio::time::sleep(PING_EVERY).await;
            }
        };
        ctx.spawn(watch.into_actor(self));
    }
}

crate::actor_messages!(StoreGuard:);
