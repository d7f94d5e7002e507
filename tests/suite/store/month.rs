//! A month in seconds: schedules fire, run, fail, are retried and held on the real store under the
//! injected clock, while an oracle outside keeps what should have happened. Every tenth attempt
//! fails, and the host that some tasks call is away for six hours.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use carillon::clock::Timestamp;
use carillon::domain::cadence::{Cadence, ParseContext};
use carillon::domain::classification::Failure;
use carillon::domain::execution::{
    Execution, ExecutionError, ExecutionStatus, Priority, RANK_SPAN,
};
use carillon::domain::recovery::{RecoveryLimits, next_attempt, plan_failure};
use carillon::domain::schedule::{OverlapPolicy, Schedule, ScheduleDefinition, ScheduleType};
use carillon::runtime::scheduler::plan::plan_schedule;
use carillon::runtime::scheduler::stop::StopWindow;
use carillon::store::{ClaimGated, ClaimHere, Creation, Finish, RetryStart};
use chrono::TimeDelta;
use serde_json::json;
use uuid::Uuid;

use super::fixtures::{Bench, claimant, completed, definition, start};

const DAYS: i64 = 30;
/// Runs at once. What is planned takes four fifths of them.
const SLOTS: usize = 3;
/// The host that is away from the tenth day on, for so long.
const HOST: &str = "http://api.example.com/work";
const AWAY: (TimeDelta, TimeDelta) = (TimeDelta::days(10), TimeDelta::hours(6));
/// Retries of one target that may start in one second.
const BURST: usize = 5;

/// The same numbers in each run of the test.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What runs until when.
struct Run {
    ends_at: Timestamp,
    row: Arc<Execution>,
}

struct Month<'a> {
    bench: &'a Bench,
    claim: ClaimHere,
    cadences: BTreeMap<i64, Cadence>,
    dice: Dice,
    running: Vec<Run>,
    /// Rows that wait for a slot alone, and since when they might run.
    waiting: BTreeMap<i64, Timestamp>,
    /// The instants of each schedule that became a chain.
    planned: BTreeMap<i64, BTreeSet<Timestamp>>,
    /// How each chain stands.
    chains: BTreeMap<Uuid, ExecutionStatus>,
    /// When retries of the host's tasks started.
    retried_at: Vec<Timestamp>,
    failed: usize,
    attempts: usize,
}

fn every(name: &str, minutes: i64, priority: Priority, calls_host: bool) -> ScheduleDefinition {
    let plain = definition(name);
    let (task_type, task_config) = if calls_host {
        ("http_request".to_owned(), json!({ "url": HOST }))
    } else {
        (plain.task_type.clone(), plain.task_config.clone())
    };
    ScheduleDefinition {
        schedule_type: ScheduleType::Interval,
        schedule_config: json!({"intervalMs": minutes * 60_000, "anchor": start().to_rfc3339()}),
        task_type,
        task_config,
        priority,
        overlap_policy: OverlapPolicy::Allow,
        max_concurrent: None,
        end_at: Some(start() + TimeDelta::days(DAYS)),
        ..plain
    }
}

impl<'a> Month<'a> {
    async fn new(bench: &'a Bench) -> Self {
        let claim = claimant(SLOTS);
        let lease = std::time::Duration::from_secs(86_400 * 60);
        bench.store.node_register(claim.claimant.clone(), lease).await.unwrap();
        let context = ParseContext { created_at: start(), default_zone: "UTC".to_owned() };
        let mut cadences = BTreeMap::new();
        let definitions = (0..6)
            .map(|place| every(&format!("low {place}"), 240, Priority::Low, false))
            .chain((0..2).map(|place| every(&format!("high {place}"), 120, Priority::High, false)))
            .chain((0..2).map(|place| every(&format!("calls {place}"), 120, Priority::High, true)));
        for definition in definitions {
            let cadence =
                Cadence::parse("interval", &definition.schedule_config, &context).unwrap();
            let first = cadence.next_after(bench.now());
            let made = bench.store.schedule_create(definition, first, None).await.unwrap();
            let Creation::New(schedule) = made else { panic!("{made:?}") };
            cadences.insert(schedule.id, cadence);
        }
        Self {
            bench,
            claim,
            cadences,
            dice: Dice(7),
            running: Vec::new(),
            waiting: BTreeMap::new(),
            planned: BTreeMap::new(),
            chains: BTreeMap::new(),
            retried_at: Vec::new(),
            failed: 0,
            attempts: 0,
        }
    }

    fn is_away(&self, at: Timestamp) -> bool {
        let from = start() + AWAY.0;
        at >= from && at < from + AWAY.1
    }

    /// Ends what is over by now.
    async fn end(&mut self) {
        let now = self.bench.now();
        let (over, on): (Vec<Run>, Vec<Run>) =
            std::mem::take(&mut self.running).into_iter().partition(|run| run.ends_at <= now);
        self.running = on;
        if over.is_empty() {
            return;
        }
        let mut ends = Vec::new();
        for Run { row, .. } in over {
            let calls_host = row.new.gates.target.is_some();
            let fails = self.dice.roll(10) == 0 || calls_host && self.is_away(now);
            let mut finish = completed(&row);
            if fails {
                let kind = if calls_host { "connection" } else { "exit_code" };
                let error = ExecutionError::new(kind, "it did not work");
                #[expect(clippy::cast_precision_loss, reason = "below a thousand")]
                let random = self.dice.roll(1_000) as f64 / 1_000.0;
                let limits = RecoveryLimits { max_crash_attempts: 3 };
                let failure = plan_failure(&row, &Failure::of(&error), limits, now, random);
                let status = ExecutionStatus::Failed;
                finish = Finish { status, result: None, error: Some(error), failure, ..finish };
                self.failed += 1;
            }
            self.chains.insert(row.new.chain_id, finish.status);
            ends.push(finish);
        }
        self.bench.store.execution_finish(ends).await.unwrap();
    }

    /// Fires what is due and starts what is to be tried again.
    async fn plan(&mut self) {
        let (store, now) = (&self.bench.store, self.bench.now());
        let due = store.schedule_list_due(now, 500, HashMap::new()).await.unwrap().unknown;
        if !due.is_empty() {
            let plan = |schedule: &Schedule| {
                let cadence = &self.cadences[&schedule.id];
                plan_schedule(schedule, cadence, now, &StopWindow::default())
            };
            let firings = due.iter().map(plan).collect();
            let fired = store.schedule_fire(firings, None).await.unwrap();
            assert!(fired.stale.is_empty());
            for row in fired.executions {
                let schedule = row.new.schedule_id.unwrap();
                let is_new = self.planned.entry(schedule).or_default().insert(row.new.scheduled_at);
                assert!(is_new, "{} fired twice", row.new.scheduled_at);
                self.chains.insert(row.new.chain_id, ExecutionStatus::Pending);
                self.waits(&row);
            }
        }
        let store = &self.bench.store;
        let due = store.error_list_due(now, 500).await.unwrap();
        if due.is_empty() {
            return;
        }
        let starts = due.into_iter().map(|(record, failed)| RetryStart {
            error_id: record.id,
            expected_next_retry_at: record.next_retry_at,
            execution: next_attempt(&failed, Uuid::now_v7(), now),
        });
        for (_, row) in store.error_start_retries(starts.collect(), None).await.unwrap() {
            self.waits(&row);
        }
    }

    /// What a breaker may hold waits for more than a slot.
    fn waits(&mut self, row: &Execution) {
        if row.new.gates.target.is_none() {
            self.waiting.insert(row.id, row.new.available_at);
        }
    }

    /// Claims what may run now; when to look again for what is held.
    async fn claim(&mut self) -> Option<Timestamp> {
        let now = self.bench.now();
        let mut claim = self.claim.clone();
        claim.slots = SLOTS - self.running.len();
        let mut rows = Vec::new();
        let mut look_again = None;
        if self.bench.store.execution_gated_waits().await.unwrap() {
            let request = ClaimGated { claim: claim.clone(), after_lane: None, capacity: None };
            let gated = self.bench.store.execution_claim_gated(request).await.unwrap();
            look_again = gated.look_again_at;
            claim.slots -= gated.executions.len();
            rows.extend(gated.executions);
        }
        if claim.slots > 0 {
            rows.extend(self.bench.store.execution_claim(claim).await.unwrap());
        }
        for row in rows {
            self.waiting.remove(&row.id);
            let passed = self.waiting.values().min().copied().unwrap_or(row.new.available_at);
            assert!(
                row.new.available_at <= passed + RANK_SPAN,
                "what might run at {} passed what waits since {passed}",
                row.new.available_at
            );
            if row.new.attempt > 1 && row.new.gates.target.is_some() {
                self.retried_at.push(now);
            }
            self.attempts += 1;
            let minutes = match row.new.priority {
                Priority::Low => 60 + self.dice.roll(25),
                _ => 12 + self.dice.roll(17),
            };
            let ends_at = now + TimeDelta::minutes(i64::try_from(minutes).unwrap());
            self.running.push(Run { ends_at, row: Arc::new(row) });
        }
        look_again
    }

    /// The next instant at which anything happens; none when all is over.
    async fn next(&self, look_again: Option<Timestamp>) -> Option<Timestamp> {
        let (store, now) = (&self.bench.store, self.bench.now());
        let waits = if self.running.len() < SLOTS {
            store.execution_next_available().await.unwrap()
        } else {
            None
        };
        let next = [
            self.running.iter().map(|run| run.ends_at).min(),
            store.schedule_next_due().await.unwrap().map(|(_, at)| at),
            store.error_next_due().await.unwrap(),
            waits,
            look_again,
        ];
        next.into_iter().flatten().min().map(|at| at.max(now + TimeDelta::milliseconds(1)))
    }
}

pub(crate) async fn a_month_of_failures_recovers_by_itself(bench: &Bench) {
    let mut month = Month::new(bench).await;
    loop {
        month.end().await;
        month.plan().await;
        let look_again = month.claim().await;
        let Some(next) = month.next(look_again).await else { break };
        bench.clock.set(next);
    }
    for (id, cadence) in &month.cadences {
        let Cadence::Interval(interval) = cadence else { panic!("{cadence:?}") };
        let step = TimeDelta::milliseconds(i64::try_from(interval.interval_ms()).unwrap());
        let until = start() + TimeDelta::days(DAYS);
        let due: BTreeSet<Timestamp> =
            (1..).map(|place| start() + step * place).take_while(|at| *at <= until).collect();
        assert_eq!(month.planned[id], due, "each instant became one chain");
    }
    let count = month.chains.len();
    let done =
        month.chains.values().filter(|status| **status == ExecutionStatus::Completed).count();
    assert!(month.failed * 12 >= month.attempts, "{} of {}", month.failed, month.attempts);
    assert!(done * 100 >= count * 99, "{done} of {count} chains ended in success");
    assert!(month.waiting.is_empty() && month.running.is_empty());
    for (place, at) in month.retried_at.iter().enumerate() {
        let later = &month.retried_at[place..];
        let burst = later.iter().take_while(|one| **one - *at < TimeDelta::seconds(1)).count();
        assert!(burst <= BURST, "{burst} retries in the second of {at}");
    }
}
