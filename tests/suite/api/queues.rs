//! Queues, urgency, resources and advice over HTTP.

use carillon::domain::key::Role;
use serde_json::{Value, json};

use super::server::TestServer;

const RUNS: &str = "/api/v1/execution/executions";
const QUEUE: &str = "/api/v2/queues/reports";

fn run(rest: &Value) -> Value {
    let mut body =
        json!({ "taskType": "function", "taskConfig": { "name": "health:check", "payload": {} } });
    for (name, value) in rest.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[actix_rt::test]
async fn a_queue_is_limited_paused_resumed_and_forgotten() {
    let server = TestServer::start().await;
    server.get(QUEUE).await.refuses(404, "not_found");
    server.post(&format!("{QUEUE}/resume"), json!({})).await.refuses(404, "not_found");
    let limits = json!({ "maxConcurrent": 2, "ratePerMinute": 30 });
    let made = server.call(Role::Operator, "PUT", QUEUE, limits).await;
    assert_eq!(made.is(200).body["maxConcurrent"], 2);
    let change = json!({ "ratePerMinute": null });
    let changed = server.call(Role::Operator, "PUT", QUEUE, change).await;
    assert_eq!(changed.is(200).body["ratePerMinute"], Value::Null);
    assert_eq!(changed.body["maxConcurrent"], 2, "what is left out stays");
    let paused = server.post(&format!("{QUEUE}/pause"), json!({ "reason": "month end" })).await;
    assert_eq!(paused.is(200).body["pauseReason"], "month end");
    assert_eq!(paused.body["pausedBy"], "operator key");
    let waits = server.post(RUNS, run(&json!({ "queue": "reports" }))).await;
    assert_eq!(waits.is(202).body["status"], "pending");
    assert_eq!(server.get(QUEUE).await.body["waiting"], 1);
    let listed = server.get("/api/v2/queues?limit=1").await;
    assert_eq!(listed.is(200).body["items"][0]["name"], "reports");
    server.call(Role::Operator, "DELETE", QUEUE, json!({})).await.refuses(409, "queue_not_empty");
    server.post(&format!("{RUNS}/{}/cancel", waits.id()), json!({})).await.is(200);
    server.call(Role::Operator, "DELETE", QUEUE, json!({})).await.is(204);
    server.call(Role::Viewer, "PUT", QUEUE, json!({})).await.refuses(403, "forbidden");
    server.stop().await;
}

#[actix_rt::test]
async fn limits_are_read_back_and_every_fault_is_named() {
    let server = TestServer::start().await;
    let wanted = json!({
        "queue": "reports", "concurrencyKey": "tenant-7", "concurrencyLimit": 3,
        "rateLimit": { "count": 5, "perMs": 1000 }, "order": -7, "slaMs": 60000,
        "resources": { "cpu": 0.5, "memoryMb": 128 },
    });
    let made = server.post(RUNS, run(&wanted)).await;
    let read = server.get(&format!("{RUNS}/{}", made.is(202).id())).await;
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(&read.body[name], value, "{name}");
    }
    let wrong = json!({
        "queue": " ", "concurrencyLimit": 0, "rateLimit": { "count": 0, "perMinute": 1 },
        "order": 101, "resources": { "cpu": "much" },
    });
    let refused = server.post(RUNS, run(&wrong)).await;
    let faults = refused.is(422).body["errors"].as_array().unwrap();
    let fields: Vec<&str> = faults.iter().map(|fault| fault["field"].as_str().unwrap()).collect();
    for field in [
        "queue",
        "concurrencyLimit",
        "rateLimit.count",
        "rateLimit.perMinute",
        "rateLimit.perMs",
        "order",
        "resources.cpu",
    ] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    server.stop().await;
}

#[actix_rt::test]
async fn what_waits_is_given_another_urgency() {
    let server = TestServer::start().await;
    let made = server.post(RUNS, run(&json!({}))).await;
    let path = format!("/api/v2/executions/{}/priority", made.is(202).id());
    let moved = server.post(&path, json!({ "priority": "high", "order": 5 })).await;
    assert_eq!(
        (&moved.is(200).body["priority"], &moved.body["order"]),
        (&json!("high"), &json!(5))
    );
    server.call(Role::Operator, "PUT", &path, json!({})).await.refuses(422, "validation_failed");
    server.post(&format!("{RUNS}/{}/cancel", made.id()), json!({})).await.is(200);
    server.post(&path, json!({ "priority": "low" })).await.refuses(409, "not_waiting");
    server.stop().await;
}

#[actix_rt::test]
async fn a_schedule_without_runs_is_told_that_nothing_is_known() {
    let server = TestServer::start().await;
    let schedule = json!({
        "name": "nightly", "taskType": "function", "slaMs": 1000,
        "taskConfig": { "name": "health:check", "payload": {} },
        "scheduleType": "interval", "scheduleConfig": { "intervalMs": 60000 },
        "resources": { "cpu": 1.0 },
    });
    let made = server.post("/api/scheduler/schedules", schedule).await;
    let path = format!("/api/v2/schedules/{}/recommendations", made.is(201).id());
    let advice = server.get(&path).await;
    assert_eq!(advice.is(200).body["resources"]["memoryMb"], Value::Null);
    assert_eq!(advice.body["current"]["resources"]["cpu"], 1.0);
    assert!(advice.body["note"].is_string());
    assert_eq!(server.get("/api/v2/resources").await.is(200).body["reserved"]["executions"], 0);
    server.stop().await;
}
