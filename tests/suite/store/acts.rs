//! Laws of what people do: acts leave their rows, outcomes set by hand, pauses, what needs a
//! person.

use carillon::domain::act::Act;
use carillon::domain::error_record::{DeadLetterStatus, RecoveryDecision, RecoveryStatus};
use carillon::domain::execution::{Execution, ExecutionStatus, Severity};
use carillon::store::{
    AttentionLimits, AuditFilter, BreakerAct, BreakerOrder, Creation, DeadLetterFilter,
    ErrorFilter, ErrorPageFilter, ExecutionCreate, ExecutionKey, GroupResolution, Idempotency,
    KeysetRequest, OutcomeSetting, OverrideOutcome, RetryStart, Store, StoreError, StoredAnswer,
};
use chrono::Duration;
use serde_json::json;

use super::fixtures::{Bench, SPENT, completed, failed, page, retry_of, row};

pub(super) fn act(action: &str, subject_id: Option<&str>) -> Act {
    Act {
        who: "ada".to_owned(),
        key_id: Some(7),
        role: "operator".to_owned(),
        action: action.to_owned(),
        subject_kind: action.split('.').next().unwrap().to_owned(),
        subject_id: subject_id.map(str::to_owned),
        reason: Some("because".to_owned()),
        request_id: Some("r".to_owned()),
    }
}

fn acting(bench: &Bench, action: &str) -> Store {
    bench.store.acting(act(action, None))
}

const fn keyset(limit: i64) -> KeysetRequest {
    KeysetRequest { limit, below: None }
}

async fn actions(bench: &Bench) -> Vec<String> {
    let rows = bench.store.audit_list(AuditFilter::default(), keyset(100)).await.unwrap();
    rows.items.into_iter().map(|entry| entry.act.action).collect()
}

fn setting(outcome: OverrideOutcome) -> OutcomeSetting {
    let reason = Some("done by hand".to_owned());
    OutcomeSetting { outcome, by: Some("ada".to_owned()), reason, result: Some(json!({"n": 1})) }
}

fn code<T: std::fmt::Debug>(result: Result<T, StoreError>) -> &'static str {
    match result.unwrap_err() {
        StoreError::WrongState { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

async fn record_of(bench: &Bench) -> i64 {
    bench.store.error_list(ErrorFilter::default(), page(1)).await.unwrap().items[0].id
}

/// A chain that failed for good, or waits for its retry.
async fn broken(bench: &Bench, decision: RecoveryDecision) -> Execution {
    let (execution, _) = bench.running().await;
    bench.finish(failed(&execution, decision)).await
}

pub(crate) async fn an_act_and_its_audit_row_are_one_change(bench: &Bench) {
    let schedule = bench.schedule("nightly").await;
    let id = schedule.id.to_string();
    let store = acting(bench, "schedule.pause");
    assert!(store.unsettled_act().is_some());
    store.schedule_set_enabled(schedule.id, false).await.unwrap();
    assert!(store.unsettled_act().is_none());
    let found = bench.store.audit_list(AuditFilter::default(), keyset(10)).await.unwrap();
    let [entry] = found.items.as_slice() else { panic!("{found:?}") };
    assert_eq!(entry.act, act("schedule.pause", Some(&id)));
    assert_eq!(entry.at, bench.now());
    assert_eq!(
        (&entry.before, &entry.after),
        (
            &Some(json!({"enabled": true})),
            &Some(json!({"enabled": false, "pausedUntil": null, "pauseReason": null})),
        )
    );
    // What is refused leaves nothing.
    let store = acting(bench, "schedule.pause");
    assert!(store.schedule_set_enabled(999, false).await.is_err());
    assert!(store.unsettled_act().is_some());
    assert_eq!(actions(bench).await.len(), 1);
    // What nobody does by name leaves nothing either.
    bench.store.schedule_set_enabled(schedule.id, true).await.unwrap();
    assert_eq!(actions(bench).await.len(), 1);
}

pub(crate) async fn the_audit_log_is_listed_by_who_what_and_when(bench: &Bench) {
    let first = bench.schedule("a").await;
    let second = bench.schedule("b").await;
    for (schedule, action) in [(&first, "schedule.pause"), (&second, "schedule.pause")] {
        acting(bench, action).schedule_set_enabled(schedule.id, false).await.unwrap();
    }
    bench.advance(60);
    acting(bench, "schedule.resume").schedule_set_enabled(first.id, true).await.unwrap();
    acting(bench, "actor.restart").audit_append(act("actor.restart", Some("x"))).await.unwrap();
    let count = async |filter: AuditFilter| {
        bench.store.audit_list(filter, keyset(10)).await.unwrap().items.len()
    };
    let any = AuditFilter::default;
    let who = |name: &str| AuditFilter { who: Some(name.to_owned()), ..any() };
    // The row of an append is written once, not by the handle too.
    assert_eq!(count(any()).await, 4);
    assert_eq!((count(who("ada")).await, count(who("bob")).await), (4, 0));
    let paused = AuditFilter { action: Some("schedule.pause".to_owned()), ..any() };
    assert_eq!(count(paused).await, 2);
    let subject = AuditFilter {
        subject_kind: Some("schedule".to_owned()),
        subject_id: Some(first.id.to_string()),
        ..any()
    };
    assert_eq!(count(subject).await, 2);
    assert_eq!(count(AuditFilter { since: Some(bench.now()), ..any() }).await, 2);
    let one = bench.store.audit_list(any(), keyset(2)).await.unwrap();
    let next = KeysetRequest { limit: 10, below: one.next_below };
    let rest = bench.store.audit_list(any(), next).await.unwrap();
    assert_eq!((one.items.len(), rest.items.len(), rest.next_below), (2, 2, None));
}

pub(crate) async fn an_answer_given_again_is_audited_once(bench: &Bench) {
    let request = || ExecutionCreate {
        row: row(bench.now()),
        limit: None,
        claim: None,
        idempotency: Some(Idempotency {
            key: "k".to_owned(),
            body_hash: "h".to_owned(),
            render: Box::new(|_: &Execution, _| StoredAnswer { status: 202, body: String::new() }),
        }),
    };
    let made = acting(bench, "schedule.trigger").execution_create(request()).await.unwrap();
    assert!(matches!(made, Creation::New(_)));
    let store = acting(bench, "schedule.trigger");
    let again = store.execution_create(request()).await.unwrap();
    assert!(matches!(again, Creation::Replayed(_)));
    assert!(store.unsettled_act().is_none(), "nothing is left to be audited");
    assert_eq!(actions(bench).await, ["schedule.trigger"]);
}

pub(crate) async fn a_waiting_execution_is_skipped_and_its_chain_ends(bench: &Bench) {
    let waiting = bench.pending(1).await.remove(0);
    let key = ExecutionKey::Uuid(waiting.new.execution_id);
    let before = bench.last_event().await;
    let acted = acting(bench, "execution.skip").execution_skip(key).await.unwrap();
    assert_eq!(acted.execution.status, ExecutionStatus::Skipped);
    assert_eq!(acted.execution.completed_at, Some(bench.now()));
    assert_eq!(bench.event_types_after(before).await, ["execution_skipped"]);
    assert_eq!(code(bench.store.execution_skip(key).await), "not_waiting");
    let (running, _) = bench.running().await;
    let refused = bench.store.execution_skip(ExecutionKey::Id(running.id)).await;
    assert_eq!(code(refused), "not_waiting");
    let rows = bench.store.audit_list(AuditFilter::default(), keyset(1)).await.unwrap();
    assert_eq!(rows.items[0].act.subject_id, Some(waiting.id.to_string()), "by its row id");
}

pub(crate) async fn a_running_command_is_marked_paused_until_it_is_resumed(bench: &Bench) {
    let (execution, claim) = bench.running().await;
    let (key, boot) = (ExecutionKey::Id(execution.id), claim.claimant.boot_id);
    let store = acting(bench, "execution.pause");
    let before = bench.last_event().await;
    let acted = store.execution_pause(key, Some("why".to_owned())).await.unwrap();
    assert_eq!(acted.acts.paused_at, Some(bench.now()));
    assert_eq!(acted.acts.paused_by.as_deref(), Some("ada"));
    bench.advance(10);
    let again = bench.store.execution_pause(key, None).await.unwrap();
    assert_eq!(again.acts, acted.acts, "the first pause stays");
    let marked = bench.store.execution_list_paused(boot).await.unwrap();
    assert_eq!(marked, [(execution.id, acted.acts.paused_at.unwrap())]);
    bench.store.execution_resume(key, None).await.unwrap();
    assert!(bench.store.execution_list_paused(boot).await.unwrap().is_empty());
    assert_eq!(code(bench.store.execution_resume(key, None).await), "not_paused");
    assert_eq!(bench.event_types_after(before).await, ["execution_paused", "execution_resumed"]);
    // A pause ends with what it stopped.
    bench.store.execution_pause(key, None).await.unwrap();
    bench.finish(completed(&execution)).await;
    assert!(bench.store.execution_list_paused(boot).await.unwrap().is_empty());
    assert_eq!(code(bench.store.execution_pause(key, None).await), "not_running");
    assert_eq!(code(bench.store.execution_resume(key, None).await), "not_paused");
}

pub(crate) async fn only_what_has_processes_is_paused(bench: &Bench) {
    let claim = super::fixtures::claimant(1);
    bench.register(&claim).await;
    let mut new = row(bench.now());
    new.task.task_type = "function".to_owned();
    let made = bench.store.execution_create_batch(vec![new], Some(claim)).await.unwrap();
    let refused = bench.store.execution_pause(ExecutionKey::Id(made[0].id), None).await;
    assert_eq!(code(refused), "not_pausable");
    let (running, _) = bench.running().await;
    let key = ExecutionKey::Id(running.id);
    bench.store.execution_cancel(key).await.unwrap();
    assert_eq!(code(bench.store.execution_pause(key, None).await), "being_cancelled");
}

pub(crate) async fn a_failed_chain_marked_as_succeeded_needs_nobody(bench: &Bench) {
    let ended = broken(bench, SPENT).await;
    let key = ExecutionKey::Id(ended.id);
    let before = bench.last_event().await;
    let acted =
        bench.store.execution_override(key, setting(OverrideOutcome::Succeeded)).await.unwrap();
    assert_eq!(acted.execution.status, ExecutionStatus::Failed, "what happened, happened");
    let set = acted.acts.outcome_override.clone().unwrap();
    assert_eq!((set.outcome, set.at), (OverrideOutcome::Succeeded, bench.now()));
    assert_eq!((set.by.as_deref(), set.result), (Some("ada"), Some(json!({"n": 1}))));
    let record = bench.store.error_get(record_of(bench).await).await.unwrap();
    assert_eq!(record.recovery_status, RecoveryStatus::Resolved);
    assert_eq!(record.resolution_notes.as_deref(), Some("done by hand"));
    let letters = bench.store.dead_letter_list(DeadLetterFilter::default(), page(10)).await;
    assert_eq!(letters.unwrap().total, 0);
    assert_eq!(
        bench.event_types_after(before).await,
        ["execution_overridden", "error_resolved", "dead_letter_recovered"]
    );
    let kept = bench.store.execution_acts_of(vec![ended.id, 999]).await.unwrap();
    assert_eq!(kept.get(&ended.id), Some(&acted.acts));
    assert_eq!(kept.len(), 1);
}

pub(crate) async fn a_chain_marked_as_failed_is_tried_no_more(bench: &Bench) {
    let at = bench.now() + Duration::seconds(10);
    let ended = broken(bench, RecoveryDecision::RetryAt(at)).await;
    let key = ExecutionKey::Id(ended.id);
    bench.store.execution_override(key, setting(OverrideOutcome::Failed)).await.unwrap();
    let record = bench.store.error_get(record_of(bench).await).await.unwrap();
    assert_eq!(record.recovery_status, RecoveryStatus::Ignored);
    assert_eq!((record.next_retry_at, bench.store.error_next_due().await.unwrap()), (None, None));
    // A person may think again.
    bench.store.execution_override(key, setting(OverrideOutcome::Succeeded)).await.unwrap();
    let record = bench.store.error_get(record.id).await.unwrap();
    assert_eq!(record.recovery_status, RecoveryStatus::Resolved);
}

pub(crate) async fn the_letter_of_a_chain_marked_as_failed_is_discarded(bench: &Bench) {
    let ended = broken(bench, SPENT).await;
    let key = ExecutionKey::Id(ended.id);
    bench.store.execution_override(key, setting(OverrideOutcome::Failed)).await.unwrap();
    let statuses = vec![DeadLetterStatus::Discarded];
    let filter = DeadLetterFilter { statuses, ..DeadLetterFilter::default() };
    let letters = bench.store.dead_letter_list(filter, page(10)).await.unwrap();
    assert_eq!(letters.items[0].discard_reason.as_deref(), Some("done by hand"));
}

pub(crate) async fn only_a_chain_that_failed_or_waits_is_given_an_outcome(bench: &Bench) {
    let succeed = async |id: i64| {
        let setting = setting(OverrideOutcome::Succeeded);
        bench.store.execution_override(ExecutionKey::Id(id), setting).await
    };
    let (running, _) = bench.running().await;
    assert_eq!(code(succeed(running.id).await), "still_running");
    bench.finish(completed(&running)).await;
    assert_eq!(code(succeed(running.id).await), "wrong_state");
    // One that waits is skipped: it never ran.
    let waiting = bench.pending(1).await.remove(0);
    let acted = succeed(waiting.id).await.unwrap();
    assert_eq!(acted.execution.status, ExecutionStatus::Skipped);
    assert!(acted.acts.outcome_override.is_some());
    // The chain is meant, whichever of its attempts is named; a retry on its way refuses.
    let first = broken(bench, SPENT).await;
    let start = RetryStart {
        error_id: record_of(bench).await,
        expected_next_retry_at: None,
        execution: retry_of(&first, bench.now()),
    };
    let claim = Some(super::fixtures::claimant(1));
    bench.store.error_start_retries(vec![start], claim).await.unwrap();
    assert_eq!(code(succeed(first.id).await), "still_running");
}

pub(crate) async fn an_error_is_given_to_somebody_and_listed_by_them(bench: &Bench) {
    broken(bench, SPENT).await;
    let id = record_of(bench).await;
    let before = bench.last_event().await;
    let given = bench.store.error_assign(id, Some("ada".to_owned())).await.unwrap();
    assert_eq!(given.assignee.as_deref(), Some("ada"));
    bench.store.error_assign(id, Some("ada".to_owned())).await.unwrap();
    assert_eq!(bench.event_types_after(before).await, ["error_assigned"]);
    let list = async |assignee: &str, severity: Severity| {
        let filter = ErrorPageFilter {
            recovery_statuses: vec![RecoveryStatus::Escalated],
            severities: vec![severity],
            schedule_id: None,
            assignee: Some(assignee.to_owned()),
        };
        bench.store.error_page(filter, keyset(10)).await.unwrap().items.len()
    };
    assert_eq!(list("ada", given.severity).await, 1);
    assert_eq!(list("bob", given.severity).await, 0);
    let notes = Some("help".to_owned());
    let escalated = bench.store.error_escalate(id, Some("bob".to_owned()), notes).await.unwrap();
    assert_eq!(escalated.assignee.as_deref(), Some("bob"));
    assert_eq!(escalated.resolution_notes.as_deref(), Some("help"));
    assert_eq!(list("bob", given.severity).await, 1);
    bench.store.error_assign(id, None).await.unwrap();
    assert_eq!(bench.store.error_get(id).await.unwrap().assignee, None);
}

pub(crate) async fn the_facts_say_what_is_late_broken_and_paused(bench: &Bench) {
    let limits = AttentionLimits {
        overdue_after: Duration::seconds(30),
        waiting_after: Duration::minutes(5),
        pause_max: Duration::hours(24),
        letters_max: 1,
        letters_window: std::time::Duration::from_secs(3_600),
    };
    bench.schedule("late").await;
    let waiting = bench.pending(1).await.remove(0);
    let calm = bench.store.attention_facts(limits).await.unwrap();
    assert!(calm.overdue.is_empty() && calm.waiting.is_empty() && calm.errors.is_empty());
    assert_eq!(calm.scheduler.enabled_schedules, 1);
    bench.store.execution_cancel(ExecutionKey::Id(waiting.id)).await.unwrap();
    broken(bench, SPENT).await;
    let (running, _) = bench.running().await;
    bench.store.execution_pause(ExecutionKey::Id(running.id), None).await.unwrap();
    let late = bench.pending(1).await.remove(0);
    bench.advance(600);
    let facts = bench.store.attention_facts(limits).await.unwrap();
    assert_eq!(facts.now, bench.now());
    assert_eq!(facts.overdue.len(), 1);
    assert_eq!(facts.overdue[0].name, "late");
    assert_eq!(facts.waiting.iter().map(|row| row.id).collect::<Vec<_>>(), [late.id]);
    assert_eq!(facts.paused.iter().map(|row| row.id).collect::<Vec<_>>(), [running.id]);
    assert_eq!((facts.errors.len(), facts.letters.len()), (1, 1));
    assert!(facts.errors[0].is_escalated);
    assert!(!facts.nodes.is_empty() && facts.nodes.iter().all(|node| !node.is_stopped));
    let growth = facts.growth.unwrap();
    assert_eq!((growth.added, growth.threshold), (1, 1));
    assert!(!facts.truncated);
}

pub(crate) async fn the_facts_name_open_breakers_and_causes_that_came_back(bench: &Bench) {
    let limits = AttentionLimits {
        overdue_after: Duration::seconds(30),
        waiting_after: Duration::minutes(5),
        pause_max: Duration::hours(24),
        letters_max: 0,
        letters_window: std::time::Duration::from_secs(3_600),
    };
    let order = |act| BreakerOrder {
        key: "key:ledger".to_owned(),
        act,
        by: "ada".to_owned(),
        reason: Some("it moves house".to_owned()),
    };
    bench.store.breaker_act(order(BreakerAct::ForceOpen(None))).await.unwrap();
    let mut held = row(bench.now());
    held.gates.target = Some("key:ledger".to_owned());
    held.gates.is_gated = true;
    bench.store.execution_create_batch(vec![held], None).await.unwrap();
    // A cause is resolved and comes back.
    broken(bench, SPENT).await;
    let record = bench.store.error_get(record_of(bench).await).await.unwrap();
    let order_of_groups = GroupResolution {
        fingerprint: record.fingerprint.clone(),
        by: "ada".to_owned(),
        notes: Some("mended".to_owned()),
        limit: 10,
    };
    let store = acting(bench, "error_group.resolve");
    store.error_group_resolve(order_of_groups).await.unwrap();
    let rows = bench.store.audit_list(AuditFilter::default(), keyset(9)).await.unwrap().items;
    assert_eq!(rows[0].act.subject_id.as_ref(), Some(&record.fingerprint));
    assert_eq!(rows[0].after.as_ref().unwrap()["resolvedErrors"], 1);
    bench.advance(1);
    broken(bench, SPENT).await;
    let facts = bench.store.attention_facts(limits).await.unwrap();
    let breaker = facts.breakers.first().unwrap();
    assert_eq!((breaker.key.as_str(), breaker.waiting), ("key:ledger", 1));
    assert_eq!(breaker.forced_by.as_deref(), Some("ada"));
    assert_eq!(breaker.reason.as_deref(), Some("it moves house"));
    assert_eq!(facts.regressed.len(), 1);
    assert_eq!(facts.regressed[0].fingerprint, record.fingerprint);
    assert!(facts.errors.iter().all(|error| error.has_group));
    bench.store.breaker_act(order(BreakerAct::Reset)).await.unwrap();
    assert!(bench.store.attention_facts(limits).await.unwrap().breakers.is_empty());
}
