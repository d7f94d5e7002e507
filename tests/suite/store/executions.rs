//! Laws of executions: made, claimed once, ended by their owner alone.

use std::collections::HashSet;
use std::time::Duration;

use carillon::domain::execution::{
    Execution, ExecutionStatus, ExecutionUsage, NewExecution, Priority,
};
use carillon::store::{
    AuditFilter, CancelResult, ClaimHere, Creation, Dropped, ExecutionCreate, ExecutionFilter,
    ExecutionKey, Finish, FinishResult, Idempotency, KeysetRequest, LogFilter, LogRow, LogTrim,
    StoreError, StoredAnswer, Topic,
};
use uuid::Uuid;

use super::fixtures::{Bench, SPENT, cancelled, claimant, completed, failed, page, planned, row};

fn request(row: NewExecution) -> ExecutionCreate {
    ExecutionCreate { row, limit: None, claim: None, idempotency: None }
}

pub(crate) async fn an_execution_reads_back_as_it_was_written(bench: &Bench) {
    let mut wanted = row(bench.now());
    wanted.task.task_config = serde_json::json!({"command": "printf '\u{0}ü\\u0000'"});
    wanted.traceparent = Some("00-ab-cd-01".into());
    let made = bench.store.execution_create_batch(vec![wanted], None).await.unwrap();
    let read = bench.store.execution_get(ExecutionKey::Uuid(made[0].new.execution_id)).await;
    let mut read = read.unwrap();
    assert_ne!(read.new.task.task_config, made[0].new.task.task_config, "NUL is replaced");
    std::sync::Arc::make_mut(&mut read.new).task = made[0].new.task.clone();
    assert_eq!(read, made[0]);
    let missing = bench.store.execution_get(ExecutionKey::Uuid(Uuid::new_v4())).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "execution", .. })));
}

pub(crate) async fn an_execution_is_claimed_by_at_most_one_claimant(bench: &Bench) {
    bench.pending(200).await;
    let mut claimants = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = bench.store.clone();
        claimants.spawn(async move {
            let claim = claimant(7);
            let mut mine = Vec::new();
            loop {
                let claimed = store.execution_claim(claim.clone()).await.unwrap();
                if claimed.is_empty() {
                    return mine;
                }
                assert!(claimed.iter().all(|row| row.lease_owner == Some(claim.claimant.boot_id)));
                mine.extend(claimed.into_iter().map(|row| row.id));
            }
        });
    }
    let claimed: Vec<i64> = claimants.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 200);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), 200);
}

pub(crate) async fn claims_go_by_priority_then_age(bench: &Bench) {
    let early = bench.now() - chrono::Duration::seconds(10);
    let future = bench.now() + chrono::Duration::seconds(60);
    let with = |priority, at| NewExecution { priority, ..row(at) };
    let rows = vec![
        with(Priority::Low, early),
        with(Priority::Medium, bench.now()),
        with(Priority::High, future),
        with(Priority::High, bench.now()),
        with(Priority::Medium, early),
    ];
    let made = bench.store.execution_create_batch(rows, None).await.unwrap();
    let expected = [made[3].id, made[4].id, made[1].id];
    let claimed = bench.store.execution_claim(claimant(3)).await.unwrap();
    assert_eq!(claimed.iter().map(|row| row.id).collect::<Vec<_>>(), expected);
    assert_eq!(bench.store.execution_next_available().await.unwrap(), Some(early));
    assert_eq!(bench.store.execution_claim(claimant(9)).await.unwrap().len(), 1);
    assert_eq!(bench.store.execution_next_available().await.unwrap(), Some(future));
    let counts = bench.store.execution_counts().await.unwrap();
    assert_eq!((counts.ready, counts.later, counts.running), (0, 1, 4));
    bench.advance(61);
    assert_eq!(bench.store.execution_claim(claimant(9)).await.unwrap().len(), 1);
    assert_eq!(bench.store.execution_next_available().await.unwrap(), None);
}

pub(crate) async fn rows_made_here_start_here_up_to_the_slots(bench: &Bench) {
    let urgent = NewExecution { priority: Priority::High, ..row(bench.now()) };
    let later = row(bench.now() + chrono::Duration::seconds(5));
    let mut pending = bench.store.changes(Topic::Pending);
    pending.mark_unchanged();
    let rows = vec![row(bench.now()), later, urgent];
    let made = bench.store.execution_create_batch(rows, Some(claimant(1))).await.unwrap();
    let statuses: Vec<_> = made.iter().map(|row| row.status).collect();
    use ExecutionStatus::{Pending, Running};
    assert_eq!(statuses, [Pending, Pending, Running]);
    assert!(pending.has_changed().unwrap());
    let expected =
        ["execution_created", "execution_created", "execution_created", "execution_started"];
    assert_eq!(bench.event_types().await, expected);
    assert_eq!(made[2].lateness_ms, None, "only planned instants are late");
}

pub(crate) async fn a_lost_lease_changes_nothing(bench: &Bench) {
    let (execution, _) = bench.running().await;
    let before = bench.last_event().await;
    let stranger = Finish { lease_owner: Uuid::new_v4(), ..completed(&execution) };
    let results = bench.store.execution_finish(vec![stranger]).await.unwrap();
    assert!(matches!(results[0], FinishResult::Superseded(id) if id == execution.id));
    let unknown = completed(&Execution { id: 4_711, ..execution.clone() });
    let results = bench.store.execution_finish(vec![unknown]).await.unwrap();
    assert!(matches!(results[0], FinishResult::Superseded(4_711)));
    let key = ExecutionKey::Id(execution.id);
    assert_eq!(bench.store.execution_get(key).await.unwrap(), execution);
    assert_eq!(bench.last_event().await, before);
    bench.finish(completed(&execution)).await;
    let twice = vec![failed(&execution, SPENT), completed(&execution)];
    let results = bench.store.execution_finish(twice).await.unwrap();
    assert!(results.iter().all(|result| matches!(result, FinishResult::Superseded(_))));
    let status = bench.store.execution_get(key).await.unwrap().status;
    assert_eq!(status, ExecutionStatus::Completed, "an end never changes");
}

pub(crate) async fn an_end_writes_result_duration_and_cost(bench: &Bench) {
    let (execution, _) = bench.running().await;
    bench.advance(90);
    let usage = ExecutionUsage { processes_killed: 3, peak_memory_bytes: 1 << 33, cpu_ms: 12 };
    let finish = Finish {
        conductor_thread_id: Some("thread".into()),
        usage: Some(usage),
        conductor_status: Some("done".into()),
        ..completed(&execution)
    };
    let ended = bench.finish(finish).await;
    assert_eq!(ended.duration_ms, Some(90_000));
    assert_eq!((ended.cost, ended.usage), (Some(90.0), Some(usage)));
    assert_eq!(ended.completed_at, Some(bench.now()));
    assert_eq!(bench.store.execution_get(ExecutionKey::Id(execution.id)).await.unwrap(), ended);
    assert_eq!(
        bench.event_types().await,
        ["execution_created", "execution_started", "execution_completed"]
    );
}

pub(crate) async fn a_batch_of_ends_keeps_its_order(bench: &Bench) {
    let claim = claimant(50);
    let rows = (0..50).map(|_| row(bench.now())).collect();
    let made = bench.store.execution_create_batch(rows, Some(claim)).await.unwrap();
    let mut batch: Vec<Finish> = made.iter().rev().map(completed).collect();
    batch[10].lease_owner = Uuid::new_v4();
    batch[20] = failed(&made[29], SPENT);
    batch[30] = cancelled(&made[19]);
    batch[40].result = None;
    let results = bench.store.execution_finish(batch.clone()).await.unwrap();
    for (place, (finish, result)) in batch.iter().zip(&results).enumerate() {
        match result {
            FinishResult::Superseded(id) => assert_eq!((place, *id), (10, finish.row.id)),
            FinishResult::Done(status) => {
                let row = bench.store.execution_get(ExecutionKey::Id(finish.row.id)).await.unwrap();
                assert_eq!((*status, row.status), (finish.status, finish.status));
                assert_eq!(row.result.as_ref(), finish.result.as_deref());
            }
        }
    }
}

pub(crate) async fn a_dedup_key_waits_or_runs_once(bench: &Bench) {
    let keyed = || NewExecution { dedup_key: Some("only-one".into()), ..row(bench.now()) };
    let create = async || bench.store.execution_create(request(keyed())).await.unwrap();
    let Creation::New(first) = create().await else { panic!() };
    let Creation::Existing(same) = create().await else { panic!() };
    assert_eq!(same.id, first.id);
    let made = bench.store.execution_create_batch(vec![keyed()], None).await.unwrap();
    assert!(made.is_empty(), "the hot path leaves it out");
    bench.store.execution_cancel(ExecutionKey::Id(first.id)).await.unwrap();
    let Creation::New(second) = create().await else { panic!() };
    assert_ne!(second.id, first.id);
}

pub(crate) async fn of_racing_creations_with_one_key_one_is_made(bench: &Bench) {
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = bench.store.clone();
        let row = NewExecution { dedup_key: Some("raced".into()), ..row(bench.now()) };
        racers.spawn(async move { store.execution_create(request(row)).await.unwrap() });
    }
    let results = racers.join_all().await;
    assert_eq!(results.iter().filter(|made| matches!(made, Creation::New(_))).count(), 1);
}

fn kept(key: &str) -> Idempotency<Execution> {
    Idempotency {
        key: key.to_owned(),
        body_hash: "h".to_owned(),
        render: Box::new(|execution, is_old| StoredAnswer {
            status: 202,
            body: format!("{} {is_old}", execution.id),
        }),
    }
}

pub(crate) async fn of_racing_requests_with_one_idempotency_key_one_is_carried_out(bench: &Bench) {
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = bench.store.clone();
        let idempotency = Some(kept("raced"));
        let request = ExecutionCreate { idempotency, ..request(row(bench.now())) };
        racers.spawn(async move { store.execution_create(request).await });
    }
    let (mut made, mut answers) = (Vec::new(), Vec::new());
    for result in racers.join_all().await {
        match result {
            Ok(Creation::New(execution)) => made.push(execution.id),
            Ok(Creation::Replayed(answer)) => answers.push(answer.body),
            Err(StoreError::WrongState { code: "idempotency_in_progress", .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(made.len(), 1);
    let answer = format!("{} false", made[0]);
    assert!(answers.iter().all(|body| *body == answer), "{answers:?}");
    let found = bench.store.answer_find("raced".into(), "h".into()).await.unwrap();
    assert_eq!(found.unwrap().body, answer);
    let other = bench.store.answer_find("raced".into(), "g".into()).await;
    assert!(matches!(other, Err(StoreError::IdempotencyMismatch)));
    assert_eq!(bench.store.answer_find("x".into(), "h".into()).await.unwrap(), None);
    let list = bench.store.execution_list(ExecutionFilter::default(), page(9)).await.unwrap();
    assert_eq!(list.total, 1);
}

pub(crate) async fn a_kept_answer_says_that_the_run_was_there_before(bench: &Bench) {
    let keyed = || NewExecution { dedup_key: Some("one".into()), ..row(bench.now()) };
    let Creation::New(first) = bench.store.execution_create(request(keyed())).await.unwrap() else {
        panic!()
    };
    let again = || ExecutionCreate { idempotency: Some(kept("k")), ..request(keyed()) };
    let Creation::Existing(_) = bench.store.execution_create(again()).await.unwrap() else {
        panic!()
    };
    bench.store.execution_cancel(ExecutionKey::Id(first.id)).await.unwrap();
    let Creation::Replayed(answer) = bench.store.execution_create(again()).await.unwrap() else {
        panic!("the answer was not kept")
    };
    assert_eq!(answer.body, format!("{} true", first.id));
}

/// More than one group of them: with keys that are there already, with a schedule that is full.
pub(crate) async fn creations_asked_for_together_are_each_answered_for_themselves(bench: &Bench) {
    let schedule = bench.schedule("limited").await;
    let first = bench.last_event().await;
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..300_usize {
        let at = bench.now();
        let (row, limit) = match number % 4 {
            0 => (NewExecution { dedup_key: Some(format!("key {}", number % 8)), ..row(at) }, None),
            1 if number < 100 => {
                let trigger = carillon::domain::execution::Trigger::Manual;
                (NewExecution { trigger, ..planned(&schedule, at) }, Some(3))
            }
            _ => (row(at), None),
        };
        let id = row.execution_id;
        let store = if number % 2 == 0 {
            bench.store.acting(super::acts::act("execution.create", None))
        } else {
            bench.store.clone()
        };
        let request = ExecutionCreate { limit, ..request(row) };
        asked.spawn(async move { (id, number, store.execution_create(request).await) });
    }
    let (mut made, mut refused) = (HashSet::new(), 0);
    for (asked_for, number, answer) in asked.join_all().await {
        match answer {
            Ok(Creation::New(execution)) => {
                assert_eq!(execution.new.execution_id, asked_for);
                assert!(made.insert(execution.id), "{number}");
            }
            Ok(Creation::Existing(_)) => assert_eq!(number % 4, 0),
            Err(StoreError::WrongState { code: "already_running", .. }) => {
                assert_eq!(number % 4, 1);
                refused += 1;
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    // Two keys, three runs of the schedule, and all that asked for nothing of the kind.
    assert_eq!(refused, 25 - 3);
    assert_eq!(made.len(), 2 + 3 + 200);
    let rows = bench.store.execution_counts().await.unwrap();
    assert_eq!(rows.ready, 205);
    let told = bench.event_types_after(first).await;
    assert_eq!(
        told,
        vec!["execution_created"; 205],
        "one event a row, and none of what was undone"
    );
    let all = KeysetRequest { limit: 1_000, below: None };
    let audited = bench.store.audit_list(AuditFilter::default(), all).await.unwrap().items;
    let about: HashSet<_> = audited.iter().map(|entry| entry.act.subject_id.clone()).collect();
    assert!(made.iter().filter(|id| about.contains(&Some(id.to_string()))).count() >= 75);
}

pub(crate) async fn a_limit_refuses_another_run(bench: &Bench) {
    let schedule = bench.schedule("limited").await;
    let limited = |limit| {
        let row = NewExecution {
            trigger: carillon::domain::execution::Trigger::Manual,
            ..planned(&schedule, bench.now())
        };
        ExecutionCreate { limit: Some(limit), ..request(row) }
    };
    let Creation::New(_) = bench.store.execution_create(limited(1)).await.unwrap() else {
        panic!()
    };
    let refused = bench.store.execution_create(limited(1)).await;
    assert!(
        matches!(refused, Err(StoreError::WrongState { code: "already_running", .. })),
        "{refused:?}"
    );
    assert!(bench.store.execution_create(limited(2)).await.is_ok());
}

pub(crate) async fn cancelling_ends_what_waits_and_marks_what_runs(bench: &Bench) {
    let waiting = bench.pending(1).await.remove(0);
    let result = bench.store.execution_cancel(ExecutionKey::Id(waiting.id)).await.unwrap();
    let CancelResult::Cancelled(ended) = result else { panic!("{result:?}") };
    assert_eq!(ended.status, ExecutionStatus::Cancelled);
    let (running, claim) = bench.running().await;
    let mut cancels = bench.store.changes(Topic::Cancels);
    cancels.mark_unchanged();
    let result = bench.store.execution_cancel(ExecutionKey::Id(running.id)).await.unwrap();
    let CancelResult::Requested(marked) = result else { panic!("{result:?}") };
    assert_eq!(marked.cancel_requested_at, Some(bench.now()));
    assert!(cancels.has_changed().unwrap());
    let boot = claim.claimant.boot_id;
    let asked = bench.store.execution_list_cancel_requested(boot).await.unwrap();
    assert_eq!(asked, [running.id]);
    let mine = bench.store.execution_list_running(boot).await.unwrap();
    assert_eq!(mine, [marked]);
    bench.finish(cancelled(&running)).await;
    let key = ExecutionKey::Uuid(running.new.execution_id);
    let result = bench.store.execution_cancel(key).await.unwrap();
    assert!(matches!(result, CancelResult::AlreadyFinished(_)));
    assert!(bench.store.execution_list_cancel_requested(boot).await.unwrap().is_empty());
    assert!(bench.store.error_list(Default::default(), page(9)).await.unwrap().items.is_empty());
}

pub(crate) async fn lists_filter_by_status_schedule_and_chain(bench: &Bench) {
    let waiting = bench.pending(3).await;
    let (running, _) = bench.running().await;
    let list = async |filter| {
        let found = bench.store.execution_list(filter, page(10)).await.unwrap();
        found.items.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let all = list(ExecutionFilter::default()).await;
    let expected = [running.id, waiting[2].id, waiting[1].id, waiting[0].id];
    assert_eq!(all, expected, "newest first");
    let of = |statuses| ExecutionFilter { statuses, ..ExecutionFilter::default() };
    assert_eq!(list(of(vec![ExecutionStatus::Running])).await, [running.id]);
    let both = vec![ExecutionStatus::Running, ExecutionStatus::Pending];
    assert_eq!(list(of(both)).await.len(), 4);
    let chain =
        ExecutionFilter { chain_id: Some(running.new.chain_id), ..ExecutionFilter::default() };
    assert_eq!(list(chain).await, [running.id]);
    let schedule = ExecutionFilter { schedule_id: Some(1), ..ExecutionFilter::default() };
    assert!(list(schedule).await.is_empty());
    let second = carillon::store::PageRequest { limit: 2, offset: 2 };
    let second = bench.store.execution_list(ExecutionFilter::default(), second).await.unwrap();
    assert_eq!((second.items.len(), second.total, second.total_capped), (2, 4, false));
}

/// The few are found by indexes of their own, each set of states in its own way.
pub(crate) async fn every_set_of_states_lists_its_own(bench: &Bench) {
    let schedule = bench.schedule("one of two").await;
    let states = [
        ExecutionStatus::Pending,
        ExecutionStatus::Running,
        ExecutionStatus::Completed,
        ExecutionStatus::Failed,
        ExecutionStatus::Timeout,
        ExecutionStatus::Cancelled,
        ExecutionStatus::Skipped,
    ];
    for at in 0..2 {
        let at = bench.now() + chrono::Duration::seconds(at);
        for (place, state) in states.into_iter().enumerate() {
            let of_schedule = planned(&schedule, at + chrono::Duration::milliseconds(place as i64));
            let rows = vec![NewExecution { available_at: bench.now(), ..of_schedule }, row(at)];
            // Those of the schedule stay as they are made.
            let made = bench.store.execution_create_batch(rows, None).await.unwrap();
            let key = ExecutionKey::Id(made[1].id);
            match state {
                ExecutionStatus::Pending => {}
                ExecutionStatus::Cancelled => {
                    bench.store.execution_cancel(key).await.unwrap();
                }
                ExecutionStatus::Skipped => {
                    bench.store.execution_skip(key).await.unwrap();
                }
                _ => {
                    let claim = claimant(1);
                    bench.register(&claim).await;
                    let started = vec![row(bench.now())];
                    let mut started =
                        bench.store.execution_create_batch(started, Some(claim)).await.unwrap();
                    let started = started.remove(0);
                    if state != ExecutionStatus::Running {
                        bench.finish(Finish { status: state, ..completed(&started) }).await;
                    }
                }
            }
        }
    }
    let all = bench.store.execution_list(ExecutionFilter::default(), page(500)).await.unwrap();
    for state in states {
        assert!(all.items.iter().any(|row| row.status == state), "{state} is among them");
    }
    for set in 0..1_u32 << states.len() {
        let statuses: Vec<_> =
            (0..states.len()).filter(|bit| set >> bit & 1 == 1).map(|bit| states[bit]).collect();
        for schedule_id in [None, Some(schedule.id)] {
            let wanted: Vec<i64> = all
                .items
                .iter()
                .filter(|row| statuses.is_empty() || statuses.contains(&row.status))
                .filter(|row| schedule_id.is_none() || row.new.schedule_id == schedule_id)
                .map(|row| row.id)
                .collect();
            let statuses = statuses.clone();
            let filter = ExecutionFilter { statuses, schedule_id, ..ExecutionFilter::default() };
            let found = bench.store.execution_list(filter, page(500)).await.unwrap();
            let found: Vec<i64> = found.items.into_iter().map(|row| row.id).collect();
            assert_eq!(found, wanted, "{set:b} {schedule_id:?}");
        }
    }
}

pub(crate) async fn leases_expire_with_their_node(bench: &Bench) {
    let (execution, claim) = bench.running().await;
    let grace = Duration::from_secs(5);
    let expired = async || {
        let rows = bench.store.execution_list_expired(grace, 10).await.unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert!(expired().await.is_empty());
    bench.advance(35);
    assert!(expired().await.is_empty(), "the grace is not over");
    bench.advance(1);
    assert_eq!(expired().await, [execution.id]);
    let boot = claim.claimant.boot_id;
    assert!(!bench.store.node_beat(boot, Duration::from_secs(30)).await.unwrap());
    let unknown = ClaimHere { claimant: claimant(1).claimant, slots: 1, high_only: 0 };
    let rows = vec![row(bench.now())];
    let orphan = bench.store.execution_create_batch(rows, Some(unknown)).await.unwrap();
    assert_eq!(expired().await, [execution.id, orphan[0].id], "an unknown owner holds nothing");
}

pub(crate) async fn log_lines_are_kept_once_and_in_order(bench: &Bench) {
    let line = |line: i64, text: &str| LogRow::new((7, line), bench.now(), "stdout", text);
    let batch = vec![line(2, "two \"quoted\" \u{1f600}"), line(1, "one")];
    bench.store.log_append(batch.clone()).await.unwrap();
    bench.store.log_append(vec![line(2, "again"), line(3, "nul \0 inside")]).await.unwrap();
    bench.store.log_append(Vec::new()).await.unwrap();
    let read = bench.store.log_list(7, 0, 10).await.unwrap();
    assert_eq!(read[..2], [batch[1].clone(), batch[0].clone()]);
    assert_eq!(read[2].text, "nul \u{fffd} inside");
    assert_eq!(bench.store.log_list(7, 1, 1).await.unwrap(), read[1..2]);
    assert!(bench.store.log_list(8, 0, 10).await.unwrap().is_empty());
}

pub(crate) async fn a_trim_and_its_gap_are_one_change(bench: &Bench) {
    let line = |line: i64, stream| LogRow::new((7, line), bench.now(), stream, format!("{line}"));
    let mut rows: Vec<LogRow> = (1..=6).map(|number| line(number, "stdout")).collect();
    rows[3] = line(4, "stderr");
    bench.store.log_append(rows.clone()).await.unwrap();
    let mut gap = line(3, "stdout");
    gap.dropped = Some(Dropped { lines: 2, bytes: 20 });
    let trim = LogTrim { execution_id: 7, stream: "stdout".into(), from: 3, to: 5 };
    for _again in 0..2 {
        bench.store.log_roll(vec![gap.clone()], vec![trim.clone()]).await.unwrap();
        let left = bench.store.log_list(7, 0, 10).await.unwrap();
        let kept = [&rows[0], &rows[1], &gap, &rows[3], &rows[5]].map(Clone::clone);
        assert_eq!(left, kept, "the other stream keeps its line");
    }
    let filter = |text: &str, stream: Option<&str>| LogFilter {
        text: Some(text.into()),
        stream: stream.map(Into::into),
    };
    let found = async |filter| -> Vec<i64> {
        let rows = bench.store.log_search(7, 0, 10, filter).await.unwrap();
        rows.into_iter().map(|row| row.line).collect()
    };
    assert_eq!(found(filter("6", None)).await, [3, 6]);
    assert_eq!(found(filter("4", Some("stderr"))).await, [4]);
    assert_eq!(found(filter("%", Some("stderr"))).await, Vec::<i64>::new());
}
