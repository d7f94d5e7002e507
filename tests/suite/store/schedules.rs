//! Laws of schedules and their firing.

use std::collections::HashMap;

use carillon::domain::execution::ExecutionStatus;
use carillon::domain::schedule::{LedgerRange, LedgerReason};
use carillon::store::{
    Creation, Idempotency, ScheduleChange, ScheduleFilter, StoreError, StoredAnswer, Topic,
};
use chrono::Duration;

use super::fixtures::{Bench, claimant, completed, definition, firing, page, planned};

pub(crate) async fn a_schedule_reads_back_as_it_was_written(bench: &Bench) {
    let made = bench.schedule("morning").await;
    assert_eq!(made.definition, definition("morning"));
    assert_eq!(made.version, 1);
    assert_eq!(made.next_run_at, Some(bench.now()));
    assert_eq!(bench.store.schedule_get(made.id).await.unwrap(), made);
    let found = bench.store.schedule_find_by_name("morning".into()).await.unwrap();
    assert_eq!(found, Some(made));
    assert_eq!(bench.store.schedule_find_by_name("evening".into()).await.unwrap(), None);
    let missing = bench.store.schedule_get(999).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "schedule", .. })));
    assert_eq!(bench.event_types().await, ["schedule_created"]);
}

pub(crate) async fn a_name_is_unique_until_its_schedule_is_deleted(bench: &Bench) {
    let first = bench.schedule("one").await;
    let again = bench.store.schedule_create(definition("one"), None, None).await;
    assert!(matches!(again, Err(StoreError::Duplicate { what: "name", .. })), "{again:?}");
    bench.store.schedule_delete(first.id, None).await.unwrap();
    let second = bench.schedule("one").await;
    assert!(second.id > first.id, "ids are never used again");
}

pub(crate) async fn an_edit_from_an_old_version_changes_nothing(bench: &Bench) {
    let schedule = bench.schedule("edited").await;
    let mut changed = definition("edited again");
    changed.cost_per_hour = None;
    changed.end_at = None;
    let change = |version| ScheduleChange {
        settled_at: None,
        id: schedule.id,
        expected_version: version,
        expected_next: schedule.next_run_at,
        definition: changed.clone(),
        next_run_at: None,
        ledger: Vec::new(),
    };
    let updated = bench.store.schedule_update(change(1)).await.unwrap();
    assert_eq!((updated.version, &updated.definition), (2, &changed));
    assert_eq!(updated.next_run_at, schedule.next_run_at, "`None` leaves the next instant");
    let lost = bench.store.schedule_update(change(1)).await;
    assert!(
        matches!(lost, Err(StoreError::VersionConflict { expected: 1, actual: 2 })),
        "{lost:?}"
    );
    let other = bench.schedule("other").await;
    let mut rename = change(2);
    rename.definition.name = "other".into();
    let taken = bench.store.schedule_update(rename).await;
    assert!(matches!(taken, Err(StoreError::Duplicate { what: "name", .. })), "{taken:?}");
    assert_eq!(bench.store.schedule_get(other.id).await.unwrap(), other);
    let mut moved = change(2);
    moved.next_run_at = Some(None);
    assert_eq!(bench.store.schedule_update(moved).await.unwrap().next_run_at, None);
}

pub(crate) async fn pausing_again_is_no_event(bench: &Bench) {
    let schedule = bench.schedule("paused").await;
    let before = bench.last_event().await;
    bench.advance(5);
    let paused = bench.store.schedule_set_enabled(schedule.id, false).await.unwrap();
    assert_eq!(paused.paused_at, Some(bench.now()));
    assert_eq!(paused.next_run_at, schedule.next_run_at);
    bench.store.schedule_set_enabled(schedule.id, false).await.unwrap();
    assert!(bench.store.schedule_next_due().await.unwrap().is_none());
    bench.advance(5);
    let resumed = bench.store.schedule_set_enabled(schedule.id, true).await.unwrap();
    assert_eq!(resumed.resumed_at, Some(bench.now()));
    assert_eq!(resumed.paused_at, paused.paused_at, "when the pause began is kept");
    assert_eq!(bench.store.schedule_get(schedule.id).await.unwrap(), resumed);
    assert_eq!(bench.event_types_after(before).await, ["schedule_paused", "schedule_resumed"]);
}

pub(crate) async fn lists_filter_and_count(bench: &Bench) {
    for number in 0..5 {
        let mut definition = definition(&format!("Report_{number}"));
        definition.tags = if number == 3 { vec!["special".into()] } else { vec![] };
        definition.enabled = number % 2 == 0;
        bench.store.schedule_create(definition, None, None).await.unwrap();
    }
    let list = async |filter: ScheduleFilter, limit| {
        let found = bench.store.schedule_list(filter, page(limit)).await.unwrap();
        let names: Vec<String> =
            found.items.into_iter().map(|schedule| schedule.definition.name).collect();
        (names, found.total, found.total_capped)
    };
    let (names, total, capped) = list(ScheduleFilter::default(), 2).await;
    assert_eq!(
        (names.as_slice(), total, capped),
        (["Report_4", "Report_3"].map(String::from).as_slice(), 5, false)
    );
    let tagged = ScheduleFilter { tag: Some("special".into()), ..ScheduleFilter::default() };
    assert_eq!(list(tagged, 10).await.0, ["Report_3"]);
    let enabled = ScheduleFilter { enabled: Some(false), ..ScheduleFilter::default() };
    assert_eq!(list(enabled, 10).await.1, 2);
    let text = |text: &str| ScheduleFilter { text: Some(text.into()), ..ScheduleFilter::default() };
    assert_eq!(list(text("rePORT_2"), 10).await.0, ["Report_2"]);
    assert_eq!(list(text("GOOD morning"), 10).await.1, 5, "the description counts");
    assert_eq!(list(text("%"), 10).await.1, 0, "wildcards are text");
    let typed = ScheduleFilter { task_type: Some("function".into()), ..ScheduleFilter::default() };
    assert_eq!(list(typed, 10).await.1, 0);
    let counts = bench.store.schedule_counts().await.unwrap();
    assert_eq!((counts.enabled, counts.paused), (3, 2));
}

pub(crate) async fn an_idempotency_key_gives_the_first_answer_again(bench: &Bench) {
    let kept = |hash: &str| Idempotency {
        key: "key-1".into(),
        body_hash: hash.into(),
        render: Box::new(|schedule: &carillon::domain::schedule::Schedule, _| StoredAnswer {
            status: 201,
            body: format!("{{\"id\":{}}}", schedule.id),
        }),
    };
    let create = async |name: &str, hash: &str| {
        bench.store.schedule_create(definition(name), None, Some(kept(hash))).await
    };
    let Creation::New(made) = create("idem", "h1").await.unwrap() else { panic!() };
    let Creation::Replayed(answer) = create("idem", "h1").await.unwrap() else { panic!() };
    assert_eq!(answer, StoredAnswer { status: 201, body: format!("{{\"id\":{}}}", made.id) });
    let other = create("idem", "h2").await;
    assert!(matches!(other, Err(StoreError::IdempotencyMismatch)), "{other:?}");
    bench.advance(25 * 3_600);
    let Creation::New(_) = create("idem 2", "h3").await.unwrap() else { panic!() };
    let refused = create("idem", "h9").await;
    assert!(matches!(refused, Err(StoreError::IdempotencyMismatch)), "the newer answer counts");
}

pub(crate) async fn a_reader_that_knows_a_schedule_gets_what_moves(bench: &Bench) {
    let known = bench.schedule("known").await;
    let edited = bench.schedule("edited").await;
    bench.advance(1);
    let first = bench.store.schedule_list_due(bench.now(), 10, HashMap::new()).await.unwrap();
    assert_eq!(first.unknown, [known.clone(), edited.clone()]);
    let versions = first.unknown.iter().map(|schedule| (schedule.id, schedule.version)).collect();
    let at = known.next_run_at.unwrap();
    let plan = firing(&known, &[at], Some(bench.now()));
    bench.store.schedule_fire(vec![plan], None).await.unwrap();
    bench.store.schedule_set_enabled(edited.id, false).await.unwrap();
    let edited = bench.store.schedule_set_enabled(edited.id, true).await.unwrap();
    let paused = bench.schedule("paused").await;
    bench.store.schedule_set_enabled(paused.id, false).await.unwrap();
    let second = bench.store.schedule_list_due(bench.now(), 10, versions).await.unwrap();
    assert_eq!(second.unknown, std::slice::from_ref(&edited), "an edit brings the whole");
    let ids: Vec<i64> = second.progress.iter().map(|progress| progress.id).collect();
    assert_eq!(ids, [edited.id, known.id], "the oldest instant first");
    let mut brought = known.clone();
    second.progress[1].put_into(&mut brought);
    let stored = bench.store.schedule_get(known.id).await.unwrap();
    assert_eq!((brought.fired, brought.next_run_at), (1, Some(bench.now())));
    assert_eq!(brought, stored);
}

pub(crate) async fn a_firing_moves_the_schedule_and_makes_its_rows(bench: &Bench) {
    let schedule = bench.schedule("fires").await;
    bench.advance(1);
    let before = bench.last_event().await;
    let due = bench.store.schedule_list_due(bench.now(), 10, HashMap::new()).await.unwrap().unknown;
    assert_eq!(due, std::slice::from_ref(&schedule));
    let at = schedule.next_run_at.unwrap();
    let next = at + Duration::hours(1);
    let plan = firing(&schedule, &[at], Some(next));
    let claim = claimant(4);
    let result = bench.store.schedule_fire(vec![plan], Some(claim.clone())).await.unwrap();
    assert!(result.stale.is_empty());
    let execution = &result.executions[0];
    assert_eq!(execution.status, ExecutionStatus::Running);
    assert_eq!(execution.lateness_ms, Some(1_000));
    assert_eq!(execution.lease_owner, Some(claim.claimant.boot_id));
    let key = carillon::store::ExecutionKey::Id(execution.id);
    assert_eq!(&bench.store.execution_get(key).await.unwrap(), execution);
    let moved = bench.store.schedule_get(schedule.id).await.unwrap();
    assert_eq!((moved.next_run_at, moved.last_run_at, moved.fired), (Some(next), Some(at), 1));
    assert_eq!(moved.version, 1, "firing is no edit");
    assert_eq!(bench.store.schedule_next_due().await.unwrap(), Some((schedule.id, next)));
    assert_eq!(bench.event_types_after(before).await, ["execution_created", "execution_started"]);
}

pub(crate) async fn of_racing_firings_one_wins(bench: &Bench) {
    let schedule = bench.schedule("raced").await;
    let at = schedule.next_run_at.unwrap();
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = bench.store.clone();
        let plan = firing(&schedule, &[at], Some(at + Duration::hours(1)));
        racers.spawn(async move { store.schedule_fire(vec![plan], None).await.unwrap() });
    }
    let results = racers.join_all().await;
    assert_eq!(results.iter().map(|result| result.executions.len()).sum::<usize>(), 1);
    assert_eq!(results.iter().filter(|result| result.stale == [schedule.id]).count(), 7);
}

pub(crate) async fn an_instant_that_ran_is_left_out_of_a_firing(bench: &Bench) {
    let schedule = bench.schedule("stepped back").await;
    let at = schedule.next_run_at.unwrap();
    let rows = vec![planned(&schedule, at)];
    bench.store.execution_create_batch(rows, None).await.unwrap();
    let later = at + Duration::minutes(1);
    let plan = firing(&schedule, &[at, later], Some(at + Duration::hours(1)));
    let result = bench.store.schedule_fire(vec![plan], None).await.unwrap();
    let instants: Vec<_> = result.executions.iter().map(|row| row.new.scheduled_at).collect();
    assert_eq!(instants, [later]);
    assert_eq!(bench.store.schedule_get(schedule.id).await.unwrap().fired, 1);
}

pub(crate) async fn overlap_goes_to_the_ledger(bench: &Bench) {
    let schedule = bench.schedule("overlaps").await;
    let at = schedule.next_run_at.unwrap();
    let instants: Vec<_> = (0..4).map(|minute| at + Duration::minutes(minute)).collect();
    let mut plan = firing(&schedule, &instants, Some(at + Duration::hours(1)));
    plan.overlap_limit = Some(2);
    plan.ledger = vec![LedgerRange {
        from: at - Duration::hours(2),
        to: at - Duration::hours(1),
        count: 61,
        reason: LedgerReason::Misfire,
    }];
    let result = bench.store.schedule_fire(vec![plan], None).await.unwrap();
    assert_eq!((result.executions.len(), result.overlapped), (2, 2));
    let ledger = bench.store.ledger_list(schedule.id, page(10)).await.unwrap();
    let ranges: Vec<_> = ledger.items.iter().map(|row| row.range.clone()).collect();
    assert_eq!(ranges.len(), 2);
    assert_eq!(
        ranges[0],
        LedgerRange { from: instants[2], to: instants[3], count: 2, reason: LedgerReason::Overlap }
    );
    assert_eq!((ranges[1].count, ranges[1].reason), (61, LedgerReason::Misfire));
    let current = bench.store.schedule_get(schedule.id).await.unwrap();
    let next = current.next_run_at.unwrap();
    let mut full = firing(&current, &[next], Some(next + Duration::hours(1)));
    full.overlap_limit = Some(2);
    let result = bench.store.schedule_fire(vec![full], None).await.unwrap();
    assert_eq!((result.executions.len(), result.overlapped), (0, 1));
}

pub(crate) async fn the_rate_of_a_catch_up_outlives_its_firing(bench: &Bench) {
    let schedule = bench.schedule("behind").await;
    let at = schedule.next_run_at.unwrap();
    let instants: Vec<_> = (0..4).map(|minute| at + Duration::minutes(minute)).collect();
    let spacing = Duration::seconds(15);
    let mut plan = firing(&schedule, &instants, Some(at + Duration::hours(1)));
    plan.catch_up = 3;
    plan.catch_up_spacing = Some(spacing);
    plan.overlap_limit = Some(2);
    for (place, row) in (0..).zip(&mut plan.executions) {
        std::sync::Arc::make_mut(row).available_at = bench.now() + spacing * place;
    }
    let result = bench.store.schedule_fire(vec![plan], None).await.unwrap();
    assert_eq!((result.executions.len(), result.held.len()), (2, 1));
    let behind = bench.store.schedule_get(schedule.id).await.unwrap();
    assert_eq!(behind.next_run_at, Some(instants[2]), "the third waits for the first two");
    assert_eq!(behind.catch_up_at, Some(bench.now() + spacing * 2));
    let on_time = firing(&behind, &instants[2..3], Some(at + Duration::hours(1)));
    bench.store.schedule_fire(vec![on_time], None).await.unwrap();
    let after = bench.store.schedule_get(schedule.id).await.unwrap();
    assert_eq!(after.catch_up_at, behind.catch_up_at, "a firing on time leaves it");
}

pub(crate) async fn an_exhausted_schedule_is_paused(bench: &Bench) {
    let schedule = bench.schedule("once").await;
    let before = bench.last_event().await;
    let mut plan = firing(&schedule, &[bench.now()], None);
    plan.exhausted = true;
    bench.store.schedule_fire(vec![plan], None).await.unwrap();
    let after = bench.store.schedule_get(schedule.id).await.unwrap();
    assert!(!after.definition.enabled);
    assert_eq!(after.next_run_at, None);
    let types = bench.event_types_after(before).await;
    assert_eq!(types, ["execution_created", "schedule_paused"]);
}

pub(crate) async fn a_firing_from_an_old_plan_changes_nothing(bench: &Bench) {
    let schedule = bench.schedule("edited meanwhile").await;
    let plan = firing(&schedule, &[bench.now()], None);
    bench.store.schedule_set_enabled(schedule.id, false).await.unwrap();
    let result = bench.store.schedule_fire(vec![plan.clone()], None).await.unwrap();
    assert_eq!((result.stale.as_slice(), result.executions.len()), ([schedule.id].as_slice(), 0));
    bench.store.schedule_delete(schedule.id, None).await.unwrap();
    let result = bench.store.schedule_fire(vec![plan], None).await.unwrap();
    assert_eq!(result.stale, [schedule.id]);
}

pub(crate) async fn deleting_cancels_what_waits_and_keeps_history(bench: &Bench) {
    let schedule = bench.schedule("doomed").await;
    let at = bench.now();
    let rows = (0..3).map(|minute| planned(&schedule, at + Duration::minutes(minute))).collect();
    let made = bench.store.execution_create_batch(rows, Some(claimant(1))).await.unwrap();
    let before = bench.last_event().await;
    let mut watch = bench.store.changes(Topic::Schedules);
    watch.mark_unchanged();
    bench.store.schedule_delete(schedule.id, None).await.unwrap();
    assert!(watch.has_changed().unwrap());
    let types = bench.event_types_after(before).await;
    assert_eq!(types, ["execution_cancelled", "execution_cancelled", "schedule_deleted"]);
    let filter =
        carillon::store::ExecutionFilter { schedule_id: Some(schedule.id), ..Default::default() };
    let history = bench.store.execution_list(filter, page(10)).await.unwrap();
    assert_eq!(history.total, 3);
    assert!(history.items.iter().all(|row| row.new.schedule_name.as_deref() == Some("doomed")));
    let running = made.iter().find(|row| row.status == ExecutionStatus::Running).unwrap();
    let ended = bench.finish(completed(running)).await;
    assert_eq!(ended.status, ExecutionStatus::Completed, "what runs ends by itself");
    assert!(matches!(
        bench.store.schedule_delete(schedule.id, None).await,
        Err(StoreError::NotFound { .. })
    ));
}

pub(crate) async fn statistics_count_by_status(bench: &Bench) {
    let schedule = bench.schedule("counted").await;
    let rows = (0..3).map(|n| planned(&schedule, bench.now() + Duration::seconds(n))).collect();
    let made = bench.store.execution_create_batch(rows, Some(claimant(1))).await.unwrap();
    bench.advance(2);
    bench.finish(completed(&made[0])).await;
    let stats = bench.store.schedule_stats(vec![schedule.id, 77]).await.unwrap();
    let counted = stats[&schedule.id];
    assert_eq!((counted.total, counted.completed, counted.active), (3, 1, 2));
    assert_eq!(counted.mean_duration_ms, Some(2_000.0));
    assert_eq!(stats[&77].total, 0);
}
