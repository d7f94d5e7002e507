//! Delivers messages: some at the same time, a few of each channel, each under a lease.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::{LOOK_EVERY, STORE_RETRY, wait_for};
use crate::domain::alert::message::next_attempt;
use crate::runtime::meter;
use crate::runtime::wake::Waker;
use crate::store::{ClaimedMessage, DeliveryEnd, Store, StoreError, Topic};
use crate::tasks::notify::Notifier;

/// Messages on their way at the same time, and of one channel.
const FLIGHTS_MAX: usize = 16;
const FLIGHTS_EACH: i64 = 4;
/// How long due messages of busy channels wait for the next look, if nothing lands before.
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// How often the end of an attempt is tried to be noted; after that its lease runs out.
const NOTE_ATTEMPTS: u32 = 3;

/// Delivers what is due, for ever; `made` tells of new messages.
pub(super) async fn run(store: Store, notifier: Notifier, made: Waker) {
    let mut state = store.changes(Topic::State);
    let mut flights = FuturesUnordered::new();
    let mut busy: HashMap<i64, i64> = HashMap::new();
    loop {
        state.borrow_and_update();
        let free = FLIGHTS_MAX.saturating_sub(flights.len());
        let wait = match claim(&store, &busy, free).await {
            Ok((claimed, wait)) => {
                for message in claimed {
                    *busy.entry(message.channel.id).or_default() += 1;
                    flights.push(fly(&store, &notifier, message));
                }
                wait
            }
            Err(error) => {
                tracing::warn!(%error, "deliveries of alerts wait for the store");
                STORE_RETRY
            }
        };
        tokio::select! {
            Some(channel) = flights.next(), if !flights.is_empty() => {
                if let Some(count) = busy.get_mut(&channel) {
                    *count -= 1;
                }
                busy.retain(|_, count| *count > 0);
            }
            _ = state.changed() => {}
            () = made.woken() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Claims what is due and gives how long until more may be.
async fn claim(
    store: &Store,
    busy: &HashMap<i64, i64>,
    free: usize,
) -> Result<(Vec<ClaimedMessage>, Duration), StoreError> {
    if free == 0 {
        return Ok((Vec::new(), LOOK_EVERY));
    }
    let (next, now) = store.alert_message_next().await?;
    if next.is_none_or(|next| next > now) {
        return Ok((Vec::new(), wait_for(next, now)));
    }
    let claimed = store.alert_message_claim(busy.clone(), FLIGHTS_EACH, free).await?;
    let wait = if claimed.is_empty() { BUSY_WAIT } else { Duration::ZERO };
    Ok((claimed, wait))
}

/// One attempt, and the note of its end; gives the channel.
async fn fly(store: &Store, notifier: &Notifier, message: ClaimedMessage) -> i64 {
    let began = Instant::now();
    let spec = &message.channel.spec;
    let sent = notifier.send(spec, &message.webhook_id, &message.notice).await;
    meter::alert_delivery(spec.kind(), sent.is_ok());
    let (status, error) = match sent {
        Ok(status) => (status, None),
        Err(error) => {
            let (channel, reason) = (&message.channel.name, &error.message);
            tracing::warn!(%channel, %reason, attempt = message.attempt, "an alert was not delivered");
            (error.status, Some(error.message))
        }
    };
    for attempt in 1..=NOTE_ATTEMPTS {
        let end = end_of(store, &message, (status, error.clone()), began).await;
        match store.alert_message_end(end).await {
            Ok(()) => break,
            Err(fault) if attempt == NOTE_ATTEMPTS => {
                tracing::warn!(%fault, "the end of a delivery could not be noted; it is made again");
            }
            Err(_) => tokio::time::sleep(STORE_RETRY).await,
        }
    }
    message.channel.id
}

async fn end_of(
    store: &Store,
    message: &ClaimedMessage,
    (status, error): (Option<i32>, Option<String>),
    began: Instant,
) -> DeliveryEnd {
    let now = store.now().await.unwrap_or(message.created_at);
    let retry_at = next_attempt(message.created_at, message.attempt, now);
    DeliveryEnd {
        message_id: message.id,
        attempt: message.attempt,
        delivered: error.is_none(),
        status,
        retry_at: retry_at.filter(|_| error.is_some()),
        error,
        duration_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
    }
}
