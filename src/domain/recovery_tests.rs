use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::domain::classification::{Condition, Rule};
use crate::domain::execution_samples;

const LIMITS: RecoveryLimits = RecoveryLimits { max_crash_attempts: 3 };

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn row(policy: Value, failures: i32, crashes: i32) -> Execution {
    let mut row = execution_samples::running(now());
    let new = Arc::make_mut(&mut row.new);
    new.task.retry_policy = policy;
    new.attempt = failures + crashes + 1;
    new.failures_before = failures;
    new.crashes_before = crashes;
    row
}

fn decide(row: &Execution, kind: &str) -> FailureEntry {
    let error = ExecutionError::new(kind, "it broke");
    plan_failure(row, &Failure::of(&error), LIMITS, now(), 0.5).unwrap()
}

fn retry_in(entry: &FailureEntry) -> Option<i64> {
    match entry.decision {
        RecoveryDecision::RetryAt(at) => Some((at - now()).num_milliseconds()),
        RecoveryDecision::GiveUp { .. } => None,
    }
}

fn gave_up(entry: &FailureEntry) -> Option<(RecoveryStatus, &'static str)> {
    match entry.decision {
        RecoveryDecision::GiveUp { status, cause } => Some((status, cause)),
        RecoveryDecision::RetryAt(_) => None,
    }
}

#[test]
fn a_transient_failure_is_retried_with_growing_delays_until_attempts_are_spent() {
    for (failures, delay) in [(0, 1000), (1, 2000), (2, 4000)] {
        assert_eq!(retry_in(&decide(&row(Value::Null, failures, 0), "exit_code")), Some(delay));
    }
    let spent = decide(&row(Value::Null, 3, 0), "exit_code");
    assert_eq!(gave_up(&spent), Some((RecoveryStatus::Escalated, "attempts_spent")));
    assert_eq!(spent.max_retry_attempts, 3);
}

#[test]
fn a_permanent_failure_is_never_retried() {
    for kind in ["command_not_found", "http_4xx", "invalid_config", "unknown_function"] {
        let entry = decide(&row(Value::Null, 0, 0), kind);
        assert_eq!(gave_up(&entry), Some((RecoveryStatus::Unresolved, "permanent")), "{kind}");
    }
}

#[test]
fn a_failure_that_the_policy_does_not_name_is_not_retried() {
    let entry = decide(&row(json!({"retryOn": ["timeout"]}), 0, 0), "exit_code");
    assert_eq!(gave_up(&entry), Some((RecoveryStatus::Unresolved, "permanent")));
    assert_eq!(
        retry_in(&decide(&row(json!({"retryOn": ["timeout"]}), 0, 0), "timeout")),
        Some(1000)
    );
}

#[test]
fn severity_never_gates_a_retry() {
    let mut low = row(Value::Null, 0, 0);
    Arc::make_mut(&mut low.new).task.severity = Severity::Low;
    assert!(retry_in(&decide(&low, "exit_code")).is_some());
}

#[test]
fn a_lost_node_is_charged_to_crashes_and_the_third_is_poison() {
    let single = json!({"maxAttempts": 1});
    assert_eq!(retry_in(&decide(&row(single.clone(), 0, 0), NODE_LOST)), Some(0));
    assert_eq!(retry_in(&decide(&row(single.clone(), 0, 1), NODE_LOST)), Some(0));
    let poison = decide(&row(single, 0, 2), NODE_LOST);
    assert_eq!(gave_up(&poison), Some((RecoveryStatus::Escalated, "poison")));
    assert_eq!(poison.severity, Severity::Critical);
}

#[test]
fn an_interruption_is_charged_to_neither_account() {
    let mut ended = row(json!({"maxAttempts": 1}), 0, 2);
    assert_eq!(retry_in(&decide(&ended, INTERRUPTED)), Some(0));
    ended.status = ExecutionStatus::Failed;
    ended.error = Some(ExecutionError::new(INTERRUPTED, "drained"));
    let next = next_attempt(&ended, Uuid::max(), now());
    assert_eq!((next.failures_before, next.crashes_before), (0, 2));
    assert_eq!(retry_in(&decide(&ended, PREEMPTED)), Some(0));
    ended.error = Some(ExecutionError::new(PREEMPTED, "it made room"));
    let next = next_attempt(&ended, Uuid::max(), now());
    assert_eq!((next.failures_before, next.crashes_before), (0, 2));
    assert_eq!(next.task.options.admission.preempted, 1);
}

#[test]
fn the_next_attempt_keeps_its_chain_instant_and_task() {
    let mut failed = row(Value::Null, 0, 0);
    failed.status = ExecutionStatus::Failed;
    failed.error = Some(ExecutionError::new("exit_code", "exit status 1"));
    let next = next_attempt(&failed, Uuid::max(), now());
    assert_eq!(next.chain_id, failed.new.chain_id);
    assert_eq!(next.scheduled_at, failed.new.scheduled_at);
    assert_eq!(next.task, failed.new.task);
    assert_eq!((next.attempt, next.retry_of, next.trigger), (2, Some(7), Trigger::Retry));
    assert_eq!((next.failures_before, next.dedup_key), (1, None));
}

#[test]
fn a_retry_that_asks_for_it_keeps_away_from_the_node_that_failed() {
    let mut failed = row(Value::Null, 0, 0);
    failed.status = ExecutionStatus::Failed;
    failed.error = Some(ExecutionError::new("exit_code", "exit status 1"));
    failed.node_id = Some("a".to_owned());
    assert_eq!(next_attempt(&failed, Uuid::max(), now()).task.options.admission.away, None);
    Arc::make_mut(&mut failed.new).task.options.recovery.retry_on_another_node = true;
    let next = next_attempt(&failed, Uuid::max(), now());
    let away = Away { from: "a".to_owned(), until: now() + AWAY_FOR };
    assert_eq!(next.task.options.admission.away, Some(away));
    assert!(next.gates.is_gated);
    let mut second = failed.clone();
    second.new = Arc::new(next);
    second.node_id = Some("b".to_owned());
    let third = next_attempt(&second, Uuid::max(), now());
    assert_eq!(third.task.options.admission.away.unwrap().from, "b");
}

#[test]
fn a_rule_overrules_the_table_and_the_policy() {
    let with = |then, kind: &str, failures| {
        let mut row = row(json!({"retryOn": []}), failures, 0);
        let when = Condition { kinds: vec![kind.to_owned()], ..Condition::default() };
        Arc::make_mut(&mut row.new).task.options.recovery.rules = vec![Rule { when, then }];
        let error = ExecutionError::new(kind, "it broke");
        plan_failure(&row, &Failure::of(&error), LIMITS, now(), 0.5)
    };
    let retried = with(Class::Transient, "http_4xx", 0).unwrap();
    assert_eq!(retry_in(&retried), Some(1000));
    let spent = with(Class::Transient, "http_4xx", 3).unwrap();
    assert_eq!(gave_up(&spent), Some((RecoveryStatus::Escalated, "attempts_spent")));
    let permanent = with(Class::Permanent, "timeout", 0).unwrap();
    assert_eq!(gave_up(&permanent), Some((RecoveryStatus::Unresolved, "permanent")));
    assert_eq!(with(Class::Ignore, "timeout", 0), None);
    assert!(with(Class::Ignore, NODE_LOST, 0).is_some(), "rules are about the task's failures");
}

#[test]
fn an_answer_that_asks_to_wait_is_not_asked_again_before() {
    let error = ExecutionError::new("http_429", "too many");
    let plan = |seconds, random| {
        let failure = Failure {
            http_status: Some(429),
            retry_after: Some(Duration::from_secs(seconds)),
            ..Failure::of(&error)
        };
        retry_in(&plan_failure(&row(Value::Null, 0, 0), &failure, LIMITS, now(), random).unwrap())
    };
    assert_eq!(plan(7, 0.0), Some(7_000));
    assert_eq!(plan(7, 0.5), Some(7_500), "spread, so that they do not come at once");
    assert_eq!(plan(0, 0.5), Some(1_000), "the policy's own delay is longer");
}
