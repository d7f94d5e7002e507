//! Error records and dead letters over HTTP.

use std::sync::Arc;
use std::time::Duration;

use carillon::domain::error_record::{ErrorType, FailureEntry, RecoveryDecision, RecoveryStatus};
use carillon::domain::execution::{ExecutionError, ExecutionStatus, Severity};
use carillon::store::{ClaimHere, Claimant, Finish};
use serde_json::{Value, json};
use uuid::Uuid;

use super::server::TestServer;

/// An execution that failed for good: its error is escalated, and there is a dead letter.
pub(super) async fn fail_one(server: &TestServer) -> i64 {
    let body = json!({
        "taskType": "function", "taskConfig": { "name": "health:check", "payload": {} },
    });
    let made = server.post("/api/execution/executions", body).await;
    let claimant = Claimant { boot_id: Uuid::now_v7(), node_id: "test".to_owned() };
    server.store.node_register(claimant.clone(), Duration::from_secs(60)).await.unwrap();
    let claim = ClaimHere { claimant: claimant.clone(), slots: 1, high_only: 0 };
    let claimed = server.store.execution_claim(claim).await.unwrap();
    assert_eq!(claimed[0].id, made.id());
    let (status, cause) = (RecoveryStatus::Escalated, "attempts_spent");
    let finish = Finish {
        row: Arc::new(claimed.into_iter().next().unwrap()),
        lease_owner: claimant.boot_id,
        status: ExecutionStatus::Failed,
        result: None,
        error: Some(ExecutionError {
            kind: "connection".to_owned(),
            message: "refused".to_owned(),
            transient: true,
        }),
        conductor_thread_id: None,
        usage: None,
        conductor_status: None,
        failure: Some(FailureEntry {
            error_type: ErrorType::ExecutionFailure,
            severity: Severity::High,
            fingerprint: "f".to_owned(),
            pattern: "refused".to_owned(),
            exit_code: None,
            max_retry_attempts: 3,
            decision: RecoveryDecision::GiveUp { status, cause },
        }),
    };
    server.store.execution_finish(vec![finish]).await.unwrap();
    made.id()
}

#[actix_rt::test]
async fn an_error_is_listed_read_and_resolved() {
    let server = TestServer::start().await;
    let execution = fail_one(&server).await;
    let listed = server.get("/api/errors/errors?recoveryStatus=escalated&severity=high").await;
    assert_eq!(listed.is(200).body["total"], 1, "{listed:?}");
    let error = &listed.body["items"][0];
    assert_eq!(error["executionId"], execution);
    let path = format!("/api/errors/errors/{}", error["id"]);
    assert_eq!(server.get(&path).await.is(200).body["message"], "refused");
    let bad = server.post(&format!("{path}/resolve"), json!({ "notes": "x" })).await;
    bad.refuses(422, "validation_failed");
    let notes = json!({ "resolutionNotes": "fixed" });
    let resolved = server.post(&format!("{path}/resolve"), notes).await;
    assert_eq!(resolved.is(200).body["recoveryStatus"], "resolved");
    assert_eq!(resolved.body["resolutionNotes"], "fixed");
    server.post(&format!("{path}/retry"), Value::Null).await.refuses(409, "wrong_state");
    assert_eq!(server.get("/api/dlq").await.is(200).body["total"], 0);
    server.stop().await;
}

#[actix_rt::test]
async fn a_person_may_retry_what_recovery_gave_up() {
    let server = TestServer::start().await;
    let execution = fail_one(&server).await;
    let id = server.get("/api/errors/errors").await.body["items"][0]["id"].clone();
    let path = format!("/api/errors/errors/{id}/retry");
    let retried = server.post(&path, Value::Null).await;
    assert_eq!(retried.is(202).body["recoveryStatus"], "retrying");
    let next = retried.body["retry"]["id"].as_i64().unwrap();
    let read = server.get(&format!("/api/execution/executions/{next}")).await;
    assert_eq!((&read.body["attempt"], &read.body["retryOf"]), (&json!(2), &json!(execution)));
    assert_eq!(read.body["attempts"].as_array().unwrap().len(), 2);
    server.post(&path, Value::Null).await.refuses(409, "wrong_state");
    server.stop().await;
}

#[actix_rt::test]
async fn a_dead_letter_is_resubmitted_as_a_new_chain_or_discarded() {
    let server = TestServer::start().await;
    fail_one(&server).await;
    let stats = server.get("/api/dlq/stats").await;
    assert_eq!(stats.is(200).body["pending"], 1);
    assert_eq!(stats.body["byCause"]["attempts_spent"], 1);
    let letter = server.get("/api/dlq").await.body["items"][0].clone();
    let path = format!("/api/dlq/{}", letter["id"]);
    let resubmitted = server.post(&format!("{path}/resubmit"), Value::Null).await;
    assert_eq!(resubmitted.is(202).body["status"], "resubmitted");
    assert_ne!(resubmitted.body["execution"]["chainId"], letter["chainId"]);
    let reason = json!({ "reason": "no longer needed" });
    let discarded = server.post(&format!("{path}/discard"), reason).await;
    assert_eq!(discarded.is(200).body["status"], "discarded", "{discarded:?}");
    server.post("/api/dlq/999/resubmit", Value::Null).await.refuses(404, "not_found");
    server.stop().await;
}
