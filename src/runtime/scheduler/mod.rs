//! The scheduler: fires every planned instant once, on time.
//!
//! It keeps the near future in memory and sleeps until the exact next instant, so a run starts
//! within milliseconds of it. The store is read again on every change and each second as a safety
//! net. Firing is one transaction that compares the schedule with what the plan was made from:
//! two nodes, or two generations of this actor, never fire an instant twice.
//!
//! Stopping the scheduler through the API is stored and holds for the whole cluster until it is
//! started again; stopping this actor holds for this process.

mod backfills;
pub mod plan;
pub mod reasons;
pub mod status;
pub mod stop;
mod window;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::domain::execution::ExecutionStatus;
use crate::runtime::executor::launcher::{ClaimTicket, Launcher};
use crate::runtime::meter;
use crate::runtime::scheduler::plan::plan_schedule;
use crate::runtime::scheduler::status::SchedulerStatus;
use crate::runtime::scheduler::stop::StopWindow;
use crate::runtime::scheduler::window::{Entry, Window};
use crate::runtime::wake::{STRETCH, Wake, Waker};
use crate::store::{Firing, FiringResult, Store, StoreError, Topic};
use crate::supervision::Vitals;

/// Where the stored state of the scheduler is kept.
pub const STATE_KEY: &str = "scheduler";
/// How far ahead of now the window reaches, in ticks: nothing due is missed between two reads,
/// even when one of them is late.
const LOOKAHEAD_TICKS: u32 = 3;
/// Schedules read at most; more than this due within the look-ahead are read in further passes.
const WINDOW_MAX: i64 = 20_000;
/// How long a pass waits after the store failed.
const STORE_RETRY: Duration = Duration::from_millis(250);
/// A difference between the database's clock and ours that is noise, not skew.
const SKEW_NOISE: chrono::Duration = chrono::Duration::milliseconds(100);

/// What the scheduler is made of.
#[derive(Clone)]
pub struct SchedulerParts {
    /// Where schedules live.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// Takes what may run here at once.
    pub launcher: Launcher,
    /// What others may see of it; survives its generations.
    pub status: Arc<SchedulerStatus>,
    /// The zone of cron expressions that name none.
    pub default_zone: String,
    /// How often the store is read whatever was announced.
    pub tick: Duration,
    /// Schedules fired in one transaction.
    pub batch: usize,
}

/// A step of the clock that is noticed.
const STEP: chrono::Duration = chrono::Duration::seconds(1);

/// The scheduler actor.
pub struct Scheduler {
    parts: SchedulerParts,
    waker: Waker,
    vitals: Vitals,
}

impl Scheduler {
    /// A scheduler over the store.
    #[must_use]
    pub fn new(parts: SchedulerParts, vitals: Vitals) -> Self {
        Self { parts, waker: Waker::default(), vitals }
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let work = Work {
            parts: self.parts.clone(),
            waker: self.waker.clone(),
            vitals: self.vitals.clone(),
            window: Window::default(),
            skew: chrono::Duration::zero(),
            stop: StopWindow::default(),
            offset: None,
            next_resume: None,
        };
        ctx.spawn(work.run().into_actor(self));
        ctx.spawn(backfills::run(self.parts.clone()).into_actor(self));
    }
}

impl Handler<Wake> for Scheduler {
    type Result = ();

    fn handle(&mut self, _: Wake, _: &mut Self::Context) {
        self.waker.wake();
    }
}

crate::actor_messages!(Scheduler: Wake);

struct Work {
    parts: SchedulerParts,
    waker: Waker,
    vitals: Vitals,
    window: Window,
    /// The database's clock minus ours.
    skew: chrono::Duration,
    stop: StopWindow,
    /// How far the clock was ahead of time that only passes, when last read.
    offset: Option<chrono::Duration>,
    /// When the next pause ends by itself.
    next_resume: Option<Timestamp>,
}

impl Work {
    async fn run(mut self) {
        let store = self.parts.store.clone();
        let mut schedules = store.changes(Topic::Schedules);
        let mut state = store.changes(Topic::State);
        let mut read_at = Instant::now();
        // What was announced (an edit, a pause, a stop) is read before anything is fired.
        let mut announced = true;
        loop {
            if let Err(error) = self.pass(&mut read_at, announced).await {
                tracing::warn!(%error, "the scheduler waits for the store");
                read_at = Instant::now();
                announced = true;
                tokio::time::sleep(STORE_RETRY).await;
                continue;
            }
            self.vitals.ready();
            let next = self.window.next_due().filter(|_| self.may_fire());
            let due = self.until(next);
            let resume = self.until(self.next_resume);
            // A closed channel means that the store is being closed: the tick ends the wait.
            announced = tokio::select! {
                biased;
                _ = schedules.changed() => true,
                _ = state.changed() => true,
                () = self.waker.woken() => true,
                () = due => false,
                () = resume => true,
                () = tokio::time::sleep_until(read_at) => false,
            };
            if announced {
                read_at = Instant::now();
            }
        }
    }

    /// Waits for the instant by the database's clock; for ever when there is none.
    fn until(&self, next: Option<Timestamp>) -> impl Future<Output = ()> + use<> {
        let clock = self.parts.clock.clone();
        let skew = self.skew;
        async move {
            match next {
                Some(next) => clock.sleep_until(next - skew).await,
                None => std::future::pending().await,
            }
        }
    }

    fn may_fire(&self) -> bool {
        self.parts.status.is_running() && !self.parts.launcher.is_draining()
    }

    /// Fires what is due and reads the store when it is time to. The safety net's read comes
    /// after what is due: an instant does not wait for it.
    async fn pass(&mut self, read_at: &mut Instant, announced: bool) -> Result<(), StoreError> {
        if !announced {
            self.fire_due().await?;
        }
        if *read_at <= Instant::now() {
            // Counted from here: what changes while we read ends the next wait.
            *read_at = Instant::now() + self.parts.tick;
            self.read().await?;
        }
        self.fire_due().await
    }

    /// Fires what is due, for a while. While a full batch is on its way to the store the next one
    /// is planned and sent, so that the store has something to do all the time. Behind a smaller
    /// one what becomes due is gathered: few large transactions cost less than many small ones.
    async fn fire_due(&mut self) -> Result<(), StoreError> {
        if !self.may_fire() {
            return Ok(());
        }
        let launcher = self.parts.launcher.clone();
        let mut rushing = None;
        let mut ahead: Option<Sent> = None;
        let until = Instant::now() + STRETCH;
        loop {
            if let Some(small) = ahead.take_if(|sent| sent.due.len() < self.parts.batch) {
                self.fired(small).await?;
            }
            let mut due = Vec::new();
            if Instant::now() < until {
                let now = self.now();
                self.parts.status.ticked(now);
                due = self.window.take_due(now, self.parts.batch);
                if due.len() < self.parts.batch {
                    rushing = None;
                } else if rushing.is_none() {
                    rushing = Some(launcher.rush());
                }
            }
            let next = if due.is_empty() { None } else { Some(self.send(due).await) };
            if let Some(sent) = ahead.take()
                && let Err(error) = self.fired(sent).await
            {
                // What the next batch made is begun all the same; the store is then waited for.
                if let Some(next) = next {
                    self.fired(next).await?;
                }
                return Err(error);
            }
            match next {
                Some(next) => ahead = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now() + self.skew
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        self.mend_after_a_step().await?;
        self.resume_due().await?;
        let store = &self.parts.store;
        let database = store.now().await?;
        let skew = database - self.parts.clock.now();
        self.skew = if skew.abs() < SKEW_NOISE { chrono::Duration::zero() } else { skew };
        meter::clock_skew(self.parts.clock.machine(), database);
        let state = store.state_get(STATE_KEY.to_owned()).await?;
        self.stop = StopWindow::from_state(state.as_ref());
        self.parts.status.set_running(self.stop.running, self.now());
        let until = self.now() + self.parts.tick * LOOKAHEAD_TICKS;
        let schedules = store.schedule_list_due(until, WINDOW_MAX).await?;
        let names = self.window.calendars_of(&schedules);
        let calendars =
            if names.is_empty() { Vec::new() } else { store.calendars_named(names).await? };
        self.window.refill(schedules, &self.parts.default_zone, &calendars);
        let next = match self.window.next() {
            Some(next) => Some(next),
            None => store.schedule_next_due().await?,
        };
        self.parts.status.set_next(next);
        Ok(())
    }

    /// A clock that was set back leaves rows that wait for instants of the old one: they are given
    /// back the time they had left. A step may have been made while no process looked, so the
    /// first pass sees to it as well.
    async fn mend_after_a_step(&mut self) -> Result<(), StoreError> {
        let offset = self.parts.clock.now() - self.parts.clock.steady();
        if self.offset.is_none_or(|before| offset < before - STEP) {
            let mended = self.parts.store.clock_set_back().await?;
            if mended > 0 {
                tracing::warn!(rows = mended, "the clock was set back; what waited does not");
            }
        }
        self.offset = Some(offset);
        Ok(())
    }

    /// Resumes what was paused until now, and finds when the next pause ends.
    async fn resume_due(&mut self) -> Result<(), StoreError> {
        let store = &self.parts.store;
        self.next_resume = store.schedule_next_resume().await?;
        if self.next_resume.is_some_and(|at| at <= self.now()) {
            store.schedule_resume_due().await?;
            self.next_resume = store.schedule_next_resume().await?;
        }
        Ok(())
    }

    /// Plans a batch and sends it to the store, which has it when this returns.
    async fn send(&self, due: Vec<Entry>) -> Sent {
        let SchedulerParts { store, launcher, .. } = &self.parts;
        let now = self.now();
        let firings: Vec<Firing> = due
            .iter()
            .map(|entry| plan_schedule(&entry.schedule, &entry.cadence, now, &self.stop))
            .collect();
        let wanted = firings.iter().map(|firing| firing.executions.len()).sum();
        let ticket = launcher.ticket(wanted);
        let claim = ticket.as_ref().map(|ticket| ticket.claim.clone());
        let (store, batch) = (store.clone(), firings.clone());
        let answer = actix_rt::spawn(async move { store.schedule_fire(batch, claim).await });
        tokio::task::yield_now().await;
        Sent { due, firings, ticket, answer }
    }

    /// Begins what a batch made, once the store has answered.
    async fn fired(&mut self, sent: Sent) -> Result<(), StoreError> {
        let SchedulerParts { launcher, status, .. } = &self.parts;
        let Sent { due, firings, ticket, answer } = sent;
        let result = answer
            .await
            .unwrap_or_else(|error| Err(StoreError::Internal(format!("firing: {error}"))))?;
        let made = result.executions.len();
        // A stale plan changed nothing, so nothing of it counts.
        let written = || firings.iter().filter(|f| !result.stale.contains(&f.schedule_id));
        let missed: i64 = written().flat_map(|f| &f.ledger).map(|range| range.count).sum();
        let skipped = u64::try_from(missed).unwrap_or(0) + result.overlapped;
        status.fired(made, skipped);
        meter::overlapped(result.overlapped);
        for firing in written() {
            meter::missed(&firing.ledger);
        }
        let FiringResult { executions, stale, held, .. } = result;
        let running = executions.into_iter().filter(|row| row.status == ExecutionStatus::Running);
        launcher.launch(running, ticket);
        for (entry, firing) in due.into_iter().zip(firings) {
            // What is held is read again with the next tick; what is stale, at once.
            let id = firing.schedule_id;
            if stale.contains(&id) || held.contains(&id) || firing.exhausted {
                continue;
            }
            self.window.put(advanced(entry, firing));
        }
        if !stale.is_empty() {
            self.waker.wake();
        }
        Ok(())
    }
}

/// A batch on its way to the store.
struct Sent {
    due: Vec<Entry>,
    firings: Vec<Firing>,
    ticket: Option<ClaimTicket>,
    answer: JoinHandle<Result<FiringResult, StoreError>>,
}

/// The entry after its firing, as the store has it now.
fn advanced(mut entry: Entry, firing: Firing) -> Entry {
    let fired = i64::try_from(firing.executions.len()).unwrap_or(i64::MAX);
    entry.schedule.fired = entry.schedule.fired.saturating_add(fired);
    if let Some(last) = firing.executions.last() {
        entry.schedule.last_run_at = Some(last.scheduled_at);
    }
    entry.schedule.next_run_at = firing.next_run_at;
    entry.schedule.settled_at = firing.settled_at.or(entry.schedule.settled_at);
    entry
}
