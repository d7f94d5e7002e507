//! What people do, over HTTP: each act with its audit row, and what needs them.

use carillon::domain::execution::ExecutionStatus;
use carillon::domain::key::Role;
use serde_json::{Value, json};

use super::failures::fail_one;
use super::server::{Reply, TestServer};

const SCHEDULES: &str = "/api/v1/scheduler/schedules";

fn body(name: &str) -> Value {
    json!({
        "name": name,
        "taskType": "function",
        "taskConfig": { "name": "health:check", "payload": {} },
        "scheduleType": "cron",
        "scheduleConfig": { "cron": "0 2 * * *" },
    })
}

async fn audit(server: &TestServer, query: &str) -> Vec<Value> {
    let path = format!("/api/v2/audit{query}");
    let reply = server.call(Role::Operator, "GET", &path, Value::Null).await;
    reply.is(200).body["items"].as_array().unwrap().clone()
}

/// The newest row: action, subject, reason.
async fn newest(server: &TestServer) -> (String, String, Option<String>) {
    let row = audit(server, "?limit=1").await.remove(0);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let subject = format!(
        "{}:{}",
        row["subject"]["kind"].as_str().unwrap(),
        row["subject"]["id"].as_str().unwrap_or("-")
    );
    (text(&row["action"]).unwrap(), subject, text(&row["reason"]))
}

async fn waiting(server: &TestServer) -> Reply {
    let body = json!({
        "taskType": "function", "taskConfig": { "name": "health:check", "payload": {} },
    });
    server.post("/api/execution/executions", body).await
}

#[actix_rt::test]
async fn every_verb_of_an_operator_leaves_one_row_that_says_who_what_and_why() {
    let server = TestServer::start().await;
    let made = server.post(SCHEDULES, body("nightly")).await;
    let schedule = made.is(201).id();
    let path = format!("{SCHEDULES}/{schedule}");
    let subject = format!("schedule:{schedule}");
    let row = audit(&server, "").await.remove(0);
    assert_eq!((&row["action"], &row["who"]), (&json!("schedule.create"), &json!("operator key")));
    assert_eq!(
        (&row["role"], &row["subject"]["id"]),
        (&json!("operator"), &json!(schedule.to_string()))
    );
    assert_eq!(row["requestId"], made.header("x-request-id"));
    let reason = json!({ "reason": "because" });
    for verb in ["pause", "resume"] {
        server.post(&format!("{path}/{verb}"), reason.clone()).await.is(200);
        let because = Some("because".to_owned());
        assert_eq!(newest(&server).await, (format!("schedule.{verb}"), subject.clone(), because));
    }
    let triggered = server.post(&format!("{path}/trigger"), reason.clone()).await;
    let execution = format!("/api/execution/executions/{}", triggered.is(202).id());
    assert_eq!(newest(&server).await.0, "schedule.trigger");
    let edited = server.call(Role::Operator, "PUT", &path, json!({ "severity": "low" })).await;
    edited.is(200);
    let row = audit(&server, "?limit=1").await.remove(0);
    assert_eq!(
        (&row["before"], &row["after"]),
        (&json!({"severity": "high"}), &json!({"severity": "low"}))
    );
    server.post(&format!("{execution}/cancel"), Value::Null).await.is(200);
    assert_eq!(newest(&server).await.1, format!("execution:{}", triggered.id()));
    server.post("/api/scheduler/stop", reason.clone()).await.is(200);
    assert_eq!(newest(&server).await.1, "scheduler:scheduler");
    // Starting it twice is two acts, the second of which changes nothing.
    server.post("/api/scheduler/start", Value::Null).await.is(200);
    server.post("/api/scheduler/start", Value::Null).await.is(200);
    assert_eq!(audit(&server, "?action=scheduler.start").await.len(), 2);
    server.call(Role::Operator, "DELETE", &path, Value::Null).await.is(204);
    assert_eq!(newest(&server).await, ("schedule.delete".to_owned(), subject, None));
    assert_eq!(audit(&server, "").await.len(), 10);
    server.stop().await;
}

#[actix_rt::test]
async fn what_is_done_outside_the_store_is_audited_and_what_is_refused_is_not() {
    let server = TestServer::start().await;
    let admin = async |method: &str, path: &str, body: Value| {
        server.call(Role::Admin, method, path, body).await
    };
    admin("POST", "/api/admin/actors/time.scheduler/restart", json!({"reason": "stuck"}))
        .await
        .is(202);
    let row = newest(&server).await;
    let stuck = Some("stuck".to_owned());
    assert_eq!(row, ("actor.restart".to_owned(), "actor:time.scheduler".to_owned(), stuck));
    admin("PUT", "/api/admin/log-level", json!({"level": "debug"})).await.is(200);
    assert_eq!(newest(&server).await.0, "log_level.update");
    let key = admin("POST", "/api/admin/keys", json!({"name": "n", "role": "viewer"})).await;
    assert_eq!(newest(&server).await.1, format!("key:{}", key.is(201).id()));
    let row = audit(&server, "?limit=1").await.remove(0);
    assert!(!row.to_string().contains(key.body["token"].as_str().unwrap()));
    let before = audit(&server, "").await.len();
    admin("POST", "/api/admin/actors/nobody/restart", Value::Null).await.refuses(404, "not_found");
    server.post("/api/scheduler/schedules/9/pause", Value::Null).await.refuses(404, "not_found");
    server.get("/api/scheduler/status").await.is(200);
    waiting(&server).await.is(202);
    assert_eq!(audit(&server, "").await.len(), before);
    server.stop().await;
}

#[actix_rt::test]
async fn a_reason_comes_in_the_body_or_in_a_header() {
    let server = TestServer::start().await;
    let start = async |header: &str, body: Value| {
        let request = server.request("POST", "/api/scheduler/start");
        let request = request.bearer_auth(server.key(Role::Operator));
        server.send(request.insert_header(("X-Carillon-Reason", header)), &body).await
    };
    start("by header", Value::Null).await.is(200);
    assert_eq!(newest(&server).await.2.as_deref(), Some("by header"));
    start("by header", json!({ "reason": "by body" })).await.is(200);
    assert_eq!(newest(&server).await.2.as_deref(), Some("by body"));
    start(&"x".repeat(2_001), Value::Null).await.refuses(422, "validation_failed");
    start("", json!({ "reason": 7 })).await.refuses(422, "validation_failed");
    server.get("/api/v2/audit").await.refuses(403, "forbidden");
    let bad = server.call(Role::Operator, "GET", "/api/v2/audit?whom=x", Value::Null).await;
    bad.refuses(422, "validation_failed");
    server.stop().await;
}

#[actix_rt::test]
async fn a_waiting_execution_is_skipped_and_a_function_is_not_paused() {
    let server = TestServer::start().await;
    let made = waiting(&server).await;
    let path = format!("/api/v2/executions/{}", made.id());
    server.post(&format!("{path}/pause"), Value::Null).await.refuses(409, "not_running");
    server.post(&format!("{path}/resume"), Value::Null).await.refuses(409, "not_paused");
    let viewer = server.call(Role::Viewer, "POST", &format!("{path}/skip"), Value::Null).await;
    viewer.refuses(403, "forbidden");
    let skipped = server.post(&format!("{path}/skip"), json!({ "reason": "not tonight" })).await;
    assert_eq!(skipped.is(200).body["status"], ExecutionStatus::Skipped.as_str());
    assert_eq!(newest(&server).await.2.as_deref(), Some("not tonight"));
    server.post(&format!("{path}/skip"), Value::Null).await.refuses(409, "not_waiting");
    server.stop().await;
}

#[actix_rt::test]
async fn an_outcome_by_hand_needs_its_reason_and_is_shown() {
    let server = TestServer::start().await;
    let id = fail_one(&server).await;
    let path = format!("/api/v2/executions/{id}");
    server.post(&format!("{path}/succeed"), json!({})).await.refuses(422, "validation_failed");
    let result = json!({ "reason": "x", "result": 1 });
    server.post(&format!("{path}/fail"), result.clone()).await.refuses(422, "validation_failed");
    let marked = server.post(&format!("{path}/succeed"), result).await;
    let set = &marked.is(200).body["outcomeOverride"];
    assert_eq!((&set["outcome"], &set["by"]), (&json!("succeeded"), &json!("operator key")));
    assert_eq!((&set["reason"], &set["result"]), (&json!("x"), &json!(1)));
    assert_eq!(server.get(&path).await.is(200).body["outcomeOverride"], *set);
    let errors = server.get("/api/v2/errors?status=resolved").await;
    assert_eq!(errors.is(200).body["items"][0]["outcomeOverride"]["outcome"], "succeeded");
    server.stop().await;
}

#[actix_rt::test]
async fn an_error_is_assigned_escalated_retried_and_listed_by_key() {
    let server = TestServer::start().await;
    fail_one(&server).await;
    let listed = server.get("/api/v2/errors?status=escalated&limit=1").await;
    assert_eq!(listed.is(200).body["nextCursor"], Value::Null);
    let path = format!("/api/v2/errors/{}", listed.body["items"][0]["id"]);
    server.post(&format!("{path}/assign"), json!({})).await.refuses(422, "validation_failed");
    let given = json!({ "assignee": "ada", "reason": "she knows" });
    let given = server.post(&format!("{path}/assign"), given).await;
    assert_eq!(given.is(200).body["assignee"], "ada");
    assert_eq!(newest(&server).await.0, "error.assign");
    let mine = server.get("/api/v2/errors?assignee=ada").await;
    assert_eq!(mine.is(200).body["items"].as_array().unwrap().len(), 1);
    let help = json!({ "assignee": "bob", "reason": "on call" });
    let escalated = server.post(&format!("{path}/escalate"), help).await;
    assert_eq!(escalated.is(200).body["assignee"], "bob");
    assert_eq!(escalated.body["resolutionNotes"], "on call");
    let nobody = server.post(&format!("{path}/assign"), json!({ "assignee": null })).await;
    assert_eq!(nobody.is(200).body["assignee"], Value::Null);
    let edited = json!({
        "taskConfig": { "name": "health:check", "payload": { "n": 1 } }, "reason": "with n",
    });
    let retried = server.post(&format!("{path}/retry"), edited).await;
    assert_eq!(retried.is(202).body["recoveryStatus"], "retrying");
    assert_eq!(newest(&server).await.2.as_deref(), Some("with n"));
    server.stop().await;
}

#[actix_rt::test]
async fn what_needs_a_person_comes_with_what_cures_it() {
    let server = TestServer::start().await;
    let calm = server.get("/api/v2/attention").await;
    assert_eq!(calm.is(200).body["items"], json!([]), "{calm:?}");
    fail_one(&server).await;
    server.post(SCHEDULES, body("nightly")).await.is(201);
    server.post("/api/scheduler/stop", Value::Null).await.is(200);
    let found = server.get("/api/v2/attention").await;
    let items = found.is(200).body["items"].as_array().unwrap();
    let kinds: Vec<&str> = items.iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["scheduler_stopped", "error"], "{found:?}");
    assert_eq!(found.body["counts"]["critical"], 1);
    for item in items {
        let cure = &item["actions"][0];
        let path = cure["path"].as_str().unwrap();
        let done = server
            .call(Role::Operator, cure["method"].as_str().unwrap(), path, cure["body"].clone())
            .await;
        assert!((200..300).contains(&done.status), "{cure} {done:?}");
    }
    assert_eq!(server.get("/api/v2/attention").await.body["items"], json!([]));
    server.stop().await;
}

#[actix_rt::test]
async fn without_a_database_the_server_still_says_what_it_sees() {
    let server = TestServer::start().await;
    server.get("/api/v2/attention").await.is(200);
    server.store.close().await;
    let found = server.get("/api/v2/attention").await;
    let first = &found.is(200).body["items"][0];
    assert_eq!((&first["kind"], &first["severity"]), (&json!("health"), &json!("critical")));
    assert_eq!(found.body["truncated"], true);
    server.stop().await;
}
