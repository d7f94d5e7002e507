//! `Idempotency-Key` over HTTP: on every route that creates, at most once.

use carillon::domain::key::Role;
use serde_json::{Value, json};

use super::failures::fail_one;
use super::server::{Reply, TestServer};

fn check() -> Value {
    json!({ "taskType": "function", "taskConfig": { "name": "health:check", "payload": {} } })
}

fn is_replay(first: &Reply, again: &Reply) {
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(first.header("idempotency-replayed"), "");
    for name in ["location", "etag"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
}

/// The same twice is one; with another body it is refused.
async fn happens_once(server: &TestServer, path: &str, body: Value, other: Value) -> Reply {
    let first = server.post_once("key", path, body.clone()).await;
    assert!(first.status < 300, "{path}: {first:?}");
    is_replay(&first, &server.post_once("key", path, body).await);
    server.post_once("key", path, other).await.refuses(422, "idempotency_key_reused");
    first
}

#[actix_rt::test]
async fn every_route_that_creates_takes_a_key() {
    let server = TestServer::start().await;
    let (executions, empty) = ("/api/v1/execution/executions", Value::Null);
    let note = json!({ "taskConfig": { "name": "health:check", "payload": { "a": 1 } } });

    let mut schedule = check();
    schedule["name"] = "a".into();
    schedule["scheduleType"] = "interval".into();
    schedule["scheduleConfig"] = json!({ "intervalMs": 60_000 });
    let mut other = schedule.clone();
    other["name"] = "b".into();
    let made = happens_once(&server, "/api/v1/scheduler/schedules", schedule, other).await;
    let path = format!("/api/v1/scheduler/schedules/{}", made.id());
    happens_once(&server, &format!("{path}/trigger"), empty.clone(), note.clone()).await;
    let mut other = check();
    other["priority"] = "high".into();
    let run = happens_once(&server, executions, check(), other).await;
    assert_eq!(server.get(executions).await.body["total"], 2);
    let run = format!("{executions}/{}", run.id());
    server.post(&format!("{run}/cancel"), empty.clone()).await.is(200);
    happens_once(&server, &format!("{run}/retry"), empty.clone(), note).await;
    assert_eq!(server.get(executions).await.body["total"], 3);
    let event = |n: i64| json!({ "name": "orders.created", "payload": n });
    happens_once(&server, "/api/v2/events", event(1), event(2)).await;
    assert_eq!(server.get("/api/v2/events").await.body["items"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[actix_rt::test]
async fn an_error_is_retried_and_a_letter_resubmitted_once() {
    let note = json!({ "taskConfig": { "name": "health:check", "payload": { "a": 1 } } });
    for (list, verb) in [("/api/errors/errors", "retry"), ("/api/dlq", "resubmit")] {
        let server = TestServer::start().await;
        fail_one(&server).await;
        let id = server.get(list).await.body["items"][0]["id"].clone();
        let path = format!("{list}/{id}/{verb}");
        happens_once(&server, &path, Value::Null, note.clone()).await;
        server.post(&path, Value::Null).await.refuses(409, "wrong_state");
        assert_eq!(server.get("/api/execution/executions").await.body["total"], 2, "{verb}");
        server.stop().await;
    }
}

#[actix_rt::test]
async fn an_answer_is_replayed_when_what_it_made_is_gone() {
    let server = TestServer::start().await;
    let mut schedule = check();
    schedule["name"] = "a".into();
    schedule["scheduleType"] = "interval".into();
    schedule["scheduleConfig"] = json!({ "intervalMs": 60_000 });
    let made = server.post("/api/scheduler/schedules", schedule).await;
    let path = format!("/api/scheduler/schedules/{}", made.is(201).id());
    let trigger = format!("{path}/trigger");
    let first = server.post_once("k", &trigger, Value::Null).await;
    server.call(Role::Operator, "DELETE", &path, Value::Null).await.is(204);
    is_replay(&first, &server.post_once("k", &trigger, Value::Null).await);
    server.post_once("l", &trigger, Value::Null).await.refuses(404, "not_found");
    server.stop().await;
}

#[actix_rt::test]
async fn of_requests_at_the_same_time_one_is_carried_out() {
    let server = TestServer::start().await;
    let path = "/api/execution/executions";
    for round in 0..5 {
        let key = format!("k{round}");
        let calls = (0..12).map(|_| server.post_once(&key, path, check()));
        let (mut first, mut again) = (0, 0);
        for reply in futures_util::future::join_all(calls).await {
            match (reply.status, reply.header("idempotency-replayed")) {
                (202, "") => first += 1,
                (202, "true") => again += 1,
                _ => drop(reply.refuses(409, "idempotency_in_progress")),
            }
        }
        assert_eq!(first, 1, "and {again} replays");
        assert_eq!(server.get(path).await.body["total"], round + 1);
    }
    server.stop().await;
}

#[actix_rt::test]
async fn a_refused_request_leaves_its_key_free() {
    let server = TestServer::start().await;
    let path = "/api/execution/executions";
    let bad = json!({ "taskType": "function" });
    server.post_once("k", path, bad).await.refuses(422, "validation_failed");
    server.post_once("k", path, check()).await.is(202);
    for key in ["", "caf\u{e9}", &"x".repeat(256)] {
        let reply = server.post_once(key, path, check()).await;
        assert_eq!(reply.is(422).body["errors"][0]["field"], "Idempotency-Key", "{key}");
    }
    server.stop().await;
}

#[actix_rt::test]
async fn a_key_that_is_shown_once_is_not_kept_for_a_replay() {
    let server = TestServer::start().await;
    let request = server.request("POST", "/api/admin/keys").bearer_auth(server.key(Role::Admin));
    let body = json!({ "name": "robot", "role": "viewer" });
    let reply = server.send(request.insert_header(("Idempotency-Key", "k")), &body).await;
    reply.refuses(422, "not_supported_yet");
    assert!(reply.text.contains("revoke"), "it names the cure: {reply:?}");
    server.stop().await;
}
