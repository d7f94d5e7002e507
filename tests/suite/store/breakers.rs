//! Laws of circuit breakers: what opens them, what they hold, what a probe decides.

use std::time::Duration as Span;

use carillon::domain::breaker::BreakerState;
use carillon::domain::error_record::RecoveryDecision;
use carillon::domain::execution::{Execution, ExecutionError, ExecutionStatus, NewExecution};
use carillon::domain::options::{BreakerOptions, RetryBudget};
use carillon::domain::recovery::next_attempt;
use carillon::store::{
    BreakerAct, BreakerOrder, BreakerRow, ClaimGated, ClaimHere, DeadLetterFilter, ErrorFilter,
    ExecutionKey, Finish, KeysetRequest, Retention, RetryStart, Store, StoreError,
};
use chrono::Duration;

use super::fixtures::{Bench, SPENT, cancelled, claimant, completed, failed, page, retry_of, row};

const TARGET: &str = "http:api.example.com";

/// A row that depends on the target.
fn aimed(bench: &Bench) -> NewExecution {
    let mut new = row(bench.now());
    new.gates.target = Some(TARGET.to_owned());
    new
}

async fn make(bench: &Bench, count: usize) -> Vec<Execution> {
    let rows = (0..count).map(|_| aimed(bench)).collect();
    bench.store.execution_create_batch(rows, None).await.unwrap()
}

/// A claimant of the test's own node.
async fn node(bench: &Bench, slots: usize) -> ClaimHere {
    let claim = claimant(slots);
    bench.register(&claim).await;
    claim
}

/// What may start, and then what was set aside and may.
async fn claim(bench: &Bench, claim: &ClaimHere) -> Vec<Execution> {
    let mut rows = bench.store.execution_claim(claim.clone()).await.unwrap();
    let claim = ClaimHere { slots: claim.slots - rows.len(), ..claim.clone() };
    let gated = bench.store.execution_claim_gated(gated(claim)).await.unwrap();
    rows.extend(gated.executions);
    rows
}

fn gated(claim: ClaimHere) -> ClaimGated {
    ClaimGated { claim, after_lane: None, capacity: None }
}

/// Rows that run.
async fn running(bench: &Bench, claim: &ClaimHere, count: usize) -> Vec<Execution> {
    let rows = (0..count).map(|_| aimed(bench)).collect();
    let made = bench.store.execution_create_batch(rows, Some(claim.clone())).await.unwrap();
    assert!(made.iter().all(|row| row.status == ExecutionStatus::Running));
    made
}

/// The end of a run that found its target broken; a retry waits ten seconds.
fn broke(bench: &Bench, execution: &Execution) -> Finish {
    let error = ExecutionError::new("connection", "refused");
    let at = bench.now() + Duration::seconds(10);
    Finish { error: Some(error), ..failed(execution, RecoveryDecision::RetryAt(at)) }
}

async fn end(bench: &Bench, ends: Vec<Finish>) {
    bench.store.execution_finish(ends).await.unwrap();
}

async fn breaker(bench: &Bench) -> BreakerRow {
    bench.store.breaker_get(TARGET.to_owned()).await.unwrap().0
}

async fn state(bench: &Bench) -> BreakerState {
    breaker(bench).await.breaker.state
}

/// Opens the breaker with five failures in a row.
async fn open(bench: &Bench, node: &ClaimHere) {
    let runs = running(bench, node, 5).await;
    end(bench, runs.iter().map(|run| broke(bench, run)).collect()).await;
    assert_eq!(state(bench).await, BreakerState::Open);
}

async fn act(bench: &Bench, act: BreakerAct) -> Result<BreakerRow, StoreError> {
    let (by, reason) = ("ops".to_owned(), Some("maintenance".to_owned()));
    bench.store.breaker_act(BreakerOrder { key: TARGET.to_owned(), act, by, reason }).await
}

pub(crate) async fn five_failures_open_a_breaker_and_hold_what_waits(bench: &Bench) {
    let node = node(bench, 5).await;
    let runs = running(bench, &node, 5).await;
    let waiting = make(bench, 2).await;
    let unaimed = bench.pending(1).await;
    let before = bench.last_event().await;
    end(bench, runs[..4].iter().map(|run| broke(bench, run)).collect()).await;
    assert_eq!(state(bench).await, BreakerState::Closed);
    end(bench, vec![broke(bench, &runs[4])]).await;
    let row = breaker(bench).await;
    assert_eq!(row.breaker.state, BreakerState::Open);
    assert_eq!(row.breaker.opened_at, Some(bench.now()));
    assert_eq!(row.breaker.probe_at, Some(bench.now() + Duration::seconds(30)));
    let types = bench.event_types_after(before).await;
    assert_eq!(types.iter().filter(|kind| *kind == "breaker_opened").count(), 1);
    let later = make(bench, 1).await;
    assert!(later[0].new.gates.is_gated, "made while it is open");
    let claimed = claim(bench, &node).await;
    assert_eq!(claimed.iter().map(|row| row.id).collect::<Vec<_>>(), [unaimed[0].id]);
    for held in waiting {
        let key = ExecutionKey::Id(held.id);
        let read = bench.store.execution_get(key).await.unwrap();
        assert!(read.new.gates.is_gated && read.status == ExecutionStatus::Pending);
    }
}

pub(crate) async fn a_retry_that_comes_due_while_a_breaker_is_open_waits(bench: &Bench) {
    let node = node(bench, 5).await;
    open(bench, &node).await;
    bench.advance(10);
    let due = bench.store.error_list_due(bench.now(), 10).await.unwrap();
    assert_eq!(due.len(), 5);
    let starts = due.iter().map(|(record, last)| RetryStart {
        error_id: record.id,
        expected_next_retry_at: record.next_retry_at,
        execution: retry_of(last, bench.now()),
    });
    let started = bench.store.error_start_retries(starts.collect(), Some(node.clone())).await;
    let started = started.unwrap();
    assert!(started.iter().all(|(_, row)| row.status == ExecutionStatus::Pending));
    assert_eq!(claim(bench, &node).await, []);
    bench.advance(20);
    let probe = claim(bench, &node).await;
    assert_eq!(probe.len(), 1, "one probe after thirty seconds");
    assert_eq!(claim(bench, &node).await, [], "and no other");
    end(bench, probe.iter().map(completed).collect()).await;
    assert_eq!(claim(bench, &node).await.len(), 4, "it works: all others pass");
}

pub(crate) async fn a_probe_closes_a_breaker_or_opens_it_again(bench: &Bench) {
    let node = node(bench, 5).await;
    open(bench, &node).await;
    make(bench, 3).await;
    bench.advance(30);
    let before = bench.last_event().await;
    let probe = claim(bench, &node).await;
    assert_eq!((probe.len(), state(bench).await), (1, BreakerState::HalfOpen));
    end(bench, vec![broke(bench, &probe[0])]).await;
    assert_eq!(state(bench).await, BreakerState::Open);
    assert_eq!(claim(bench, &node).await, []);
    bench.advance(30);
    let probe = claim(bench, &node).await;
    end(bench, vec![completed(&probe[0])]).await;
    assert!(breaker(bench).await.breaker.is_quiet());
    let types = bench.event_types_after(before).await;
    let types: Vec<&str> =
        types.iter().map(String::as_str).filter(|kind| kind.starts_with("breaker")).collect();
    assert_eq!(
        types,
        ["breaker_half_open", "breaker_opened", "breaker_half_open", "breaker_closed"]
    );
    let (_, history) = bench.store.breaker_get(TARGET.to_owned()).await.unwrap();
    let causes: Vec<&str> = history.iter().map(|change| change.cause.as_str()).collect();
    assert_eq!(
        causes,
        ["probe_succeeded", "probe_due", "probe_failed", "probe_due", "failures_in_a_row"]
    );
    assert_eq!(history[0].execution_id, Some(probe[0].id));
}

pub(crate) async fn what_a_broken_target_held_does_not_start_all_at_once(bench: &Bench) {
    const COUNT: usize = 60;
    let node = node(bench, COUNT + 1).await;
    open(bench, &node).await;
    let held = make(bench, COUNT).await;
    bench.advance(30);
    let probe = claim(bench, &node).await;
    assert_eq!(probe.len(), 1);
    end(bench, vec![completed(&probe[0])]).await;
    let mut started = claim(bench, &node).await;
    assert_eq!(started.len(), 5, "a few at once");
    for _ in 0..10 {
        bench.clock.advance(Span::from_millis(500));
        let more = claim(bench, &node).await;
        assert!(more.len() <= 5, "{} in half a second", more.len());
        started.extend(more);
    }
    assert_eq!(started.len(), 55);
    bench.advance(1);
    started.extend(claim(bench, &node).await);
    let ids = |rows: &[Execution]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(&started), ids(&held)[1..], "in their order");
}

pub(crate) async fn a_probe_that_fails_uses_no_attempt_of_its_chain(bench: &Bench) {
    let node = node(bench, 5).await;
    open(bench, &node).await;
    let waits = make(bench, 1).await.remove(0);
    bench.advance(30);
    let probe = claim(bench, &node).await.remove(0);
    assert_eq!(probe.id, waits.id);
    let spent = ExecutionError::new("connection", "refused");
    end(bench, vec![Finish { error: Some(spent), ..failed(&probe, SPENT) }]).await;
    let records = bench.store.error_list(ErrorFilter::default(), page(1)).await.unwrap();
    assert_eq!(records.items[0].recovery_status.as_str(), "retry_scheduled");
    let due = bench.store.error_list_due(bench.now(), 9).await.unwrap();
    let (_, last) = due.iter().find(|(_, last)| last.id == probe.id).unwrap();
    let next = next_attempt(last, uuid::Uuid::now_v7(), bench.now());
    assert_eq!((next.attempt, next.failures_before), (2, 0));
}

pub(crate) async fn a_probe_that_never_reports_frees_its_place(bench: &Bench) {
    let here = node(bench, 5).await;
    open(bench, &here).await;
    make(bench, 3).await;
    bench.advance(30);
    let cancelled_probe = claim(bench, &here).await;
    end(bench, vec![cancelled(&cancelled_probe[0])]).await;
    let lost = claim(bench, &here).await;
    assert_eq!(lost.len(), 1, "a probe that was cancelled says nothing");
    assert_eq!(claim(bench, &here).await, []);
    let node_lost = ExecutionError::new("node_lost", "its node is gone");
    let end_of_lost = Finish {
        error: Some(node_lost),
        ..failed(&lost[0], RecoveryDecision::RetryAt(bench.now()))
    };
    end(bench, vec![end_of_lost]).await;
    let other = node(bench, 5).await;
    assert_eq!(claim(bench, &other).await.len(), 1, "neither does one whose node was lost");
}

pub(crate) async fn of_racing_claims_one_gets_the_probe(bench: &Bench) {
    let here = node(bench, 5).await;
    open(bench, &here).await;
    make(bench, 8).await;
    bench.advance(30);
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (store, claim) = (bench.store.clone(), node(bench, 5).await);
        racers.spawn(async move {
            store.execution_claim_gated(gated(claim)).await.unwrap().executions.len()
        });
    }
    assert_eq!(racers.join_all().await.iter().sum::<usize>(), 1);
}

pub(crate) async fn an_operator_opens_closes_probes_and_resets_a_breaker(bench: &Bench) {
    let here = node(bench, 5).await;
    let missing = act(bench, BreakerAct::Reset).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
    let until = bench.now() + Duration::seconds(60);
    make(bench, 2).await;
    let forced = act(bench, BreakerAct::ForceOpen(Some(until))).await.unwrap();
    assert_eq!(forced.breaker.forced.as_ref().unwrap().by, "ops");
    assert_eq!(claim(bench, &here).await, []);
    let refused = act(bench, BreakerAct::Probe).await;
    assert!(matches!(refused, Err(StoreError::WrongState { .. })));
    bench.advance(60);
    let probe = claim(bench, &here).await;
    assert_eq!(probe.len(), 1, "a force ends with a probe");
    act(bench, BreakerAct::Reset).await.unwrap();
    assert_eq!(claim(bench, &here).await.len(), 1);
    act(bench, BreakerAct::ForceClosed(None)).await.unwrap();
    let runs = running(bench, &here, 5).await;
    end(bench, runs.iter().map(|run| broke(bench, run)).collect()).await;
    assert_eq!(state(bench).await, BreakerState::Closed, "forced");
    act(bench, BreakerAct::Reset).await.unwrap();
    open(bench, &here).await;
    make(bench, 1).await;
    act(bench, BreakerAct::Probe).await.unwrap();
    assert_eq!(claim(bench, &here).await.len(), 1, "a probe goes at once");
    let (_, history) = bench.store.breaker_get(TARGET.to_owned()).await.unwrap();
    let asked = history.iter().find(|change| change.cause == "probe_asked").unwrap();
    assert_eq!((asked.by.as_deref(), asked.reason.as_deref()), (Some("ops"), Some("maintenance")));
    let counts = bench.store.breaker_counts().await.unwrap();
    assert_eq!((counts.open, counts.half_open), (0, 1));
    let listed = bench.store.breaker_list(KeysetRequest { limit: 9, below: None }).await.unwrap();
    assert_eq!(listed.items.len(), 1);
}

pub(crate) async fn a_breaker_goes_by_the_thresholds_of_who_reports(bench: &Bench) {
    let here = node(bench, 5).await;
    let mut new = aimed(bench);
    new.task.options.recovery.breaker = Some(BreakerOptions {
        failures: Some(1),
        open_ms: Some(5_000),
        ..BreakerOptions::default()
    });
    let made = bench.store.execution_create_batch(vec![new], Some(here.clone())).await.unwrap();
    end(bench, vec![broke(bench, &made[0])]).await;
    let probe_at = bench.now() + Duration::seconds(5);
    assert_eq!(breaker(bench).await.breaker.probe_at, Some(probe_at));
}

pub(crate) async fn success_on_a_target_that_is_well_writes_nothing(bench: &Bench) {
    let here = node(bench, 5).await;
    let runs = running(bench, &here, 2).await;
    end(bench, runs.iter().map(completed).collect()).await;
    let listed = bench.store.breaker_list(KeysetRequest { limit: 9, below: None }).await.unwrap();
    assert!(listed.items.is_empty());
    let runs = running(bench, &here, 2).await;
    end(bench, vec![broke(bench, &runs[0])]).await;
    assert_eq!(breaker(bench).await.breaker.recent, [true]);
    end(bench, vec![completed(&runs[1])]).await;
    assert_eq!(breaker(bench).await.breaker.in_a_row, 0);
}

pub(crate) async fn a_breaker_survives_a_restart(bench: &Bench) {
    let here = node(bench, 5).await;
    open(bench, &here).await;
    let before = breaker(bench).await;
    bench.store.close().await;
    let store = Store::open(bench.options.clone(), bench.clock.clone()).await.unwrap();
    let (after, _) = store.breaker_get(TARGET.to_owned()).await.unwrap();
    assert_eq!(after, before);
    let new = aimed(bench);
    let made = store.execution_create_batch(vec![new], Some(here)).await.unwrap();
    assert_eq!(made[0].status, ExecutionStatus::Pending);
    store.close().await;
}

pub(crate) async fn a_retry_past_its_budget_is_a_dead_letter(bench: &Bench) {
    let here = node(bench, 5).await;
    let schedule = bench.schedule("budgeted").await;
    let mut fates = Vec::new();
    for _ in 0..3 {
        let mut new = row(bench.now());
        new.schedule_id = Some(schedule.id);
        new.task.options.recovery.retry_budget =
            Some(RetryBudget { max_retries: 2, per_ms: 60_000 });
        let made = bench.store.execution_create_batch(vec![new], Some(here.clone())).await.unwrap();
        let at = bench.now() + Duration::seconds(1);
        bench.finish(failed(&made[0], RecoveryDecision::RetryAt(at))).await;
        let records = bench.store.error_list(ErrorFilter::default(), page(1)).await.unwrap();
        fates.push(records.items[0].recovery_status.as_str());
    }
    assert_eq!(fates, ["retry_scheduled", "retry_scheduled", "unresolved"]);
    let letters = bench.store.dead_letter_list(DeadLetterFilter::default(), page(9)).await.unwrap();
    assert_eq!(letters.items[0].cause, "retry_budget_spent");
}

pub(crate) async fn an_ignored_failure_leaves_nothing_behind(bench: &Bench) {
    let (first, here) = bench.running().await;
    let ignored = |run: &Execution| Finish {
        failure: None,
        ..failed(run, RecoveryDecision::RetryAt(bench.now()))
    };
    bench.finish(ignored(&first)).await;
    let records = bench.store.error_list(ErrorFilter::default(), page(9)).await.unwrap();
    assert!(records.items.is_empty());
    let second =
        bench.store.execution_create_batch(vec![row(bench.now())], Some(here.clone())).await;
    let second = second.unwrap().remove(0);
    bench.finish(failed(&second, RecoveryDecision::RetryAt(bench.now()))).await;
    let record =
        bench.store.error_list(ErrorFilter::default(), page(9)).await.unwrap().items.remove(0);
    let start = RetryStart {
        error_id: record.id,
        expected_next_retry_at: record.next_retry_at,
        execution: retry_of(&second, bench.now()),
    };
    let started = bench.store.error_start_retries(vec![start], Some(here)).await.unwrap();
    bench.finish(ignored(&started[0].1)).await;
    let record = bench.store.error_get(record.id).await.unwrap();
    assert_eq!(record.recovery_status.as_str(), "ignored");
}

pub(crate) async fn retention_forgets_breakers_that_are_quiet(bench: &Bench) {
    let here = node(bench, 5).await;
    let runs = running(bench, &here, 1).await;
    end(bench, vec![broke(bench, &runs[0])]).await;
    bench.advance(100 * 86_400);
    let age = Span::from_secs(90 * 86_400);
    let retention = Retention {
        completed: age,
        failed: age,
        logs: age,
        events: age,
        events_min: 0,
        dead_letters: age,
        audit: age,
        batch: 1_000,
    };
    while bench.store.retention_sweep(retention.clone()).await.unwrap() {}
    let listed = bench.store.breaker_list(KeysetRequest { limit: 9, below: None }).await.unwrap();
    assert!(listed.items.is_empty());
}
