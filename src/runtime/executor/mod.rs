//! The executor: takes what waits and may run, up to its free slots.
//!
//! It claims in batches when work is announced, when slots become free while work waits, when a
//! waiting row's instant comes, and once an interval whatever was announced. What runs lives beside
//! it (see `running`): a crash or restart of this actor ends no task, and the next generation
//! adopts what runs, including rows that were claimed but never begun. `stop` stops claiming.

pub mod host;
pub mod launcher;
pub mod log_plan;
pub mod logs;
mod pace;
pub mod plan;
pub mod preemption;
pub mod running;
pub mod rush;
mod worker;

use std::collections::HashMap;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::runtime::executor::launcher::Launcher;
use crate::runtime::executor::preemption::{PATIENCE, plan_preemption};
use crate::runtime::meter;
use crate::runtime::wake::{STRETCH, Wake, Waker};
use crate::store::{ClaimGated, ClaimHere, ExecutionKey, Store, StoreError, Topic};
use crate::supervision::Vitals;
use crate::tasks::PAUSE_MAX;

/// The safety net: a lost announcement costs at most this.
const TICK: Duration = Duration::from_secs(1);
/// How often rows that were claimed but never begun are looked for.
const ADOPT_EVERY: Duration = Duration::from_secs(5);
/// How long slots that become free are gathered for one claim while work waits.
const GATHER: Duration = Duration::from_millis(1);
/// Transactions in a row that admit rows one by one.
const GATED_PASSES_MAX: usize = 32;
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
    /// Somebody may have paused or resumed what runs.
    pauses: bool,
    /// Rows may have been claimed and never begun.
    adopt: bool,
    /// Rows that are admitted one by one may wait.
    gated: Gated,
}

/// Whether rows that are admitted one by one are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gated {
    /// Nothing was said about them.
    No,
    /// If any waits: the safety net.
    IfAny,
    /// Yes.
    Yes,
}

impl Look {
    const EVERYWHERE: Self =
        Self { pending: true, cancels: true, pauses: true, adopt: true, gated: Gated::IfAny };
    const PENDING: Self =
        Self { pending: true, cancels: false, pauses: false, adopt: false, gated: Gated::No };
    const GATED: Self = Self { pending: false, gated: Gated::Yes, ..Self::PENDING };
}

/// What is known to wait; a pass renews what it looked at.
#[derive(Clone, Copy)]
struct Waiting {
    /// Rows may wait for slots: one that becomes free is worth a claim.
    backlog: bool,
    /// When the next row becomes due.
    due_at: Instant,
    /// So may rows that are admitted one by one.
    gated_backlog: bool,
    /// When the next of them may start: its instant comes, or a rate lets it through.
    gated_at: Option<Instant>,
}

impl Waiting {
    fn is_backlog(&self) -> bool {
        self.backlog || self.gated_backlog
    }
}

impl Work {
    async fn run(self) {
        let mut pending = self.store.changes(Topic::Pending);
        let mut cancels = self.store.changes(Topic::Cancels);
        let mut gated = self.store.changes(Topic::Gated);
        let mut adopt_at = Instant::now();
        let mut safety_at = Instant::now();
        let mut look = Look::EVERYWHERE;
        let mut waiting =
            Waiting { backlog: false, due_at: safety_at, gated_backlog: false, gated_at: None };
        loop {
            let now = Instant::now();
            // The safety net: whatever was announced, everything is looked at now and then.
            if safety_at <= now {
                look = Look { adopt: adopt_at <= now, ..Look::EVERYWHERE };
                safety_at = now + TICK;
                self.look_around().await;
            }
            // Whoever wants a slot that is free has a look with the others: they share by rank.
            let wants_slot = waiting.gated_backlog && self.launcher.running().free() > 0;
            if wants_slot || waiting.gated_at.is_some_and(|at| at <= now) {
                look.gated = Gated::Yes;
            }
            match self.pass(look, &mut waiting).await {
                Ok(()) => {
                    if look.adopt {
                        adopt_at = now + ADOPT_EVERY;
                    }
                    self.vitals.ready();
                }
                Err(error) => {
                    tracing::warn!(%error, "the executor waits for the store");
                    safety_at = Instant::now() + STORE_RETRY;
                    waiting.due_at = safety_at;
                    waiting.gated_at = None;
                }
            }
            let until = safety_at.min(waiting.due_at);
            let until = waiting.gated_at.map_or(until, |at| until.min(at));
            // A closed channel means that the store is being closed: the tick ends the wait.
            look = tokio::select! {
                _ = pending.changed() => Look::PENDING,
                _ = cancels.changed() => Look { cancels: true, pauses: true, ..Look::PENDING },
                _ = gated.changed() => Look::GATED,
                () = self.waker.woken() => Look::PENDING,
                () = self.freed(), if waiting.is_backlog() => Look::PENDING,
                () = tokio::time::sleep_until(until) => Look::PENDING,
            };
        }
    }

    /// What is looked at once an interval beside executions: the machine, and deadlines.
    async fn look_around(&self) {
        let host = self.launcher.host().clone();
        if tokio::task::spawn_blocking(move || host.look()).await.is_err() {
            tracing::error!("the look at the machine panicked");
        }
        if let Err(error) = self.tell_of_deadlines().await {
            tracing::debug!(%error, "deadlines are looked at again in a moment");
        }
    }

    async fn tell_of_deadlines(&self) -> Result<(), StoreError> {
        if self.store.deadline_due().await? {
            let news = self.store.deadline_sweep().await?;
            meter::deadlines(news.missed, news.at_risk);
        }
        Ok(())
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

    async fn pass(&self, look: Look, waiting: &mut Waiting) -> Result<(), StoreError> {
        if look.cancels && !self.launcher.running().is_empty() {
            self.cancel_requested().await?;
        }
        if look.pauses && !self.launcher.running().is_empty() {
            self.obey_pauses().await?;
        }
        if look.adopt {
            self.adopt().await?;
        }
        match look.gated {
            Gated::No => {}
            Gated::IfAny if !self.store.execution_gated_waits().await? => {
                waiting.gated_backlog = false;
                waiting.gated_at = None;
            }
            Gated::IfAny | Gated::Yes => self.claim_gated(waiting).await?,
        }
        if look.pending {
            self.claim(waiting).await?;
        }
        Ok(())
    }

    /// Admits what may start, one transaction after the other until nothing more may.
    async fn claim_gated(&self, waiting: &mut Waiting) -> Result<(), StoreError> {
        waiting.gated_backlog = false;
        waiting.gated_at = None;
        if !self.launcher.may_claim() {
            return Ok(());
        }
        let mut after_lane = None;
        for _ in 0..GATED_PASSES_MAX {
            let ticket = self.launcher.ticket(self.batch);
            let nothing =
                || ClaimHere { claimant: self.launcher.lease().claimant(), slots: 0, high_only: 0 };
            let request = ClaimGated {
                claim: ticket.as_ref().map_or_else(nothing, |ticket| ticket.claim.clone()),
                after_lane,
                capacity: self.launcher.host().capacity(),
            };
            let claimed = self.store.execution_claim_gated(request).await?;
            self.launcher.launch(claimed.executions, None);
            if let Some(ticket) = ticket {
                ticket.give_back_quietly();
            }
            waiting.gated_backlog |= claimed.wants_slots;
            if let Some(at) = claimed.look_again_at {
                let at = Instant::now() + self.until(at).await?;
                waiting.gated_at = Some(waiting.gated_at.map_or(at, |known| known.min(at)));
            }
            if !claimed.more {
                return Ok(());
            }
            after_lane = claimed.next_lane;
        }
        // Others want the store too: the rest has its turn in a moment.
        waiting.gated_at = Some(Instant::now() + GATHER);
        Ok(())
    }

    /// Claims until nothing more may be claimed, for a while.
    async fn claim(&self, waiting: &mut Waiting) -> Result<(), StoreError> {
        let until = Instant::now() + STRETCH;
        while Instant::now() < until {
            let Some(ticket) = self.launcher.ticket(self.batch) else {
                waiting.backlog = true;
                waiting.due_at = Instant::now() + TICK;
                return self.make_room().await;
            };
            let (wanted, kept) = (ticket.claim.slots, ticket.claim.high_only);
            let rows = self.store.execution_claim(ticket.claim.clone()).await?;
            let claimed = rows.len();
            self.launcher.launch(rows, None);
            ticket.give_back_quietly();
            if (wanted - kept..wanted).contains(&claimed) {
                // Others may wait for a slot that is not kept for the urgent.
                waiting.backlog = true;
                waiting.due_at = Instant::now() + TICK;
                return Ok(());
            }
            if claimed < wanted {
                waiting.backlog = false;
                waiting.due_at = Instant::now() + self.until_next().await?;
                return Ok(());
            }
        }
        waiting.backlog = true;
        waiting.due_at = until;
        Ok(())
    }

    /// Interrupts what may be for those of high priority that have waited for a slot for a while.
    async fn make_room(&self) -> Result<(), StoreError> {
        let (staying, leaving) = self.launcher.running().preemptible();
        if staying.is_empty() || !self.launcher.may_claim() {
            return Ok(());
        }
        let most = staying.len() + leaving;
        let urgent = self.store.execution_urgent_waiting(PATIENCE, most).await?;
        let chosen = plan_preemption(staying, urgent, leaving);
        if !chosen.is_empty() {
            tracing::info!(executions = ?chosen, "making room for tasks of high priority");
            meter::preempted(chosen.len());
            self.launcher.preempt(&chosen);
        }
        Ok(())
    }

    async fn until_next(&self) -> Result<Duration, StoreError> {
        let Some(next) = self.store.execution_next_available().await? else { return Ok(TICK) };
        self.until(next).await
    }

    async fn until(&self, next: Timestamp) -> Result<Duration, StoreError> {
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

    /// Lets what is marked as paused stand still, and everything else go on. A pause that has
    /// lasted as long as it may is over for the task already; its mark goes here.
    async fn obey_pauses(&self) -> Result<(), StoreError> {
        let boot_id = self.launcher.lease().claimant().boot_id;
        let marked: HashMap<i64, Timestamp> =
            self.store.execution_list_paused(boot_id).await?.into_iter().collect();
        for (id, control) in self.launcher.running().controls() {
            control.set_paused(marked.contains_key(&id));
        }
        if marked.is_empty() {
            return Ok(());
        }
        let now = self.store.now().await?;
        let most = chrono::Duration::from_std(PAUSE_MAX).unwrap_or(chrono::Duration::days(1));
        for (id, since) in marked {
            if now - since >= most {
                let reason = Some("a pause lasts a day at most".to_owned());
                let resumed = self.store.execution_resume(ExecutionKey::Id(id), reason).await;
                match resumed {
                    // Somebody was faster, or it has ended.
                    Ok(_) | Err(StoreError::WrongState { .. } | StoreError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
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
