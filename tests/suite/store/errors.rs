//! Laws of error records, retries and dead letters.

use carillon::domain::error_record::{DeadLetterStatus, RecoveryDecision, RecoveryStatus};
use carillon::domain::execution::{Execution, ExecutionStatus, NewExecution, Trigger};
use carillon::store::{
    Creation, DeadLetterFilter, ErrorFilter, ErrorVerdict, ExecutionKey, Idempotency, RenderAnswer,
    RetryStart, StoreError, StoredAnswer, Topic,
};
use chrono::Duration;
use uuid::Uuid;

use super::fixtures::{
    Bench, PERMANENT, SPENT, cancelled, claimant, completed, failed, page, planned, retry_of, row,
};

/// A first attempt that failed and waits for a retry in ten seconds.
async fn waiting(bench: &Bench) -> (i64, Execution) {
    let (execution, _) = bench.running().await;
    let at = bench.now() + Duration::seconds(10);
    let ended = bench.finish(failed(&execution, RecoveryDecision::RetryAt(at))).await;
    let list = bench.store.error_list(ErrorFilter::default(), page(1)).await.unwrap();
    (list.items[0].id, ended)
}

/// Starts the retry that recovery would start.
async fn retry(bench: &Bench, error_id: i64, before: &Execution) -> Execution {
    let record = bench.store.error_get(error_id).await.unwrap();
    let start = RetryStart {
        error_id,
        expected_next_retry_at: record.next_retry_at,
        execution: retry_of(before, bench.now()),
    };
    let started = bench.store.error_start_retries(vec![start], Some(claimant(1))).await.unwrap();
    started.into_iter().next().unwrap().1
}

pub(crate) async fn a_first_failure_opens_one_record_and_plans_its_retry(bench: &Bench) {
    let mut retries = bench.store.changes(Topic::Retries);
    retries.mark_unchanged();
    let (error_id, ended) = waiting(bench).await;
    assert!(retries.has_changed().unwrap());
    let at = bench.now() + Duration::seconds(10);
    let record = bench.store.error_get(error_id).await.unwrap();
    assert_eq!(record.recovery_status, RecoveryStatus::RetryScheduled);
    assert_eq!((record.execution_id, record.chain_id), (ended.id, ended.new.chain_id));
    assert_eq!((record.kind.as_str(), record.message.as_str()), ("exit_code", "exit code 1"));
    assert_eq!(record.next_retry_at, Some(at));
    assert_eq!(bench.store.error_next_due().await.unwrap(), Some(at));
    assert!(bench.store.error_list_due(bench.now(), 10).await.unwrap().is_empty());
    assert_eq!(bench.store.error_list_due(at, 10).await.unwrap(), [(record, ended)]);
    let types = bench.event_types().await;
    assert_eq!(types[2..], ["execution_failed", "error_recorded", "retry_scheduled"]);
}

pub(crate) async fn a_retry_that_succeeds_resolves_the_record(bench: &Bench) {
    let (error_id, first) = waiting(bench).await;
    bench.advance(10);
    let second = retry(bench, error_id, &first).await;
    assert_eq!((second.new.attempt, second.new.trigger), (2, Trigger::Retry));
    let record = bench.store.error_get(error_id).await.unwrap();
    assert_eq!(record.recovery_status, RecoveryStatus::Retrying);
    assert_eq!((record.recovery_attempts, record.next_retry_at), (1, None));
    assert_eq!(bench.store.error_next_due().await.unwrap(), None);
    bench.finish(completed(&second)).await;
    let record = bench.store.error_get(error_id).await.unwrap();
    assert_eq!(record.recovery_status, RecoveryStatus::Resolved);
    assert_eq!(record.resolution_notes.as_deref(), Some("attempt 2 succeeded"));
    assert_eq!(record.resolved_at, Some(bench.now()));
    let chain = bench.store.execution_show(ExecutionKey::Id(first.id)).await.unwrap().chain;
    assert_eq!(chain.iter().map(|row| row.id).collect::<Vec<_>>(), [first.id, second.id]);
    assert_eq!(bench.event_types().await.last().unwrap(), "error_resolved");
}

pub(crate) async fn a_stale_retry_start_is_left_out(bench: &Bench) {
    let (error_id, first) = waiting(bench).await;
    let start = |expected| RetryStart {
        error_id,
        expected_next_retry_at: expected,
        execution: retry_of(&first, bench.now()),
    };
    let stale = vec![start(Some(bench.now()))];
    assert!(bench.store.error_start_retries(stale, None).await.unwrap().is_empty());
    let due = Some(bench.now() + Duration::seconds(10));
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (store, start) = (bench.store.clone(), start(due));
        racers.spawn(async move { store.error_start_retries(vec![start], None).await.unwrap() });
    }
    let started: usize = racers.join_all().await.iter().map(Vec::len).sum();
    assert_eq!(started, 1, "of racing starts one wins");
    let running = bench.store.error_start_retries(vec![start(None)], None).await;
    assert!(matches!(running, Err(StoreError::WrongState { code: "wrong_state", .. })));
}

pub(crate) async fn spent_attempts_escalate_and_leave_a_letter(bench: &Bench) {
    let (error_id, first) = waiting(bench).await;
    let second = retry(bench, error_id, &first).await;
    let before = bench.last_event().await;
    bench.finish(failed(&second, SPENT)).await;
    let record = bench.store.error_get(error_id).await.unwrap();
    assert_eq!(record.recovery_status, RecoveryStatus::Escalated);
    assert_eq!(record.execution_id, second.id);
    let letters = bench.store.dead_letter_list(DeadLetterFilter::default(), page(9)).await;
    let letters = letters.unwrap().items;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.cause.as_str(), letter.error_id), ("attempts_spent", error_id));
    assert_eq!(letter.task, first.new.task);
    let attempts = letter.attempts.as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[1]["attempt"], 2);
    assert_eq!(attempts[1]["error"]["kind"], "exit_code");
    assert_eq!(&bench.store.dead_letter_get(letter.id).await.unwrap(), letter);
    let stats = bench.store.dead_letter_stats().await.unwrap();
    assert_eq!((stats.pending, stats.added_last_day), (1, 1));
    assert_eq!(stats.by_cause, [("attempts_spent".to_owned(), 1)]);
    assert_eq!(stats.oldest_at, Some(letter.created_at));
    let types = bench.event_types_after(before).await;
    assert_eq!(types, ["execution_failed", "error_escalated", "dead_letter_added"]);
}

pub(crate) async fn a_permanent_failure_is_unresolved_with_a_letter(bench: &Bench) {
    let (execution, _) = bench.running().await;
    bench.finish(failed(&execution, PERMANENT)).await;
    let types = bench.event_types().await;
    assert_eq!(types[2..], ["execution_failed", "error_recorded", "dead_letter_added"]);
    let filter = ErrorFilter {
        recovery_statuses: vec![RecoveryStatus::Unresolved],
        ..ErrorFilter::default()
    };
    assert_eq!(bench.store.error_list(filter, page(9)).await.unwrap().total, 1);
}

pub(crate) async fn resolving_withdraws_the_retry_and_the_letter(bench: &Bench) {
    let (error_id, _) = waiting(bench).await;
    let verdict = ErrorVerdict::Resolve { notes: Some("disk was full".into()) };
    let record = bench.store.error_decide(error_id, verdict.clone()).await.unwrap();
    assert_eq!((record.recovery_status, record.next_retry_at), (RecoveryStatus::Resolved, None));
    assert_eq!(record.resolution_notes.as_deref(), Some("disk was full"));
    let again = bench.store.error_decide(error_id, verdict).await;
    assert!(matches!(again, Err(StoreError::WrongState { code: "wrong_state", .. })));
    assert_eq!(bench.store.error_next_due().await.unwrap(), None);

    let (execution, _) = bench.running().await;
    bench.finish(failed(&execution, SPENT)).await;
    let list = bench.store.error_list(ErrorFilter::default(), page(1)).await.unwrap();
    let ignore = ErrorVerdict::Ignore { notes: None };
    let record = bench.store.error_decide(list.items[0].id, ignore).await.unwrap();
    assert_eq!(record.recovery_status, RecoveryStatus::Ignored);
    let queue = bench.store.dead_letter_list(DeadLetterFilter::default(), page(9)).await.unwrap();
    assert_eq!(queue.total, 0);
    let missing = bench.store.error_decide(4_711, ErrorVerdict::Ignore { notes: None }).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "error", .. })));
}

pub(crate) async fn escalating_adds_one_letter(bench: &Bench) {
    let (error_id, first) = waiting(bench).await;
    let escalate = || ErrorVerdict::Escalate { notes: None };
    let record = bench.store.error_decide(error_id, escalate()).await.unwrap();
    assert_eq!((record.recovery_status, record.next_retry_at), (RecoveryStatus::Escalated, None));
    bench.store.error_decide(error_id, escalate()).await.unwrap();
    let queue = async || {
        let filter = DeadLetterFilter::default();
        bench.store.dead_letter_list(filter, page(9)).await.unwrap().items
    };
    assert_eq!(queue().await.len(), 1);
    let start = RetryStart {
        error_id,
        expected_next_retry_at: None,
        execution: retry_of(&first, bench.now()),
    };
    let started = bench.store.error_start_retries(vec![start], Some(claimant(1))).await.unwrap();
    let (record, second) = &started[0];
    assert_eq!(record.recovery_status, RecoveryStatus::Retrying);
    assert_eq!(queue().await[0].status, DeadLetterStatus::Resubmitted);
    bench.finish(completed(second)).await;
    assert!(queue().await.is_empty(), "the letter is recovered with its chain");
}

pub(crate) async fn a_failure_overtakes_a_verdict_given_while_the_retry_ran(bench: &Bench) {
    let (error_id, first) = waiting(bench).await;
    let second = retry(bench, error_id, &first).await;
    let ignore = ErrorVerdict::Ignore { notes: Some("leave it".into()) };
    bench.store.error_decide(error_id, ignore).await.unwrap();
    let at = bench.now() + Duration::seconds(20);
    bench.finish(failed(&second, RecoveryDecision::RetryAt(at))).await;
    let record = bench.store.error_get(error_id).await.unwrap();
    assert_eq!(record.recovery_status, RecoveryStatus::RetryScheduled);
    assert_eq!((record.resolved_at, record.resolution_notes), (None, None));
}

pub(crate) async fn cancelling_a_retry_ends_the_chain(bench: &Bench) {
    let (error_id, first) = waiting(bench).await;
    let second = retry(bench, error_id, &first).await;
    bench.finish(cancelled(&second)).await;
    let status = async |id| bench.store.error_get(id).await.unwrap().recovery_status;
    assert_eq!(status(error_id).await, RecoveryStatus::Unresolved);

    let (other_id, first) = waiting(bench).await;
    let start = RetryStart {
        error_id: other_id,
        expected_next_retry_at: None,
        execution: retry_of(&first, bench.now()),
    };
    let started = bench.store.error_start_retries(vec![start], None).await.unwrap();
    assert_eq!(started[0].1.status, ExecutionStatus::Pending);
    bench.store.execution_cancel(ExecutionKey::Id(started[0].1.id)).await.unwrap();
    assert_eq!(status(other_id).await, RecoveryStatus::Unresolved);
}

fn new<T: std::fmt::Debug>(creation: Creation<T>) -> T {
    match creation {
        Creation::New(made) => made,
        other => panic!("{other:?}"),
    }
}

fn kept<T>(key: &str) -> Option<Idempotency<(T, Execution)>> {
    let render: RenderAnswer<(T, Execution)> =
        Box::new(|(_, execution), _| StoredAnswer { status: 202, body: execution.id.to_string() });
    Some(Idempotency { key: key.to_owned(), body_hash: "h".to_owned(), render })
}

pub(crate) async fn an_operators_retry_happens_once_for_a_key(bench: &Bench) {
    let (execution, _) = bench.running().await;
    bench.finish(failed(&execution, SPENT)).await;
    let records = bench.store.error_list(ErrorFilter::default(), page(9)).await.unwrap().items;
    let retry = async |key: &str| {
        let start = RetryStart {
            error_id: records[0].id,
            expected_next_retry_at: None,
            execution: retry_of(&execution, bench.now()),
        };
        bench.store.error_retry(start, None, kept(key)).await
    };
    let (record, second) = new(retry("k").await.unwrap());
    assert_eq!(record.recovery_status, RecoveryStatus::Retrying);
    let Creation::Replayed(answer) = retry("k").await.unwrap() else { panic!("it ran again") };
    assert_eq!(answer.body, second.id.to_string());
    let other = retry("l").await;
    assert!(matches!(other, Err(StoreError::WrongState { .. })), "{other:?}");
    assert_eq!(
        bench.store.execution_show(ExecutionKey::Id(second.id)).await.unwrap().chain.len(),
        2
    );
}

pub(crate) async fn a_letter_is_resubmitted_once_for_a_key(bench: &Bench) {
    let (execution, _) = bench.running().await;
    bench.finish(failed(&execution, SPENT)).await;
    let queue = bench.store.dead_letter_list(DeadLetterFilter::default(), page(9)).await.unwrap();
    let resubmit = async |key: &str| {
        let row = row(bench.now());
        bench.store.dead_letter_resubmit(queue.items[0].id, row, None, kept(key)).await
    };
    let (_, made) = new(resubmit("k").await.unwrap());
    let Creation::Replayed(answer) = resubmit("k").await.unwrap() else { panic!("it ran again") };
    assert_eq!(answer.body, made.id.to_string());
    assert!(matches!(resubmit("l").await, Err(StoreError::WrongState { .. })));
}

pub(crate) async fn a_letter_leaves_the_queue_when_its_new_chain_succeeds(bench: &Bench) {
    let (execution, _) = bench.running().await;
    bench.finish(failed(&execution, SPENT)).await;
    let queue = bench.store.dead_letter_list(DeadLetterFilter::default(), page(9)).await.unwrap();
    let letter = &queue.items[0];
    let again = || {
        let id = Uuid::now_v7();
        NewExecution { execution_id: id, chain_id: id, ..row(bench.now()) }
    };
    let resubmit = async || {
        let claim = Some(claimant(1));
        bench.store.dead_letter_resubmit(letter.id, again(), claim, None).await.map(new)
    };
    let (sent, second) = resubmit().await.unwrap();
    assert_eq!(sent.status, DeadLetterStatus::Resubmitted);
    assert_eq!(sent.resubmitted_chain_id, Some(second.new.chain_id));
    assert_eq!(second.new.dead_letter_id, Some(letter.id));
    assert!(matches!(resubmit().await, Err(StoreError::WrongState { .. })), "it runs already");
    bench.finish(failed(&second, SPENT)).await;
    let back = bench.store.dead_letter_get(letter.id).await.unwrap();
    assert_eq!(back.status, DeadLetterStatus::Pending, "and no second letter");
    assert_eq!(back.attempts.as_array().unwrap().len(), 2);
    assert_eq!(bench.store.dead_letter_stats().await.unwrap().pending, 1);
    let (_, third) = resubmit().await.unwrap();
    bench.finish(completed(&third)).await;
    let gone = bench.store.dead_letter_get(letter.id).await.unwrap();
    assert_eq!(gone.status, DeadLetterStatus::Recovered);
    let record = bench.store.error_get(letter.error_id).await.unwrap();
    assert_eq!(record.recovery_status, RecoveryStatus::Resolved);
}

pub(crate) async fn a_discarded_letter_stays_discarded(bench: &Bench) {
    let (execution, _) = bench.running().await;
    bench.finish(failed(&execution, SPENT)).await;
    let queue = bench.store.dead_letter_list(DeadLetterFilter::default(), page(9)).await.unwrap();
    let id = queue.items[0].id;
    let gone = bench.store.dead_letter_discard(id, Some("old".into())).await.unwrap();
    assert_eq!(gone.status, DeadLetterStatus::Discarded);
    assert_eq!(gone.discard_reason.as_deref(), Some("old"));
    let again = bench.store.dead_letter_discard(id, None).await;
    assert!(matches!(again, Err(StoreError::WrongState { .. })));
    let sent = bench.store.dead_letter_resubmit(id, row(bench.now()), None, None).await;
    assert!(matches!(sent, Err(StoreError::WrongState { .. })));
    let missing = bench.store.dead_letter_discard(4_711, None).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn deleting_a_schedule_withdraws_its_retries(bench: &Bench) {
    let schedule = bench.schedule("gone").await;
    let rows = vec![planned(&schedule, bench.now())];
    let made = bench.store.execution_create_batch(rows, Some(claimant(1))).await.unwrap();
    let at = bench.now() + Duration::seconds(10);
    bench.finish(failed(&made[0], RecoveryDecision::RetryAt(at))).await;
    bench.store.schedule_delete(schedule.id, None).await.unwrap();
    assert_eq!(bench.store.error_next_due().await.unwrap(), None);
    let filter = ErrorFilter { schedule_id: Some(schedule.id), ..ErrorFilter::default() };
    let records = bench.store.error_list(filter, page(9)).await.unwrap().items;
    assert_eq!(records[0].recovery_status, RecoveryStatus::Unresolved);
    assert_eq!(records[0].schedule_name.as_deref(), Some("gone"));
}
