//! LISTEN and NOTIFY: other nodes learn soon that something changed.
//!
//! What was changed here bumps the topics here at once; other nodes get one coalesced notification
//! per [`PAUSE`] with the topics' letters. Notifications are hints and may be lost: after each
//! (re)connection of the listener all topics are bumped, so that everybody reads again.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use diesel::sql_types::Text;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::Db;
use super::connect::Target;
use super::pulse::Pulse;
use crate::store::op::TopicSet;
use crate::store::shared::Shared;
use crate::store::statement::statement;

/// The channel's name.
const CHANNEL: &str = "carillon_changes";
/// The least time between two notifications of this node.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the listener waits before it connects again, doubling up to the second.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Tells other nodes, and hears them.
pub(super) struct Notifier {
    waiting: Arc<Waiting>,
    stopped: watch::Sender<bool>,
}

#[derive(Default)]
struct Waiting {
    topics: AtomicU8,
    wake: Notify,
}

impl Notifier {
    /// Starts both tasks on the store's runtime.
    pub(super) fn start(
        handle: &Handle,
        pool: &Pool<AsyncPgConnection>,
        target: &Target,
        shared: &Arc<Shared>,
        pulse: &Arc<Pulse>,
    ) -> Self {
        let waiting = Arc::new(Waiting::default());
        let (stopped, stop) = watch::channel(false);
        // Marks our own notifications, which we need not hear.
        let mark = Uuid::new_v4().simple().to_string();
        let telling =
            tell_others(Arc::clone(&waiting), pool.clone(), mark.clone(), Arc::clone(pulse));
        let hearing = hear_others(target.clone(), Arc::clone(shared), mark, pulse.fallen());
        let (asking, target, pool) = (Arc::clone(pulse), target.clone(), pool.clone());
        let asking = async move { asking.beat(target, pool).await };
        for task in [telling.boxed(), hearing.boxed(), asking.boxed()] {
            let mut stop = stop.clone();
            handle.spawn(async move {
                tokio::select! {
                    () = task => {}
                    _ = stop.wait_for(|stopped| *stopped) => {}
                }
            });
        }
        Self { waiting, stopped }
    }

    /// Tells other nodes that topics changed, soon.
    pub(super) fn tell(&self, topics: TopicSet) {
        if !topics.is_empty() {
            self.waiting.topics.fetch_or(topics.bits(), Ordering::AcqRel);
            self.waiting.wake.notify_one();
        }
    }

    /// Ends both tasks.
    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }
}

async fn tell_others(
    waiting: Arc<Waiting>,
    pool: Pool<AsyncPgConnection>,
    mark: String,
    pulse: Arc<Pulse>,
) {
    loop {
        waiting.wake.notified().await;
        let topics = TopicSet::from_bits(waiting.topics.swap(0, Ordering::AcqRel));
        if topics.is_empty() {
            continue;
        }
        if notify(&pool, &pulse, format!("{mark}:{}", topics.letters())).await.is_none() {
            waiting.topics.fetch_or(topics.bits(), Ordering::AcqRel);
            waiting.wake.notify_one();
            tokio::time::sleep(RECONNECT.0).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

statement! {
    /// Tells the other nodes.
    Tell<'a> {
        "SELECT pg_notify(", channel: &'a str as Text;
        ", ", payload: &'a str as Text;
        => ")"
    }
}

async fn notify(pool: &Pool<AsyncPgConnection>, pulse: &Pulse, payload: String) -> Option<()> {
    let mut connection = pulse.watch_over(pool.get()).await?.ok()?;
    let telling = Tell { channel: CHANNEL, payload: &payload, of: PhantomData };
    let telling = telling.execute(&mut connection);
    match pulse.watch_over(telling).await {
        Some(told) => told.ok().map(drop),
        None => {
            super::give_up(&mut connection);
            None
        }
    }
}

async fn hear_others(
    target: Target,
    shared: Arc<Shared>,
    mark: String,
    mut fallen: watch::Receiver<u64>,
) {
    let mut delay = RECONNECT.0;
    loop {
        if let Ok((client, mut heard)) = target.listen().await
            && client.batch_execute(&format!("LISTEN {CHANNEL}")).await.is_ok()
        {
            delay = RECONNECT.0;
            shared.changes.bump(TopicSet::ALL);
            fallen.mark_unchanged();
            loop {
                let payload = tokio::select! {
                    payload = heard.recv() => payload,
                    // A connection that only listens would never notice.
                    _ = fallen.changed() => None,
                };
                let Some(payload) = payload else { break };
                match payload.split_once(':') {
                    Some((from, _)) if from == mark => {}
                    Some((_, letters)) => shared.changes.bump(TopicSet::of_letters(letters)),
                    None => {}
                }
            }
            tracing::warn!("the listener lost its connection");
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RECONNECT.1);
    }
}
