//! Executions over HTTP: ad-hoc, both forms of the id, cancel, run again, output.

use carillon::clock::Clock;
use carillon::runtime::handles::Wake;
use carillon::store::{Dropped, LogRow};
use serde_json::{Value, json};

use super::server::TestServer;

const PATH: &str = "/api/v1/execution/executions";

fn body() -> Value {
    json!({ "taskType": "function", "taskConfig": { "name": "health:check", "payload": {} } })
}

#[actix_rt::test]
async fn an_ad_hoc_run_is_accepted_and_found_by_both_ids() {
    let server = TestServer::start().await;
    let made = server.post(PATH, body()).await;
    assert_eq!(made.is(202).body["status"], "pending");
    assert!(server.system.wakes.lock().contains(&Wake::Executor));
    let uuid = made.body["executionId"].as_str().unwrap();
    for id in [made.id().to_string(), uuid.to_owned()] {
        let read = server.get(&format!("/api/execution/executions/{id}")).await;
        assert_eq!(read.is(200).id(), made.id());
        assert_eq!(read.body["trigger"], "api");
        assert_eq!(read.body["createdBy"], "operator key");
        assert_eq!(read.body["attempts"].as_array().unwrap().len(), 1);
        let brief = server.get(&format!("/api/tasks/{id}")).await;
        assert_eq!(brief.is(200).body["status"], "pending");
    }
    for id in ["0", "-1", "x", "1e3", "00000000-0000-0000-0000-000000000000"] {
        server.get(&format!("{PATH}/{id}")).await.refuses(404, "not_found");
    }
    server.stop().await;
}

#[actix_rt::test]
async fn a_dedup_key_finds_what_still_waits() {
    let server = TestServer::start().await;
    let mut keyed = body();
    keyed["dedupKey"] = "one".into();
    let first = server.post(PATH, keyed.clone()).await;
    let second = server.post(PATH, keyed).await;
    assert_eq!((second.is(202).id(), &second.body["deduplicated"]), (first.id(), &json!(true)));
    server.stop().await;
}

#[actix_rt::test]
async fn a_replayed_key_makes_no_second_run() {
    let server = TestServer::start().await;
    let send = async |path: &str| {
        let request = server.request("POST", path);
        let key = server.key(carillon::domain::key::Role::Operator);
        let request = request.bearer_auth(key).insert_header(("Idempotency-Key", "k"));
        server.send(request, &body()).await
    };
    let first = send(PATH).await;
    let again = send("/api/execution/executions").await;
    assert_eq!(again.is(202).body, first.body);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(server.get(PATH).await.body["total"], 1);
    server.stop().await;
}

#[actix_rt::test]
async fn what_waits_is_cancelled_at_once_and_what_ended_may_run_again() {
    let server = TestServer::start().await;
    let mut later = body();
    later["runAt"] = "2126-01-01T00:00:00Z".into();
    let made = server.post(PATH, later).await;
    assert_eq!(made.is(202).body["scheduledAt"], "2126-01-01T00:00:00.000Z");
    let path = format!("{PATH}/{}", made.id());
    server.post(&format!("{path}/retry"), Value::Null).await.refuses(409, "not_finished");
    let cancelled = server.post(&format!("{path}/cancel"), Value::Null).await;
    assert_eq!(cancelled.is(200).body["status"], "cancelled");
    server.post(&format!("{path}/cancel"), json!({})).await.refuses(409, "already_finished");
    let again = server.post(&format!("{path}/retry"), Value::Null).await;
    let read = server.get(&format!("{PATH}/{}", again.is(202).id())).await;
    assert_eq!(read.body["retryOf"], made.id());
    assert_ne!(read.body["chainId"], made.body["chainId"]);
    let listed = server.get(&format!("{PATH}?status=cancelled")).await;
    assert_eq!(listed.body["total"], 1);
    server.stop().await;
}

#[actix_rt::test]
async fn output_is_read_in_pages_until_it_is_done() {
    let server = TestServer::start().await;
    let made = server.post(PATH, body()).await;
    let path = format!("{PATH}/{}", made.id());
    server.post(&format!("{path}/cancel"), Value::Null).await.is(200);
    let row = |line: i64, stream, text: &str| {
        LogRow::new((made.id(), line), Clock::system().now(), stream, text)
    };
    let mut gap = row(4, "stdout", "");
    gap.dropped = Some(Dropped { lines: 7, bytes: 12_400_000 });
    let rows = vec![
        row(1, "stdout", "line 1"),
        row(2, "stdout", "line 2"),
        row(3, "stderr", "Line 3"),
        gap,
    ];
    server.store.log_append(rows).await.unwrap();
    let first = server.get(&format!("{path}/logs?limit=2")).await;
    assert_eq!(first.is(200).body["items"][1]["text"], "line 2");
    assert_eq!((&first.body["nextAfter"], &first.body["done"]), (&json!(2), &json!(false)));
    let rest = server.get(&format!("{path}/logs?after=2&limit=2")).await;
    assert_eq!((&rest.body["nextAfter"], &rest.body["done"]), (&json!(4), &json!(false)));
    let gap = &rest.body["items"][1];
    assert_eq!(gap["dropped"], json!({"lines": 7, "bytes": 12_400_000}));
    assert_eq!(gap["text"], "12.4 MB (7 lines) not kept");
    assert!(rest.body["items"][0]["dropped"].is_null(), "a task's own line states no gap");
    let rest = server.get(&format!("{path}/logs?after=4&limit=2")).await;
    assert_eq!((&rest.body["nextAfter"], &rest.body["done"]), (&json!(4), &json!(true)));
    let lines = async |query: &str| -> Vec<i64> {
        let found = server.get(&format!("{path}/logs?{query}")).await;
        let items = found.is(200).body["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["line"].as_i64().unwrap()).collect()
    };
    assert_eq!(lines("q=LINE%203").await, [3, 4], "a gap may hide a match");
    assert_eq!(lines("stream=stderr").await, [3]);
    assert_eq!(lines("stream=stdout&q=2").await, [2, 4]);
    server.get(&format!("{path}/logs?stream=stdin")).await.is(422);
    server.stop().await;
}
