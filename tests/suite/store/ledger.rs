//! Laws of the missed-run ledger: every planned instant has one outcome.

use carillon::clock::Timestamp;
use carillon::domain::cadence::{Cadence, ParseContext};
use carillon::domain::execution::ExecutionStatus;
use carillon::domain::schedule::{
    LedgerReason, MisfirePolicy, OverlapPolicy, Schedule, ScheduleType,
};
use carillon::runtime::scheduler::plan::{plan_schedule, settle};
use carillon::runtime::scheduler::stop::StopWindow;
use carillon::store::{
    Creation, ExecutionFilter, ExecutionKey, InstantOutcome, MOVED_MEANWHILE, OutcomeRow,
    OutcomeSpan, ScheduleChange, ScheduleRemoval, StoreError,
};
use chrono::{DateTime, Duration, Timelike};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::fixtures::{Bench, definition, page};

/// Histories a back end.
const HISTORIES: usize = 25;

/// The cadences of the histories, and what each means, said once more without our code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Every(i64),
    Seconds(&'static str, &'static [u32]),
}

const KINDS: [Kind; 4] = [
    Kind::Every(7),
    Kind::Every(31),
    Kind::Seconds("*/20 * * * * *", &[0, 20, 40]),
    Kind::Seconds("5,50 * * * * *", &[5, 50]),
];

impl Kind {
    fn config(self, anchor: Timestamp) -> (ScheduleType, Value) {
        match self {
            Self::Every(seconds) => (
                ScheduleType::Interval,
                json!({"intervalMs": seconds * 1000, "anchor": anchor.to_rfc3339()}),
            ),
            Self::Seconds(cron, _) => (ScheduleType::Cron, json!({ "cron": cron })),
        }
    }

    fn has(self, anchor: Timestamp, at: Timestamp) -> bool {
        match self {
            Self::Every(seconds) => {
                let since = (at - anchor).num_seconds();
                since > 0 && since % seconds == 0
            }
            Self::Seconds(_, seconds) => seconds.contains(&at.second()),
        }
    }
}

/// Something that happens to a schedule.
#[derive(Clone, Debug)]
enum Step {
    /// The scheduler looks every three seconds, so often.
    Run(u32),
    /// Nobody looks for so many seconds.
    Outage(u32),
    /// The clock is set back by so many seconds.
    SetBack(u32),
    Pause,
    Resume,
    Stop,
    Start,
    /// Another cadence; `true` also turns it on or off.
    Edit(usize, bool),
    Policies(MisfirePolicy, OverlapPolicy, u64),
    /// What waits or runs is over.
    RunsEnd,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let policies = (
        prop::sample::select(MisfirePolicy::ALL.to_vec()),
        prop::sample::select(OverlapPolicy::ALL.to_vec()),
        prop::sample::select(vec![0_u64, 60, 3_600]),
    );
    let step = prop_oneof![
        6 => (1_u32..12).prop_map(Step::Run),
        4 => (1_u32..400).prop_map(Step::Outage),
        1 => (1_u32..200).prop_map(Step::SetBack),
        2 => Just(Step::Pause),
        3 => Just(Step::Resume),
        1 => Just(Step::Stop),
        2 => Just(Step::Start),
        2 => (0..KINDS.len(), any::<bool>()).prop_map(|(kind, turn)| Step::Edit(kind, turn)),
        2 => policies.prop_map(|(misfire, overlap, window)| Step::Policies(misfire, overlap, window)),
        3 => Just(Step::RunsEnd),
    ];
    prop::collection::vec(step, 5..25)
}

/// A schedule, its history, and what it planned, walked second by second.
struct History<'a> {
    bench: &'a Bench,
    id: i64,
    anchor: Timestamp,
    kind: Kind,
    stop: StopWindow,
    /// Instants of the present cadence are planned from here on, exclusive.
    since: Timestamp,
    planned: Vec<Timestamp>,
}

fn parsed(schedule: &Schedule) -> Cadence {
    let definition = &schedule.definition;
    let context = ParseContext { created_at: schedule.created_at, default_zone: "UTC".to_owned() };
    let kind = definition.schedule_type.as_str();
    Cadence::parse(kind, &definition.schedule_config, &context).unwrap()
}

impl<'a> History<'a> {
    async fn begin(bench: &'a Bench, name: &str) -> Self {
        let anchor = bench.now();
        let kind = KINDS[0];
        let mut made = definition(name);
        (made.schedule_type, made.schedule_config) = kind.config(anchor);
        made.end_at = None;
        made.max_concurrent = Some(2);
        let first = anchor + Duration::seconds(7);
        let Creation::New(schedule) =
            bench.store.schedule_create(made, Some(first), None).await.unwrap()
        else {
            panic!()
        };
        let stop = StopWindow::default();
        Self { bench, id: schedule.id, anchor, kind, stop, since: anchor, planned: Vec::new() }
    }

    async fn schedule(&self) -> Schedule {
        self.bench.store.schedule_get(self.id).await.unwrap()
    }

    /// What the scheduler does when it looks.
    async fn fire(&self) {
        if !self.stop.running {
            return;
        }
        loop {
            let schedule = self.schedule().await;
            let now = self.bench.now();
            let due = schedule.next_run_at.is_some_and(|next| next <= now);
            if !schedule.definition.enabled || !due {
                return;
            }
            let firing = plan_schedule(&schedule, &parsed(&schedule), now, &self.stop);
            let result = self.bench.store.schedule_fire(vec![firing], None).await.unwrap();
            assert!(result.stale.is_empty());
            if !result.held.is_empty() {
                return;
            }
        }
    }

    async fn end_runs(&self) {
        let filter = ExecutionFilter {
            schedule_id: Some(self.id),
            statuses: vec![ExecutionStatus::Pending],
            ..ExecutionFilter::default()
        };
        let waiting = self.bench.store.execution_list(filter, page(5_000)).await.unwrap();
        for row in waiting.items {
            self.bench.store.execution_cancel(ExecutionKey::Id(row.id)).await.unwrap();
        }
    }

    /// The present cadence is over: what it planned until now, or had an outcome, is noted.
    async fn close_segment(&mut self) {
        let now = self.bench.now();
        let next = self.schedule().await.next_run_at.unwrap();
        let until = now.max(next - Duration::seconds(1));
        let mut at = DateTime::from_timestamp(self.since.timestamp() + 1, 0).unwrap();
        while at <= until {
            if self.kind.has(self.anchor, at) {
                self.planned.push(at);
            }
            at += Duration::seconds(1);
        }
        self.since = self.planned.last().map_or(now, |last| now.max(*last));
    }

    async fn edit(&mut self, kind: Kind, turn: bool) {
        let schedule = self.schedule().await;
        let settled = settle(&schedule, Some(&parsed(&schedule)), self.bench.now(), &self.stop);
        self.close_segment().await;
        let mut changed = schedule.definition.clone();
        (changed.schedule_type, changed.schedule_config) = kind.config(self.anchor);
        changed.enabled ^= turn;
        let moved = Schedule { definition: changed.clone(), ..schedule.clone() };
        let now = self.bench.now();
        let missed_until = self.bench.store.ledger_last(self.id).await.unwrap();
        let last = settled.last.max(missed_until);
        let after = last.map_or(now, |last| last.max(now));
        let change = ScheduleChange {
            settled_at: None,
            id: self.id,
            expected_version: schedule.version,
            expected_next: schedule.next_run_at,
            definition: changed,
            next_run_at: Some(parsed(&moved).next_after(after)),
            ledger: settled.ledger,
        };
        self.bench.store.schedule_update(change).await.unwrap();
        self.kind = kind;
    }

    async fn take(&mut self, step: &Step) {
        let store = &self.bench.store;
        match step {
            Step::Run(times) => {
                for _ in 0..*times {
                    self.bench.advance(3);
                    self.fire().await;
                }
            }
            Step::Outage(seconds) => self.bench.advance(u64::from(*seconds)),
            Step::SetBack(seconds) => {
                self.bench.clock.set(self.bench.now() - Duration::seconds(i64::from(*seconds)));
            }
            Step::Pause => drop(store.schedule_set_enabled(self.id, false).await.unwrap()),
            Step::Resume => {
                drop(store.schedule_set_enabled(self.id, true).await.unwrap());
                self.fire().await;
            }
            Step::Stop => self.stop = self.stop.switched(false, self.bench.now()),
            Step::Start => {
                self.stop = self.stop.switched(true, self.bench.now());
                self.fire().await;
            }
            Step::Edit(kind, turn) => self.edit(KINDS[*kind], *turn).await,
            Step::Policies(misfire, overlap, window) => {
                let schedule = self.schedule().await;
                let mut changed = schedule.definition.clone();
                changed.misfire_policy = *misfire;
                changed.overlap_policy = *overlap;
                changed.catchup_window_ms = i64::try_from(*window).unwrap() * 1000;
                changed.catchup_max = 20;
                let change = ScheduleChange {
                    settled_at: None,
                    id: self.id,
                    expected_version: schedule.version,
                    expected_next: None,
                    definition: changed,
                    next_run_at: None,
                    ledger: Vec::new(),
                };
                store.schedule_update(change).await.unwrap();
            }
            Step::RunsEnd => self.end_runs().await,
        }
    }

    /// Fires whatever is left, or deletes the schedule with everything that is left.
    async fn finish(&mut self, delete: bool) {
        if delete {
            let schedule = self.schedule().await;
            let settled = settle(&schedule, Some(&parsed(&schedule)), self.bench.now(), &self.stop);
            self.close_segment().await;
            let removal =
                ScheduleRemoval { expected_next: schedule.next_run_at, ledger: settled.ledger };
            self.bench.store.schedule_delete(self.id, Some(removal)).await.unwrap();
            return;
        }
        self.take(&Step::Start).await;
        self.take(&Step::Resume).await;
        loop {
            self.end_runs().await;
            self.fire().await;
            if self.schedule().await.next_run_at.unwrap() > self.bench.now() {
                break;
            }
        }
        self.close_segment().await;
    }

    async fn outcomes(&self) -> Vec<OutcomeRow> {
        let span = OutcomeSpan {
            schedule_id: self.id,
            from: self.anchor - Duration::days(1),
            to: self.bench.now() + Duration::days(1),
        };
        self.bench.store.ledger_outcomes(span, page(100_000)).await.unwrap().items
    }

    /// Each planned instant is one execution or lies in one range, and nothing else is.
    async fn check(&self, told: &str) {
        let outcomes = self.outcomes().await;
        let mut of_instant = vec![0; self.planned.len()];
        for row in &outcomes {
            let begin = self.planned.partition_point(|at| *at < row.from);
            let end = self.planned.partition_point(|at| *at <= row.to);
            assert_eq!(i64::try_from(end - begin).unwrap(), row.count, "{row:?}\n{told}");
            of_instant[begin..end].iter_mut().for_each(|count| *count += 1);
        }
        for (at, count) in self.planned.iter().zip(of_instant) {
            assert_eq!(count, 1, "{at} has {count} outcomes\n{told}\n{outcomes:#?}");
        }
        assert!(outcomes.is_sorted_by_key(|row| row.to));
    }
}

pub(crate) async fn a_random_history_leaves_every_planned_instant_one_outcome(bench: &Bench) {
    let mut runner = TestRunner::default();
    for number in 0..HISTORIES {
        let history = steps().new_tree(&mut runner).unwrap().current();
        let told = format!("history {number}: {history:?}");
        let mut world = History::begin(bench, &format!("history {number}")).await;
        for step in &history {
            world.take(step).await;
        }
        world.finish(number % 3 == 0).await;
        world.check(&told).await;
        // Later histories begin after what this one planned.
        bench.advance(10_000);
    }
}

pub(crate) async fn an_edit_of_the_cadence_settles_what_was_planned(bench: &Bench) {
    let mut world = History::begin(bench, "edited").await;
    world.take(&Step::Run(5)).await;
    world.take(&Step::Pause).await;
    world.take(&Step::Outage(70)).await;
    world.edit(KINDS[3], true).await;
    world.take(&Step::Run(20)).await;
    world.finish(false).await;
    world.check("edited while paused").await;
    let paused: i64 = world
        .outcomes()
        .await
        .iter()
        .filter(|row| matches!(row.outcome, InstantOutcome::Missed(LedgerReason::Paused)))
        .map(|row| row.count)
        .sum();
    assert_eq!(paused, 10);
}

pub(crate) async fn an_instant_that_fired_meanwhile_refuses_an_edit(bench: &Bench) {
    let world = History::begin(bench, "raced by its firing").await;
    let before = world.schedule().await;
    bench.advance(8);
    let ledger = settle(&before, Some(&parsed(&before)), bench.now(), &world.stop).ledger;
    assert_eq!(ledger.len(), 1);
    world.fire().await;
    let change = ScheduleChange {
        settled_at: None,
        id: world.id,
        expected_version: before.version,
        expected_next: before.next_run_at,
        definition: before.definition.clone(),
        next_run_at: Some(Some(bench.now() + Duration::hours(1))),
        ledger: ledger.clone(),
    };
    let refused = bench.store.schedule_update(change).await;
    assert!(
        matches!(refused, Err(StoreError::WrongState { code: MOVED_MEANWHILE, .. })),
        "{refused:?}"
    );
    let removal = ScheduleRemoval { expected_next: before.next_run_at, ledger };
    let refused = bench.store.schedule_delete(world.id, Some(removal)).await;
    assert!(
        matches!(refused, Err(StoreError::WrongState { code: MOVED_MEANWHILE, .. })),
        "{refused:?}"
    );
    assert_eq!(world.outcomes().await.len(), 1, "the instant has its execution alone");
}

pub(crate) async fn outcomes_come_in_the_order_of_time(bench: &Bench) {
    let mut world = History::begin(bench, "listed").await;
    for step in [Step::Run(4), Step::RunsEnd, Step::Outage(300), Step::Run(3)] {
        world.take(&step).await;
    }
    let all = world.outcomes().await;
    assert!(all.len() >= 4, "{all:?}");
    let span = OutcomeSpan { schedule_id: world.id, from: all[1].from, to: all[2].from };
    let request = |limit, offset| carillon::store::PageRequest { limit, offset };
    let found = bench.store.ledger_outcomes(span, request(1, 0)).await.unwrap();
    assert_eq!((found.items.len(), found.total, found.total_capped), (1, 2, false));
    assert_eq!(found.items[0].from, all[1].from);
    let found = bench.store.ledger_outcomes(span, request(5, 1)).await.unwrap();
    assert_eq!((found.items[0].from, found.total), (all[2].from, 2));
    let other = OutcomeSpan { schedule_id: 999, ..span };
    assert_eq!(bench.store.ledger_outcomes(other, request(5, 0)).await.unwrap().total, 0);
}
