//! `EventHub`: tails the event log and wakes the live sessions.
//!
//! It guarantees that what is committed reaches the [`Feed`] in order and without a gap: woken by
//! the store's hint and each interval, it reads what follows the newest event the feed has. It
//! keeps nothing of its own. A new generation reads on where the feed stands, so a crash costs an
//! interval at most and no event; a store that does not answer costs the time until it does.
//!
//! Deliberately not here: who hears what (each session filters for itself, `api/ws`), and output
//! of running tasks, which goes to [`TransientBus`] without passing through any actor.

mod feed;
mod frame;
mod ring;
mod source;
mod transient;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};

pub use feed::Feed;
pub(crate) use frame::event_text;
pub use frame::{Facts, Frame};
pub use ring::{RingLimits, RingRead};
pub use source::EventSource;
pub use transient::{
    ExecutionName, Interest, OUTBOX_MAX, Outbox, TransientBus, TransientEvent, TransientFrame,
};

use crate::clock::Clock;
use crate::store::StoreResult;
use crate::telemetry::names;

/// Time between two looks at the log while nobody listens.
const UNWATCHED_PAUSE: Duration = Duration::from_millis(20);

/// Called after each successful pass: the supervisor's sign that the actor works.
pub type OnPass = Arc<dyn Fn() + Send + Sync>;

/// How the hub works.
#[derive(Clone, Copy, Debug)]
pub struct HubSettings {
    /// Most time between two looks at the log.
    pub interval: Duration,
    /// Events read at once.
    pub batch: i64,
    /// What stays in memory.
    pub ring: RingLimits,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), batch: 1_000, ring: RingLimits::default() }
    }
}

/// Tails the log.
pub struct EventHub {
    feed: Arc<Feed>,
    clock: Clock,
    settings: HubSettings,
    on_pass: OnPass,
}

impl std::fmt::Debug for EventHub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EventHub").field("feed", &self.feed).finish_non_exhaustive()
    }
}

impl EventHub {
    /// A hub that fills `feed`.
    #[must_use]
    pub fn new(feed: Arc<Feed>, clock: Clock, settings: HubSettings, on_pass: OnPass) -> Self {
        Self { feed, clock, settings, on_pass }
    }

    /// One look at the log: everything that follows, in batches.
    async fn pass(feed: &Feed, clock: &Clock, settings: HubSettings) -> StoreResult<()> {
        if !feed.is_loaded() {
            let (_, newest) = feed.source().bounds().await?;
            feed.load(settings.ring, newest);
        }
        if !feed.is_watched() {
            // Nobody listens: only where the log ends is of interest. Whoever comes reads what he
            // missed from the store.
            return feed.skip_to_end().await;
        }
        loop {
            let events = feed.source().list(feed.newest(), settings.batch).await?;
            let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
            if let Some(newest) = events.last() {
                let age = (clock.now() - newest.at).to_std().unwrap_or_default();
                metrics::gauge!(names::EVENT_LAG).set(age.as_secs_f64());
                #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
                metrics::gauge!(names::EVENT_SEQ).set(newest.seq as f64);
            }
            feed.append(events.into_iter().map(Frame::from_event).collect());
            if count < settings.batch {
                return Ok(());
            }
        }
    }
}

impl Actor for EventHub {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let (feed, clock, settings) = (Arc::clone(&self.feed), self.clock.clone(), self.settings);
        let on_pass = Arc::clone(&self.on_pass);
        let tail = async move {
            let mut changes = feed.source().changes();
            loop {
                // Marked before the read: what is appended during it wakes the next pass.
                changes.borrow_and_update();
                match Self::pass(&feed, &clock, settings).await {
                    Ok(()) => on_pass(),
                    Err(error) => tracing::warn!(error = %error, "events cannot be read; waiting"),
                }
                if !feed.is_watched() {
                    tokio::time::sleep(UNWATCHED_PAUSE).await;
                }
                tokio::select! {
                    Ok(()) = changes.changed() => {}
                    () = tokio::time::sleep(settings.interval) => {}
                }
            }
        };
        context.spawn(tail.into_actor(self).map(|(), _, _| ()));
    }
}

crate::actor_messages!(EventHub:);
