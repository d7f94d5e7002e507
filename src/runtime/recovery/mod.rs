//! Recovery: starts the retries that are due, and takes over what lost nodes left.
//!
//! What follows a failure is decided and stored in the transaction that ends the attempt (see
//! `domain::recovery`); this actor only carries it out when its instant comes. So a crash, a
//! restart and a cold start are one code path: the store says what is due.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::classification::Failure;
use crate::domain::execution::{Execution, ExecutionError, ExecutionStatus};
use crate::domain::recovery::{NODE_LOST, RecoveryLimits, next_attempt, plan_failure};
use crate::runtime::executor::launcher::Launcher;
use crate::runtime::meter;
use crate::runtime::wake::{STRETCH, Wake, Waker};
use crate::store::{Finish, FinishResult, RetryStart, Store, StoreError, Topic};
use crate::supervision::Vitals;

/// How long a pass waits after the store failed.
const STORE_RETRY: Duration = Duration::from_millis(250);
/// How often the dead letters are counted for their alert.
const LETTERS_EVERY: Duration = Duration::from_secs(10);

/// What recovery is made of.
#[derive(Clone)]
pub struct RecoveryParts {
    /// Where records live.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// Takes retries that may run here at once.
    pub launcher: Launcher,
    /// Limits of recovery.
    pub limits: RecoveryLimits,
    /// Records at most a pass.
    pub batch: i64,
    /// The safety net: a lost announcement costs at most this.
    pub tick: Duration,
    /// When growing dead letters raise an alert.
    pub letters: LetterWatch,
}

/// When growing dead letters raise an alert.
#[derive(Clone, Copy, Debug)]
pub struct LetterWatch {
    /// Letters added within the window; 0 raises none.
    pub threshold: i64,
    /// How far back they are counted.
    pub window: Duration,
}

/// The recovery actor.
pub struct Recovery {
    parts: RecoveryParts,
    waker: Waker,
    vitals: Vitals,
}

impl Recovery {
    /// Recovery over the store.
    #[must_use]
    pub fn new(parts: RecoveryParts, vitals: Vitals) -> Self {
        Self { parts, waker: Waker::default(), vitals }
    }
}

impl Actor for Recovery {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let work = Work {
            parts: self.parts.clone(),
            waker: self.waker.clone(),
            vitals: self.vitals.clone(),
        };
        ctx.spawn(work.run().into_actor(self));
    }
}

impl Handler<Wake> for Recovery {
    type Result = ();

    fn handle(&mut self, _: Wake, _: &mut Self::Context) {
        self.waker.wake();
    }
}

crate::actor_messages!(Recovery: Wake);

struct Work {
    parts: RecoveryParts,
    waker: Waker,
    vitals: Vitals,
}

impl Work {
    async fn run(self) {
        let mut retries = self.parts.store.changes(Topic::Retries);
        let sweep_every = self.parts.launcher.lease().sweep_every();
        let mut sweep_at = Instant::now();
        let mut letters_at = Instant::now();
        loop {
            if letters_at <= Instant::now() {
                self.watch_letters().await;
                letters_at = Instant::now() + LETTERS_EVERY;
            }
            let wait = match self.pass(&mut sweep_at, sweep_every).await {
                Ok(wait) => {
                    self.vitals.ready();
                    wait
                }
                Err(error) => {
                    tracing::warn!(%error, "recovery waits for the store");
                    STORE_RETRY
                }
            };
            // A closed channel means that the store is being closed: the tick ends the wait.
            tokio::select! {
                _ = retries.changed() => {}
                () = self.waker.woken() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Raises the alert of growing dead letters; a store that is away is met by the pass.
    async fn watch_letters(&self) {
        let LetterWatch { threshold, window } = self.parts.letters;
        if threshold > 0
            && let Err(error) = self.parts.store.dead_letters_watch(threshold, window).await
        {
            tracing::debug!(%error, "the dead letters were not counted");
        }
    }

    async fn pass(&self, sweep_at: &mut Instant, every: Duration) -> Result<Duration, StoreError> {
        let until = Instant::now() + STRETCH;
        if *sweep_at <= Instant::now() {
            let is_done = self.take_over(until).await?;
            *sweep_at = if is_done { Instant::now() + every } else { until };
        }
        if self.parts.launcher.is_draining() {
            return Ok(self.parts.tick);
        }
        while self.start_due().await? {
            if Instant::now() >= until {
                return Ok(Duration::ZERO);
            }
        }
        let store = &self.parts.store;
        let Some(next) = store.error_next_due().await? else {
            return Ok(self.parts.tick.min(every));
        };
        let wait = (next - store.now().await?).to_std().unwrap_or(Duration::ZERO);
        Ok((wait + Duration::from_millis(1)).min(self.parts.tick).min(every))
    }

    /// Starts one batch of due retries; true when there may be more.
    async fn start_due(&self) -> Result<bool, StoreError> {
        let RecoveryParts { store, clock, launcher, batch, .. } = &self.parts;
        let now = store.now().await?;
        let due = store.error_list_due(now, *batch).await?;
        let full = i64::try_from(due.len()).unwrap_or(i64::MAX) >= *batch;
        if due.is_empty() {
            return Ok(false);
        }
        for (record, _) in &due {
            meter::retry_started(&record.kind);
        }
        let starts: Vec<RetryStart> = due
            .into_iter()
            .map(|(record, failed)| RetryStart {
                error_id: record.id,
                expected_next_retry_at: record.next_retry_at,
                execution: next_attempt(&failed, Uuid::now_v7(), clock.now()),
            })
            .collect();
        let ticket = launcher.ticket(starts.len());
        let claim = ticket.as_ref().map(|ticket| ticket.claim.clone());
        let started = store.error_start_retries(starts, claim).await?;
        let running = started
            .into_iter()
            .map(|(_, row)| row)
            .filter(|row| row.status == ExecutionStatus::Running);
        launcher.launch(running, ticket);
        Ok(full)
    }

    /// Ends what lost nodes left running, until `until`; each end plans its own retry. True when
    /// nothing is left.
    async fn take_over(&self, until: Instant) -> Result<bool, StoreError> {
        let RecoveryParts { store, launcher, batch, .. } = &self.parts;
        while Instant::now() < until {
            let lost = store.execution_list_expired(launcher.lease().grace(), *batch).await?;
            if lost.is_empty() {
                return Ok(true);
            }
            let full = i64::try_from(lost.len()).unwrap_or(i64::MAX) >= *batch;
            // Our own rows are the heartbeat's to judge: it knows whether their tasks are gone.
            let ours = Some(launcher.lease().claimant().boot_id);
            let lost = lost.into_iter().filter(|row| row.lease_owner != ours);
            let ends: Vec<Finish> = lost.map(|row| self.end_of_lost(row)).collect();
            if ends.is_empty() {
                return Ok(true);
            }
            let results = store.execution_finish(ends).await?;
            let ended = results.iter().filter(|r| matches!(r, FinishResult::Done(_))).count();
            meter::leases_expired(ended);
            tracing::warn!(ended, "executions of a lost node were ended and will be retried");
            if !full || ended == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn end_of_lost(&self, row: Execution) -> Finish {
        let node = row.node_id.as_deref().unwrap_or("unknown");
        let owner = row.lease_owner.unwrap_or_default();
        let cancelled = row.cancel_requested_at.is_some();
        let error = ExecutionError::new(
            NODE_LOST,
            format!("the node `{node}` was lost while it ran this attempt"),
        );
        let failure = plan_failure(
            &row,
            &Failure::of(&error),
            self.parts.limits,
            self.parts.clock.now(),
            0.5,
        );
        Finish {
            row: Arc::new(row),
            lease_owner: owner,
            // What a person wanted to end has ended with its node.
            status: if cancelled { ExecutionStatus::Cancelled } else { ExecutionStatus::Failed },
            result: None,
            error: Some(error),
            conductor_thread_id: None,
            usage: None,
            conductor_status: None,
            failure: failure.filter(|_| !cancelled),
        }
    }
}
