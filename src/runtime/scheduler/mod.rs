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
mod reading;
pub mod reasons;
pub mod status;
pub mod stop;
mod window;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::domain::execution::ExecutionStatus;
use crate::runtime::executor::launcher::{ClaimTicket, Launcher};
use crate::runtime::meter;
use crate::runtime::scheduler::plan::plan_schedule;
pub use crate::runtime::scheduler::reading::STATE_KEY;
use crate::runtime::scheduler::reading::{Reader, Reading, Seen};
use crate::runtime::scheduler::status::SchedulerStatus;
use crate::runtime::scheduler::stop::StopWindow;
use crate::runtime::scheduler::window::{Entry, Window};
use crate::runtime::wake::{STRETCH, Wake, Waker};
use crate::store::{Firing, FiringResult, Store, StoreError, Topic};
use crate::supervision::Vitals;

/// How long a pass waits after the store failed.
const STORE_RETRY: Duration = Duration::from_millis(250);
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
            reading: None,
            fired: HashSet::new(),
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
    /// The safety net's reading, while it is under way.
    reading: Option<Reading>,
    /// What fired since the last reading began: of it, the window knows better.
    fired: HashSet<i64>,
}

impl Work {
    async fn run(mut self) {
        let store = self.parts.store.clone();
        let mut schedules = store.changes(Topic::Schedules);
        let mut state = store.changes(Topic::State);
        let mut read_at = Instant::now();
        let mut turn = Turn::Announced;
        loop {
            if let Err(error) = self.pass(&mut read_at, turn).await {
                tracing::warn!(%error, "the scheduler waits for the store");
                turn = Turn::Announced;
                tokio::time::sleep(STORE_RETRY).await;
                continue;
            }
            self.vitals.ready();
            let next = self.window.next().map(|(_, at)| at).filter(|_| self.may_fire());
            let due = self.until(next);
            let resume = self.until(self.next_resume);
            let is_reading = self.reading.is_some();
            // A closed channel means that the store is being closed: the tick ends the wait.
            turn = tokio::select! {
                biased;
                _ = schedules.changed() => Turn::Announced,
                _ = state.changed() => Turn::Announced,
                () = self.waker.woken() => Turn::Announced,
                () = resume => Turn::Announced,
                // Before what is due: a scheduler that is behind always has something due.
                seen = seen(&mut self.reading) => Turn::Seen(seen),
                () = due => Turn::Due,
                () = tokio::time::sleep_until(read_at), if !is_reading => Turn::Due,
            };
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

    /// Fires what is due and reads the store when it is time to. What was announced (an edit, a
    /// pause, a stop) is read before anything is fired; for the safety net's reading nothing waits.
    async fn pass(&mut self, read_at: &mut Instant, turn: Turn) -> Result<(), StoreError> {
        match turn {
            Turn::Announced => {
                // What is being read may be older than what was announced.
                self.reading = None;
                *read_at = Instant::now() + self.parts.tick;
                let seen = self.reader().read().await?;
                self.take_in(seen);
            }
            Turn::Seen(seen) => {
                self.reading = None;
                self.take_in(seen?);
            }
            Turn::Due => {}
        }
        if self.reading.is_none() && *read_at <= Instant::now() {
            *read_at = Instant::now() + self.parts.tick;
            self.reading = Some(self.reader().begin());
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
            let (mut due, now) = (Vec::new(), self.now());
            if Instant::now() < until {
                self.parts.status.ticked(now);
                due = self.window.take_due(now, self.parts.batch);
                if due.len() < self.parts.batch {
                    rushing = None;
                } else if rushing.is_none() {
                    rushing = Some(launcher.rush());
                }
            }
            let next = if due.is_empty() { None } else { Some(self.send(due, now).await) };
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

    fn reader(&mut self) -> Reader {
        self.fired.clear();
        Reader {
            store: self.parts.store.clone(),
            clock: self.parts.clock.clone(),
            tick: self.parts.tick,
            offset: self.offset,
            known: self.window.known(),
        }
    }

    fn take_in(&mut self, seen: Seen) {
        self.offset = Some(seen.offset);
        self.skew = seen.skew;
        self.next_resume = seen.next_resume;
        self.stop = seen.stop;
        self.parts.status.set_running(self.stop.running, self.now());
        let zone = &self.parts.default_zone;
        self.window.refill(seen.due, &seen.calendars, zone, &self.fired);
        self.parts.status.set_next(self.window.next().or(seen.later));
    }

    /// Plans a batch. A full one is sent to the store, which has it when this returns; a smaller
    /// one is sent when its answer is asked for, as nothing is done in between.
    async fn send(&self, due: Vec<Entry>, now: Timestamp) -> Sent {
        let SchedulerParts { store, launcher, .. } = &self.parts;
        let firings: Vec<Firing> = due
            .iter()
            .map(|entry| plan_schedule(&entry.schedule, &entry.cadence, now, &self.stop))
            .collect();
        let wanted = firings.iter().map(|firing| firing.executions.len()).sum();
        let ticket = launcher.ticket(wanted);
        let claim = ticket.as_ref().map(|ticket| ticket.claim.clone());
        let (store, batch) = (store.clone(), firings.clone());
        let fire = async move { store.schedule_fire(batch, claim).await };
        if due.len() < self.parts.batch {
            return Sent { due, firings, ticket, answer: Box::pin(fire) };
        }
        let sent = actix_rt::spawn(fire);
        tokio::task::yield_now().await;
        let answer = async move {
            sent.await.unwrap_or_else(|error| Err(StoreError::Internal(format!("firing: {error}"))))
        };
        Sent { due, firings, ticket, answer: Box::pin(answer) }
    }

    /// Begins what a batch made, once the store has answered.
    async fn fired(&mut self, sent: Sent) -> Result<(), StoreError> {
        let SchedulerParts { launcher, status, .. } = &self.parts;
        let Sent { due, firings, ticket, answer } = sent;
        self.fired.extend(due.iter().map(|entry| entry.schedule.id));
        let result = answer.await?;
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
    answer: LocalBoxFuture<'static, Result<FiringResult, StoreError>>,
}

/// Why the scheduler looks again.
enum Turn {
    /// Something was announced, or the store failed: it is read before anything else.
    Announced,
    /// Something is due, or it is time to read.
    Due,
    /// A reading is over.
    Seen(Result<Seen, StoreError>),
}

/// What the reading that is under way has seen; never while none is.
async fn seen(reading: &mut Option<Reading>) -> Result<Seen, StoreError> {
    match reading {
        Some(reading) => reading.seen().await,
        None => std::future::pending().await,
    }
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
