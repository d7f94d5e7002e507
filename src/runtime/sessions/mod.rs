//! `SessionRegistry`: keeps the rows of live sessions true, sweeps stale ones and measures.
//!
//! The sessions themselves are actors on their HTTP workers (`api/ws`) and live in the shared
//! [`SessionTable`], not in this actor: its crash ends no session and loses no row, because a new
//! generation finds in the table what was not written yet. Nothing waits for it.

mod live;
mod rows;
mod table;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures_util::StreamExt;
use tokio::time::Instant;

pub use live::{Closing, LiveSettings, LiveState};
pub use rows::SessionRows;
pub use table::{SessionGuard, SessionStats, SessionTable, rooms_of};

use crate::runtime::events::OnPass;
use crate::store::{StoreError, StoreResult};
use crate::telemetry::names;

/// Row writes under way at once; the store groups them into one commit.
const ROW_WRITES: usize = 64;

/// Keeps rows and statistics.
pub struct SessionRegistry {
    live: Arc<LiveState>,
    rows: Arc<dyn SessionRows>,
    on_pass: OnPass,
}

impl std::fmt::Debug for SessionRegistry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SessionRegistry").field("live", &self.live).finish_non_exhaustive()
    }
}

impl SessionRegistry {
    /// A registry over the shared sessions.
    #[must_use]
    pub fn new(live: Arc<LiveState>, rows: Arc<dyn SessionRows>, on_pass: OnPass) -> Self {
        Self { live, rows, on_pass }
    }
}

/// Writes what is due, until nothing is.
async fn write_rows(live: &LiveState, rows: &dyn SessionRows) -> StoreResult<()> {
    loop {
        let writes = live.table.next_writes(ROW_WRITES);
        if writes.is_empty() {
            return Ok(());
        }
        let outcomes = futures_util::stream::iter(writes)
            .map(|(id, write)| async move {
                let outcome = match write.clone() {
                    rows::RowWrite::Open(session) => rows.open(session).await,
                    rows::RowWrite::Subscribe(_, value) => rows.subscribe(id, value).await,
                    rows::RowWrite::Close => rows.close(id).await,
                };
                (id, write, outcome)
            })
            .buffer_unordered(ROW_WRITES)
            .collect::<Vec<_>>()
            .await;
        let mut unavailable = None;
        for (id, write, outcome) in outcomes {
            match outcome {
                Err(error @ (StoreError::Unavailable(_) | StoreError::Unwritable(_))) => {
                    unavailable = Some(error);
                }
                outcome => {
                    // A row that the store refuses would be refused again; the sweep mends it.
                    if let Err(error) = outcome {
                        tracing::warn!(session.id = %id, error = %error, "a session row was refused");
                    }
                    live.table.done(id, &write);
                }
            }
        }
        if let Some(error) = unavailable {
            return Err(error);
        }
    }
}

/// Messages a second since the last call.
#[derive(Debug)]
struct Rate {
    at: Instant,
    sent: u64,
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn measure(&mut self, live: &LiveState) {
        let elapsed = self.at.elapsed();
        if elapsed < Duration::from_millis(500) {
            return;
        }
        let (sent, _) = live.feed.counts();
        let per_second = sent.saturating_sub(self.sent) as f64 / elapsed.as_secs_f64();
        live.table.set_rate((per_second * 10.0).round() / 10.0);
        metrics::counter!(names::WS_SENT).absolute(sent);
        metrics::gauge!(names::WS_CLIENTS).set(live.table.count() as f64);
        *self = Self { at: Instant::now(), sent };
    }
}

crate::actor_messages!(SessionRegistry:);

impl Actor for SessionRegistry {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let (live, rows) = (Arc::clone(&self.live), Arc::clone(&self.rows));
        let on_pass = Arc::clone(&self.on_pass);
        let run = async move {
            let settings = live.settings;
            let mut rate = Rate { at: Instant::now(), sent: live.feed.counts().0 };
            let mut next_sweep = Instant::now();
            let mut swept_as = None;
            loop {
                let mut outcome = write_rows(&live, &*rows).await;
                // A node under a new boot id takes its rows along at once.
                let boot_id = live.boot_id();
                let is_due = Instant::now() >= next_sweep || swept_as != Some(boot_id);
                if outcome.is_ok() && is_due {
                    // In turn with the writes: no row is added between the list and the sweep.
                    let swept = rows.close_stale(boot_id, live.table.alive()).await;
                    outcome = swept.map(|_| {
                        next_sweep = Instant::now() + settings.sweep_interval;
                        swept_as = Some(boot_id);
                    });
                }
                rate.measure(&live);
                let is_down = match outcome {
                    Ok(()) => {
                        on_pass();
                        false
                    }
                    Err(error) => {
                        tracing::warn!(error = %error, "session rows cannot be written; waiting");
                        true
                    }
                };
                tokio::select! {
                    () = live.table.changed(), if !is_down => {}
                    () = tokio::time::sleep(settings.rows_interval) => {}
                }
            }
        };
        context.spawn(run.into_actor(self).map(|(), _, _| ()));
    }
}
