//! The executor: takes what waits and may run, up to its free slots.
//!
//! It claims in batches when work is announced, when slots become free while work waits, when a
//! waiting row's instant comes, and once an interval whatever was announced. What runs lives beside
//! it (see `running`): a crash or restart of this actor ends no task, and the next generation
//! adopts what runs, including rows that were claimed but never begun. `stop` stops claiming.

pub mod launcher;
pub mod log_plan;
pub mod logs;
pub mod plan;
pub mod running;
mod worker;

use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use tokio::time::Instant;

use crate::runtime::executor::launcher::Launcher;
use crate::runtime::wake::{Wake, Waker};
use crate::store::{Store, StoreError, Topic};
use crate::supervision::Vitals;

/// The safety net: a lost announcement costs at most this.
const TICK: Duration = Duration::from_secs(1);
/// How often rows that were claimed but never begun are looked for.
const ADOPT_EVERY: Duration = Duration::from_secs(5);
/// How long slots that become free are gathered for one claim while work waits.
const GATHER: Duration = Duration::from_millis(1);
/// How long a claim waits after the store failed.
const STORE_RETRY: Duration = Duration::from_millis(250);

/// The executor actor.
pub struct Executor {
    launcher: Launcher,
    store: Store,
    waker: Waker,
    batch: usize,
    generation: u64,
    vitals: Vitals,
}

impl Executor {
    /// An executor that claims at most `batch` rows a statement.
    #[must_use]
    pub fn new(launcher: Launcher, store: Store, batch: usize, vitals: Vitals) -> Self {
        let generation = vitals.generation();
        Self { launcher, store, waker: Waker::default(), batch, generation, vitals }
    }
}

impl Actor for Executor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.launcher.open(self.generation);
        let work = Work {
            launcher: self.launcher.clone(),
            store: self.store.clone(),
            waker: self.waker.clone(),
            batch: self.batch,
            vitals: self.vitals.clone(),
        };
        ctx.spawn(work.run().into_actor(self));
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Also after a panic: nobody claims here until the next generation is up.
        self.launcher.close(self.generation);
    }
}

impl Handler<Wake> for Executor {
    type Result = ();

    fn handle(&mut self, _: Wake, _: &mut Self::Context) {
        self.waker.wake();
    }
}

crate::actor_messages!(Executor: Wake);

struct Work {
    launcher: Launcher,
    store: Store,
    waker: Waker,
    batch: usize,
    vitals: Vitals,
}

/// What the next pass looks at; the rest it leaves alone.
#[derive(Clone, Copy)]
struct Look {
    /// Rows may wait.
    pending: bool,
    /// Somebody may have asked to cancel.
    cancels: bool,
    /// Rows may have been claimed and never begun.
    adopt: bool,
}

impl Look {
    const EVERYWHERE: Self = Self { pending: true, cancels: true, adopt: true };
    const PENDING: Self = Self { pending: true, cancels: false, adopt: false };
}

/// What a pass found.
struct Found {
    /// Rows may wait for slots: one that becomes free is worth a claim.
    backlog: bool,
    /// How long nothing will become due.
    calm: Duration,
}

impl Work {
    async fn run(self) {
        let mut pending = self.store.changes(Topic::Pending);
        let mut cancels = self.store.changes(Topic::Cancels);
        let mut adopt_at = Instant::now();
        let mut safety_at = Instant::now();
        let mut look = Look::EVERYWHERE;
        loop {
            let now = Instant::now();
            // The safety net: whatever was announced, everything is looked at now and then.
            if safety_at <= now {
                look = Look { adopt: adopt_at <= now, ..Look::EVERYWHERE };
                safety_at = now + TICK;
            }
            let found = match self.pass(look).await {
                Ok(found) => {
                    if look.adopt {
                        adopt_at = now + ADOPT_EVERY;
                    }
                    self.vitals.ready();
                    found
                }
                Err(error) => {
                    tracing::warn!(%error, "the executor waits for the store");
                    safety_at = Instant::now() + STORE_RETRY;
                    Found { backlog: false, calm: STORE_RETRY }
                }
            };
            let until = safety_at.min(Instant::now() + found.calm);
            // A closed channel means that the store is being closed: the tick ends the wait.
            look = tokio::select! {
                _ = pending.changed() => Look::PENDING,
                _ = cancels.changed() => Look { cancels: true, ..Look::PENDING },
                () = self.waker.woken() => Look { cancels: true, ..Look::PENDING },
                () = self.freed(), if found.backlog => Look::PENDING,
                () = tokio::time::sleep_until(until) => Look::PENDING,
            };
        }
    }

    /// Waits until a claim for free slots is worth its transaction: a quarter of the slots, or what
    /// became free within a moment.
    async fn freed(&self) {
        let running = self.launcher.running();
        let enough = (running.slots() / 4).clamp(1, self.batch);
        running.freed().await;
        let gathered = async {
            while running.free() < enough && !running.is_empty() {
                running.freed().await;
            }
        };
        // Past the moment, what is free is claimed for.
        drop(tokio::time::timeout(GATHER, gathered).await);
    }

    async fn pass(&self, look: Look) -> Result<Found, StoreError> {
        if look.cancels && !self.launcher.running().is_empty() {
            self.cancel_requested().await?;
        }
        if look.adopt {
            self.adopt().await?;
        }
        if look.pending {
            return self.claim().await;
        }
        Ok(Found { backlog: false, calm: TICK })
    }

    /// Claims until nothing more may be claimed.
    async fn claim(&self) -> Result<Found, StoreError> {
        loop {
            let Some(ticket) = self.launcher.ticket(self.batch) else {
                return Ok(Found { backlog: true, calm: TICK });
            };
            let wanted = ticket.claim.slots;
            let rows = self.store.execution_claim(ticket.claim.clone()).await?;
            let claimed = rows.len();
            self.launcher.launch(rows, None);
            ticket.give_back_quietly();
            if claimed < wanted {
                return Ok(Found { backlog: false, calm: self.until_next().await? });
            }
        }
    }

    async fn until_next(&self) -> Result<Duration, StoreError> {
        let Some(next) = self.store.execution_next_available().await? else { return Ok(TICK) };
        let now = self.store.now().await?;
        // Rounded up to the next millisecond, so that the claim never comes just too early.
        let wait = (next - now).to_std().unwrap_or(Duration::ZERO) + Duration::from_millis(1);
        Ok(wait.min(TICK))
    }

    async fn cancel_requested(&self) -> Result<(), StoreError> {
        let boot_id = self.launcher.lease().claimant().boot_id;
        for id in self.store.execution_list_cancel_requested(boot_id).await? {
            self.launcher.cancel(id);
        }
        Ok(())
    }

    /// Begins rows that this node claimed but never began: the claim's answer was lost on its way.
    async fn adopt(&self) -> Result<(), StoreError> {
        let boot_id = self.launcher.lease().claimant().boot_id;
        let _handover = self.launcher.running().hand_over();
        let rows = self.store.execution_list_running(boot_id).await?;
        self.launcher.launch(rows, None);
        Ok(())
    }
}
