//! Whether the server answers at all: an outage that says nothing is found within a second.
//!
//! A server that stops says so, or its connections end. A network that drops everything says
//! nothing: whoever waits for an answer would wait for minutes. So an operation that has waited
//! for half of the acquire timeout has the server asked, on a connection that does nothing else.
//! When that question is not answered within the acquire timeout either, the server has fallen
//! silent: every operation under way ends as `Unavailable`, their connections are given up, idle
//! ones too, and the next operation starts with a fresh one. A statement that is merely slow is
//! never ended by this: the server goes on answering.

use std::pin::pin;
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::Pool;
use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::connect::Target;

/// Looks after the operations under way.
pub(super) struct Pulse {
    limit: Duration,
    asked: Notify,
    /// How often the server has fallen silent.
    fallen: watch::Sender<u64>,
}

impl Pulse {
    /// A server that must answer within `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, asked: Notify::new(), fallen: watch::Sender::new(0) }
    }

    /// Does the work; `None` when the server fell silent meanwhile.
    pub(super) async fn watch_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut fallen = self.fallen.subscribe();
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                _ = fallen.changed() => return None,
                () = sleep(self.limit / 2) => self.asked.notify_one(),
            }
        }
    }

    /// Changes when the server falls silent.
    pub(super) fn fallen(&self) -> watch::Receiver<u64> {
        self.fallen.subscribe()
    }

    /// Asks the server whenever somebody waits for it; runs for ever.
    pub(super) async fn beat(&self, target: Target, pool: Pool<AsyncPgConnection>) {
        loop {
            // Made before it is needed: a slow network must not be taken for a silent one.
            let client = match timeout(self.limit * 4, target.listen()).await {
                Ok(Ok((client, _))) => client,
                // A refusal is an answer too.
                Ok(Err(_)) => {
                    sleep(self.limit).await;
                    continue;
                }
                Err(_) => {
                    if self.asked.notified().now_or_never().is_some() {
                        self.fall(&pool);
                    }
                    continue;
                }
            };
            loop {
                self.asked.notified().await;
                match self.ask(&client).await {
                    Answer::Given => {}
                    Answer::Closed => break,
                    Answer::None => {
                        self.fall(&pool);
                        break;
                    }
                }
            }
        }
    }

    fn fall(&self, pool: &Pool<AsyncPgConnection>) {
        tracing::warn!("the database server fell silent: its connections are given up");
        self.fallen.send_modify(|count| *count = count.wrapping_add(1));
        pool.retain(|_, _| false);
    }

    async fn ask(&self, client: &Client) -> Answer {
        let mut question = pin!(client.simple_query(""));
        // In two halves: after this process itself was held up, what came meanwhile is heard first.
        for _ in 0..2 {
            if let Ok(answer) = timeout(self.limit / 2, &mut question).await {
                return if answer.is_ok() { Answer::Given } else { Answer::Closed };
            }
        }
        Answer::None
    }
}

/// What came of a question.
enum Answer {
    Given,
    /// The connection has ended, which its other users hear too.
    Closed,
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_long_has_the_server_asked_and_ends_when_it_is_silent() {
        let pulse = Pulse::new(Duration::from_millis(500));
        assert_eq!(pulse.watch_over(sleep(Duration::from_millis(200))).await, Some(()));
        let asked = async {
            pulse.asked.notified().await;
            pulse.fallen.send_modify(|count| *count += 1);
        };
        let waiting = pulse.watch_over(std::future::pending::<()>());
        let (waited, ()) = tokio::join!(waiting, asked);
        assert_eq!(waited, None);
        assert_eq!(pulse.watch_over(sleep(Duration::from_secs(9))).await, Some(()));
    }
}
