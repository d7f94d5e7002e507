//! The laws of overlap, pauses, calendars and backfills.

use std::collections::HashSet;
use std::sync::Arc;

use carillon::clock::Timestamp;
use carillon::domain::backfill::{BackfillForm, BackfillOrder, BackfillStatus};
use carillon::domain::calendar::{
    Calendar, CalendarDefinition, CalendarEntry, CalendarMode, CalendarUse,
};
use carillon::domain::error_record::{RecoveryDecision, RecoveryStatus};
use carillon::domain::execution::{Execution, ExecutionStatus, NewExecution, Trigger};
use carillon::domain::options::BackfillMark;
use carillon::domain::schedule::{LedgerRange, LedgerReason, Schedule};
use carillon::store::{
    BackfillAdvance, BackfillCreate, CalendarChange, CalendarCreate, Creation, ErrorFilter,
    ExecutionFilter, KeysetRequest, Pause, SkipAhead, StoreError,
};
use chrono::Duration;

use super::fixtures::{Bench, claimant, completed, definition, failed, firing, page, planned};

const FIRST: KeysetRequest = KeysetRequest { limit: 10, below: None };

const GIVEN_UP: RecoveryDecision =
    RecoveryDecision::GiveUp { status: RecoveryStatus::Unresolved, cause: "permanent" };

fn made<T: std::fmt::Debug>(creation: Creation<T>) -> T {
    match creation {
        Creation::New(value) => value,
        other => panic!("{other:?}"),
    }
}

async fn rows(bench: &Bench, schedule: i64) -> Vec<Execution> {
    let filter = ExecutionFilter { schedule_id: Some(schedule), ..ExecutionFilter::default() };
    let mut rows = bench.store.execution_list(filter, page(500)).await.unwrap().items;
    rows.reverse();
    rows
}

async fn reasons(bench: &Bench, schedule: i64) -> Vec<(LedgerReason, i64)> {
    let ledger = bench.store.ledger_list(schedule, page(50)).await.unwrap().items;
    ledger.iter().map(|row| (row.range.reason, row.range.count)).collect()
}

pub(crate) async fn a_newer_instant_cancels_what_waits_and_what_runs(bench: &Bench) {
    let claim = claimant(1);
    bench.register(&claim).await;
    let schedule = bench.schedule("fresh").await;
    let minute = Duration::minutes(1);
    let mut plan = firing(&schedule, &[bench.now()], Some(bench.now() + minute));
    (plan.overlap_limit, plan.makes_room) = (Some(1), true);
    bench.store.schedule_fire(vec![plan], Some(claim.clone())).await.unwrap();
    bench.advance(60);
    for round in 0..2 {
        let now = bench.store.schedule_get(schedule.id).await.unwrap();
        let at = now.next_run_at.unwrap();
        let mut plan = firing(&now, &[at - Duration::seconds(1), at], Some(at + minute));
        (plan.overlap_limit, plan.makes_room) = (Some(1), true);
        let result = bench.store.schedule_fire(vec![plan], None).await.unwrap();
        assert_eq!((result.executions.len(), result.overlapped), (1, 1), "the newest runs");
        let rows = rows(bench, schedule.id).await;
        assert_eq!(rows.len(), round + 2);
        assert!(rows[0].cancel_requested_at.is_some(), "it was asked to end");
        assert_eq!(rows[0].status, ExecutionStatus::Running);
        assert_eq!(rows.last().unwrap().status, ExecutionStatus::Pending);
        let between = &rows[1..rows.len() - 1];
        assert!(between.iter().all(|row| row.status == ExecutionStatus::Cancelled));
    }
    assert!(
        bench.store.error_list(ErrorFilter::default(), page(5)).await.unwrap().items.is_empty()
    );
}

pub(crate) async fn an_instant_that_gave_way_does_not_spend_the_last_execution(bench: &Bench) {
    let schedule = bench.schedule("bounded").await;
    let later = bench.now() + Duration::minutes(1);
    let first = firing(&schedule, &[bench.now()], Some(later));
    bench.store.schedule_fire(vec![first], None).await.unwrap();
    bench.advance(60);
    let now = bench.store.schedule_get(schedule.id).await.unwrap();
    let plan = carillon::store::Firing {
        overlap_limit: Some(1),
        next_if_left: Some(later + Duration::minutes(1)),
        exhausted: true,
        ..firing(&now, &[later], None)
    };
    bench.store.schedule_fire(vec![plan], None).await.unwrap();
    let after = bench.store.schedule_get(schedule.id).await.unwrap();
    assert!(after.definition.enabled);
    assert_eq!(after.next_run_at, Some(later + Duration::minutes(1)));
    assert_eq!(after.fired, 1);
}

pub(crate) async fn a_pause_with_an_end_ends_by_itself(bench: &Bench) {
    let schedule = bench.schedule("resting").await;
    let until = bench.now() + Duration::seconds(30);
    let pause = Pause { until: Some(until), reason: Some("holidays".to_owned()) };
    let paused = bench.store.schedule_pause(schedule.id, pause.clone()).await.unwrap();
    assert!(!paused.definition.enabled);
    assert_eq!(
        (paused.paused_until, paused.pause_reason.as_deref()),
        (Some(until), Some("holidays"))
    );
    assert_eq!(
        bench.store.schedule_pause(schedule.id, pause).await.unwrap().version,
        paused.version
    );
    assert_eq!(bench.store.schedule_next_resume().await.unwrap(), Some(until));
    assert_eq!(bench.store.schedule_resume_due().await.unwrap(), 0);
    bench.advance(31);
    assert_eq!(bench.store.schedule_resume_due().await.unwrap(), 1);
    let resumed = bench.store.schedule_get(schedule.id).await.unwrap();
    assert!(resumed.definition.enabled);
    assert_eq!(resumed.resumed_at, Some(until), "however late it was noticed");
    assert_eq!((resumed.paused_until, resumed.pause_reason), (None, None));
    assert_eq!(bench.store.schedule_next_resume().await.unwrap(), None);
    let events = bench.event_types().await;
    assert_eq!(events.iter().filter(|event| *event == "schedule_resumed").count(), 1);
}

pub(crate) async fn failed_chains_in_a_row_pause_a_schedule_that_asks(bench: &Bench) {
    let claim = claimant(10);
    bench.register(&claim).await;
    let mut asks = definition("fragile");
    asks.options.cadence.pause_after_failures = Some(2);
    let schedule = made(bench.store.schedule_create(asks, Some(bench.now()), None).await.unwrap());
    let mut at = bench.now();
    // A success in between starts the count anew.
    for (round, fails) in [true, false, true, true].into_iter().enumerate() {
        let now = bench.store.schedule_get(schedule.id).await.unwrap();
        assert!(now.definition.enabled, "round {round}");
        let mut plan = firing(&now, &[], Some(at + Duration::seconds(1)));
        let mut row = planned(&now, at);
        row.task.options = now.definition.snapshot().options;
        plan.executions = vec![Arc::new(row)];
        let result = bench.store.schedule_fire(vec![plan], Some(claim.clone())).await.unwrap();
        let row = &result.executions[0];
        bench.finish(if fails { failed(row, GIVEN_UP) } else { completed(row) }).await;
        bench.advance(1);
        at += Duration::seconds(1);
    }
    let paused = bench.store.schedule_get(schedule.id).await.unwrap();
    assert!(!paused.definition.enabled);
    assert!(paused.pause_reason.unwrap().contains("2 runs in a row"));
    let resumed = bench.store.schedule_set_enabled(schedule.id, true).await.unwrap();
    assert_eq!((resumed.failure_streak, resumed.pause_reason), (0, None));
}

pub(crate) async fn skipped_instants_are_in_the_ledger_before_they_come(bench: &Bench) {
    let schedule = bench.schedule("eager").await;
    let first = schedule.next_run_at.unwrap();
    let skip = |schedule: &Schedule, next| SkipAhead {
        id: schedule.id,
        expected_version: schedule.version,
        expected_next: first,
        range: LedgerRange {
            from: first,
            to: first + Duration::seconds(10),
            count: 2,
            reason: LedgerReason::Skipped,
        },
        next_run_at: next,
    };
    let next = first + Duration::seconds(20);
    let moved = bench.store.schedule_skip(skip(&schedule, Some(next))).await.unwrap();
    assert_eq!(moved.next_run_at, Some(next));
    assert_eq!(reasons(bench, schedule.id).await, [(LedgerReason::Skipped, 2)]);
    let again = bench.store.schedule_skip(skip(&schedule, None)).await;
    assert!(matches!(again, Err(StoreError::WrongState { .. })), "it has moved since");
}

fn holidays(entries: Vec<CalendarEntry>) -> CalendarDefinition {
    CalendarDefinition {
        name: "holidays".to_owned(),
        description: None,
        timezone: "UTC".to_owned(),
        entries,
    }
}

fn span(from: Timestamp, seconds: i64) -> CalendarEntry {
    CalendarEntry::Span { from, to: from + Duration::seconds(seconds), note: None }
}

async fn calendar(bench: &Bench, entries: Vec<CalendarEntry>) -> Calendar {
    let request = CalendarCreate { definition: holidays(entries), idempotency: None };
    made(bench.store.calendar_create(request).await.unwrap())
}

pub(crate) async fn a_calendar_reads_back_and_is_kept_while_it_is_used(bench: &Bench) {
    let entries = vec![
        span(bench.now(), 60),
        CalendarEntry::Date { date: "2026-12-25".parse().unwrap(), yearly: true, note: None },
    ];
    let made_calendar = calendar(bench, entries).await;
    assert_eq!(bench.store.calendar_get(made_calendar.id).await.unwrap(), made_calendar);
    assert_eq!(
        bench.store.calendar_list(FIRST).await.unwrap().items,
        std::slice::from_ref(&made_calendar)
    );
    let taken = CalendarCreate { definition: holidays(Vec::new()), idempotency: None };
    let taken = bench.store.calendar_create(taken).await;
    assert!(matches!(taken, Err(StoreError::Duplicate { .. })));
    let mut obeys = definition("obedient");
    obeys.options.cadence.calendars =
        vec![CalendarUse { name: "holidays".to_owned(), mode: CalendarMode::Exclude }];
    let schedule =
        made(bench.store.schedule_create(obeys.clone(), Some(bench.now()), None).await.unwrap());
    let used = bench.store.calendar_delete(made_calendar.id).await;
    assert!(matches!(used, Err(StoreError::WrongState { code: "calendar_in_use", .. })));
    bench.store.schedule_delete(schedule.id, None).await.unwrap();
    bench.store.calendar_delete(made_calendar.id).await.unwrap();
    let gone = bench.store.schedule_create(obeys, Some(bench.now()), None).await;
    assert!(matches!(gone, Err(StoreError::WrongState { code: "calendar_gone", .. })));
}

pub(crate) async fn an_edited_calendar_plans_its_schedules_anew(bench: &Bench) {
    let start = bench.now();
    let made_calendar = calendar(bench, vec![span(start, 3_600)]).await;
    let mut obeys = definition("obedient");
    obeys.schedule_type = carillon::domain::schedule::ScheduleType::Interval;
    obeys.schedule_config = serde_json::json!({
        "intervalMs": 60_000, "anchor": start.to_rfc3339(),
    });
    (obeys.start_at, obeys.end_at) = (None, None);
    obeys.options.cadence.calendars =
        vec![CalendarUse { name: "holidays".to_owned(), mode: CalendarMode::Exclude }];
    let first = start + Duration::seconds(3_600);
    let schedule = made(bench.store.schedule_create(obeys, Some(first), None).await.unwrap());
    bench.advance(600);
    let change = |entries, version| CalendarChange {
        id: made_calendar.id,
        expected_version: version,
        definition: holidays(entries),
        default_zone: "UTC".to_owned(),
    };
    let old = bench.store.calendar_update(change(Vec::new(), 7)).await;
    assert!(matches!(old, Err(StoreError::VersionConflict { .. })));
    bench.store.calendar_update(change(Vec::new(), 1)).await.unwrap();
    let planned = bench.store.schedule_get(schedule.id).await.unwrap();
    assert_eq!(planned.next_run_at, Some(start + Duration::seconds(660)));
    assert_eq!(planned.version, schedule.version + 1, "a plan of the old calendar is stale");
    assert_eq!(reasons(bench, schedule.id).await, [(LedgerReason::Calendar, 10)]);
    assert_eq!(planned.settled_at, Some(bench.now()));
    // And the other way: what was to come is excluded now.
    bench.store.calendar_update(change(vec![span(start, 1_200)], 2)).await.unwrap();
    let planned = bench.store.schedule_get(schedule.id).await.unwrap();
    assert_eq!(planned.next_run_at, Some(start + Duration::seconds(1_200)));
}

fn form(schedule: &Schedule, from: Timestamp, to: Timestamp) -> BackfillForm {
    BackfillForm {
        schedule_id: schedule.id,
        schedule_name: schedule.definition.name.clone(),
        from,
        to,
        order: BackfillOrder::Oldest,
        again: false,
        per_minute: None,
        max_concurrent: 2,
        planned: 5,
        created_by: None,
    }
}

fn past(schedule: &Schedule, id: i64, at: Timestamp) -> Arc<NewExecution> {
    let mut row = planned(schedule, at);
    row.trigger = Trigger::Backfill;
    row.task.options.backfill = Some(BackfillMark { id, again: false });
    Arc::new(row)
}

pub(crate) async fn a_backfill_runs_each_instant_once_and_no_more_than_it_may(bench: &Bench) {
    let claim = claimant(10);
    bench.register(&claim).await;
    let schedule = bench.schedule("late").await;
    let at = |step: i64| bench.now() - Duration::seconds(100 - step * 10);
    // The third instant ran by plan.
    let ran = firing(&schedule, &[at(2)], Some(bench.now() + Duration::hours(1)));
    bench.store.schedule_fire(vec![ran], None).await.unwrap();
    let request = BackfillCreate { form: form(&schedule, at(0), at(4)), idempotency: None };
    let backfill = made(bench.store.backfill_create(request).await.unwrap());
    assert_eq!(
        bench.store.backfill_list_running(9).await.unwrap(),
        std::slice::from_ref(&backfill)
    );
    let step = |position: Option<Timestamp>, from: i64| BackfillAdvance {
        id: backfill.id,
        expected_position: position,
        rows: (from..5).map(|step| past(&schedule, backfill.id, at(step))).collect(),
        is_last: true,
    };
    assert!(bench.store.backfill_advance(step(None, 0)).await.unwrap());
    assert!(!bench.store.backfill_advance(step(None, 0)).await.unwrap(), "the plan is stale");
    let now = bench.store.backfill_get(backfill.id).await.unwrap();
    assert_eq!((now.made, now.left_out, now.position), (2, 1, Some(at(2))));
    assert!(!bench.store.backfill_advance(step(Some(at(2)), 3)).await.unwrap(), "two wait");
    for row in bench.store.execution_claim(claim.clone()).await.unwrap() {
        bench.finish(completed(&row)).await;
    }
    assert!(bench.store.backfill_advance(step(Some(at(2)), 3)).await.unwrap());
    let done = bench.store.backfill_get(backfill.id).await.unwrap();
    assert_eq!((done.made, done.status), (4, BackfillStatus::Completed));
    let rows = rows(bench, schedule.id).await;
    let instants: HashSet<Timestamp> = rows.iter().map(|row| row.new.scheduled_at).collect();
    assert_eq!((rows.len(), instants.len()), (5, 5));
    let progress = bench.store.backfill_progress(done).await.unwrap();
    assert_eq!((progress.completed, progress.pending), (2, 2));
    // Another one finds that everything ran.
    let request = BackfillCreate { form: form(&schedule, at(0), at(4)), idempotency: None };
    let second = made(bench.store.backfill_create(request).await.unwrap());
    let plan = BackfillAdvance { id: second.id, ..step(None, 0) };
    bench.store.backfill_advance(plan).await.unwrap();
    let second = bench.store.backfill_get(second.id).await.unwrap();
    assert_eq!((second.made, second.left_out), (0, 5));
    assert_eq!(second.status, BackfillStatus::Completed);
}

pub(crate) async fn a_stopped_backfill_makes_nothing_more(bench: &Bench) {
    let schedule = bench.schedule("late").await;
    let at = |step: i64| bench.now() - Duration::seconds(100 - step * 10);
    let request = BackfillCreate { form: form(&schedule, at(0), at(4)), idempotency: None };
    let backfill = made(bench.store.backfill_create(request).await.unwrap());
    let step = |position: Option<Timestamp>| BackfillAdvance {
        id: backfill.id,
        expected_position: position,
        rows: (0..5).map(|step| past(&schedule, backfill.id, at(step))).collect(),
        is_last: true,
    };
    bench.store.backfill_advance(step(None)).await.unwrap();
    let reason = Some("enough".to_owned());
    let before = bench.last_event().await;
    let stopped = bench.store.backfill_stop(backfill.id, reason.clone()).await.unwrap();
    let types = bench.event_types_after(before).await;
    assert_eq!(types[0], "backfill_stopped");
    assert!(types[1..].iter().all(|name| name == "execution_cancelled"), "{types:?}");
    assert_eq!((stopped.status, stopped.reason), (BackfillStatus::Stopped, reason));
    let rows = rows(bench, schedule.id).await;
    assert!(rows.iter().all(|row| row.status == ExecutionStatus::Cancelled));
    assert!(!bench.store.backfill_advance(step(stopped.position)).await.unwrap());
    assert!(bench.store.backfill_list_running(9).await.unwrap().is_empty());
}

pub(crate) async fn lateness_is_measured_from_the_due_instant_plus_jitter(bench: &Bench) {
    let claim = claimant(1);
    bench.register(&claim).await;
    let schedule = bench.schedule("moved").await;
    let due = bench.now();
    let mut row = planned(&schedule, due);
    row.available_at = due + Duration::seconds(20);
    row.task.options.jitter_ms = Some(20_000);
    let mut plan = firing(&schedule, &[], Some(due + Duration::hours(1)));
    plan.executions = vec![Arc::new(row)];
    bench.store.schedule_fire(vec![plan], Some(claim.clone())).await.unwrap();
    assert!(bench.store.execution_claim(claim.clone()).await.unwrap().is_empty(), "not yet");
    bench.advance(21);
    let claimed = bench.store.execution_claim(claim).await.unwrap();
    assert_eq!(claimed[0].lateness_ms, Some(1_000));
}
