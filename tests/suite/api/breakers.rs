//! Breakers, groups of errors and dead letters by the many over HTTP.

use carillon::domain::key::Role;
use serde_json::{Value, json};

use super::failures::fail_one;
use super::server::TestServer;

const BREAKERS: &str = "/api/v2/breakers";
const LETTERS: &str = "/api/v2/dead-letters";
const GROUPS: &str = "/api/v2/errors/groups";

#[actix_rt::test]
async fn a_breaker_is_forced_and_reset_by_an_operator_with_who_and_why() {
    let server = TestServer::start().await;
    let path = format!("{BREAKERS}/key:mail");
    server.get(&path).await.refuses(404, "not_found");
    let body = json!({"forMs": 60_000, "reason": "maintenance"});
    let refused =
        server.call(Role::Viewer, "POST", &format!("{path}/force-open"), body.clone()).await;
    refused.is(403);
    let forced = server.post(&format!("{path}/force-open"), body).await;
    assert_eq!(forced.is(200).body["state"], "open");
    assert_eq!(forced.body["passes"], "none");
    assert_eq!(forced.body["forced"]["by"], "operator key");
    assert_eq!(forced.body["forced"]["reason"], "maintenance");
    server.post(&format!("{path}/probe"), Value::Null).await.refuses(409, "wrong_state");
    let status = server.get("/api/circuitbreaker/status").await;
    assert_eq!(status.is(200).body["open"], 1);
    assert_eq!(status.body["breakers"][0]["key"], "key:mail");
    let listed = server.get(&format!("{BREAKERS}?limit=1")).await;
    assert_eq!(listed.is(200).body["items"][0]["key"], "key:mail");
    let reset = server.post("/api/circuitbreaker/key:mail/reset", json!({"reason": "done"})).await;
    assert_eq!(
        (&reset.is(200).body["state"], &reset.body["forced"]),
        (&json!("closed"), &Value::Null)
    );
    let history = &server.get(&path).await.body["history"];
    assert_eq!((&history[0]["cause"], &history[0]["reason"]), (&json!("reset"), &json!("done")));
    assert_eq!(
        (&history[1]["cause"], &history[1]["by"]),
        (&json!("forced_open"), &json!("operator key"))
    );
    let closed = server.post(&format!("{path}/force-close"), Value::Null).await;
    assert_eq!(closed.is(200).body["passes"], "all");
    server.stop().await;
}

#[actix_rt::test]
async fn a_force_that_cannot_be_is_refused() {
    let server = TestServer::start().await;
    for body in [json!({"forMs": 0}), json!({"until": "2001-01-01T00:00:00Z"}), json!({"fro": 1})] {
        let path = format!("{BREAKERS}/conductor/force-open");
        server.post(&path, body).await.is(422);
    }
    let path = format!("{BREAKERS}/mail/force-open");
    server.post(&path, Value::Null).await.refuses(404, "not_found");
    server.stop().await;
}

#[actix_rt::test]
async fn a_schedule_keeps_its_breaker_rules_and_budget() {
    let server = TestServer::start().await;
    let mut body = json!({
        "name": "mail", "taskType": "function", "taskConfig": {"name": "health:check", "payload": {}},
        "scheduleType": "interval", "scheduleConfig": {"intervalMs": 60_000},
        "breaker": {"key": "mail", "failures": 3},
        "recoveryRules": [{"when": {"message": "(?i)busy"}, "then": "transient"}],
        "retryBudget": {"maxRetries": 5, "perMs": 60_000},
        "retryOnAnotherNode": true,
    });
    let path = "/api/scheduler/schedules";
    let made = server.post(path, body.clone()).await;
    for name in ["breaker", "recoveryRules", "retryBudget", "retryOnAnotherNode"] {
        assert_eq!(made.is(201).body[name], body[name]);
    }
    body["recoveryRules"][0]["when"]["message"] = json!("(");
    body["breaker"]["failures"] = json!(0);
    body["retryOnAnotherNode"] = json!(1);
    let refused = server.post(path, body).await;
    let faults: Vec<&str> = refused.is(422).body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["field"].as_str().unwrap())
        .collect();
    for field in ["recoveryRules.0.when.message", "breaker.failures", "retryOnAnotherNode"] {
        assert!(faults.contains(&field), "{faults:?}");
    }
    server.stop().await;
}

#[actix_rt::test]
async fn a_group_of_errors_is_listed_and_resolved_whole() {
    let server = TestServer::start().await;
    fail_one(&server).await;
    fail_one(&server).await;
    let listed = server.get(&format!("{GROUPS}?status=open")).await;
    let group = &listed.is(200).body["items"][0];
    assert_eq!((&group["fingerprint"], &group["count"]), (&json!("f"), &json!(2)));
    let path = format!("{GROUPS}/f");
    let note = json!({"resolutionNotes": "restarted it"});
    let resolved = server.post(&format!("{path}/resolve"), note).await;
    assert_eq!(resolved.is(200).body["resolvedErrors"], 2);
    assert_eq!(resolved.body["resolvedBy"], "operator key");
    assert_eq!(server.get(&path).await.is(200).body["status"], "resolved");
    let open = server.get("/api/errors/errors?recoveryStatus=escalated").await;
    assert_eq!(open.body["total"], 0);
    server.get(&format!("{GROUPS}/g")).await.refuses(404, "not_found");
    server.stop().await;
}

#[actix_rt::test]
async fn dead_letters_are_resubmitted_by_group_at_a_rate() {
    let server = TestServer::start().await;
    for _ in 0..3 {
        fail_one(&server).await;
    }
    let groups = server.get(&format!("{LETTERS}/groups")).await;
    let group = groups.is(200).body["items"][0].clone();
    assert_eq!((&group["group"], &group["count"]), (&json!("attempts_spent:f"), &json!(3)));
    let path = format!("{LETTERS}/resubmit");
    server.post(&path, json!({})).await.is(422);
    let order = json!({"group": group["group"], "ratePerMinute": 2, "dryRun": true});
    let dry = server.post(&path, order).await;
    assert_eq!((&dry.is(200).body["count"], &dry.body["dryRun"]), (&json!(3), &json!(true)));
    let order = json!({"group": group["group"], "ratePerMinute": 2});
    let made = server.post_once("k", &path, order.clone()).await;
    let items = made.is(202).body["items"].as_array().unwrap().clone();
    let at = |place: usize| {
        chrono::DateTime::parse_from_rfc3339(items[place]["availableAt"].as_str().unwrap()).unwrap()
    };
    assert_eq!((at(2) - at(0)).num_seconds(), 60);
    let again = server.post_once("k", &path, order.clone()).await;
    assert_eq!((&again.body, again.header("idempotency-replayed")), (&made.body, "true"));
    let none = server.post(&path, order).await;
    assert_eq!(none.is(202).body["count"], 0);
    let listed = server.get(&format!("{LETTERS}?status=resubmitted&cause=attempts_spent")).await;
    assert_eq!(listed.is(200).body["items"].as_array().unwrap().len(), 3);
    server.stop().await;
}

#[actix_rt::test]
async fn dead_letters_are_discarded_with_a_reason() {
    let server = TestServer::start().await;
    fail_one(&server).await;
    let path = format!("{LETTERS}/discard");
    server.post(&path, json!({"filter": {}})).await.is(422);
    let dry = server.post(&path, json!({"filter": {}, "dryRun": true})).await;
    assert_eq!(dry.is(200).body["count"], 1);
    let done = server.post(&path, json!({"filter": {"fingerprint": "f"}, "reason": "old"})).await;
    assert_eq!(done.is(200).body["count"], 1);
    let letter = &server.get(&format!("{LETTERS}?status=discarded")).await.body["items"][0];
    assert_eq!(letter["discardReason"], "old");
    server.stop().await;
}
