//! What lies ahead, over HTTP.

use serde_json::{Value, json};

use super::server::TestServer;

const SCHEDULES: &str = "/api/v1/scheduler/schedules";

async fn make(server: &TestServer, name: &str, cron: &str) {
    let body = json!({
        "name": name, "taskType": "function", "taskConfig": { "name": "noop", "payload": {} },
        "scheduleType": "cron", "scheduleConfig": { "cron": cron },
    });
    server.post(SCHEDULES, body).await.is(201);
}

#[actix_rt::test]
async fn starts_ahead_are_counted_and_collisions_named() {
    let server = TestServer::with(|settings| settings.executor.slots = 2).await;
    for name in ["a", "b", "c"] {
        make(&server, name, "0 3 * * *").await;
    }
    make(&server, "quiet", "30 4 * * *").await;
    let found = server.get("/api/v2/forecast?bucketMs=3600000").await;
    let body = &found.is(200).body;
    assert_eq!((&body["starts"], &body["slots"]), (&json!(4), &json!(2)));
    assert_eq!(body["peakConcurrency"], 3);
    assert_eq!(body["unknownDurations"], 4);
    assert_eq!(body["isCut"], false);
    let buckets = body["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), 24);
    assert_eq!(buckets.iter().filter_map(|one| one["starts"].as_u64()).sum::<u64>(), 4);
    let collisions = body["collisions"].as_array().unwrap();
    assert_eq!(collisions.len(), 1);
    assert!(collisions[0]["at"].as_str().unwrap().ends_with("T03:00:00.000Z"));
    let names: Vec<&Value> =
        collisions[0]["schedules"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names.len(), 3);
    assert!(!names.contains(&&json!("quiet")));
    server.stop().await;
}

#[actix_rt::test]
async fn a_span_that_cannot_be_looked_at_is_refused() {
    let server = TestServer::start().await;
    for query in ["to=2020-01-01T00:00:00Z", "to=2999-01-01T00:00:00Z", "bucketMs=1", "form=x"] {
        let reply = server.get(&format!("/api/v2/forecast?{query}")).await;
        assert_eq!(reply.status, 422, "{query}: {}", reply.body);
    }
    server.stop().await;
}

#[actix_rt::test]
async fn a_dry_spread_tells_which_schedules_collide_and_changes_none() {
    let server = TestServer::with(|settings| settings.executor.slots = 1).await;
    make(&server, "a", "0 3 * * *").await;
    make(&server, "b", "0 3 * * *").await;
    make(&server, "c", "0 5 * * *").await;
    let body = json!({ "withinMs": 30_000, "dryRun": true });
    let told = server.post("/api/v2/forecast/spread", body).await;
    let changed = told.is(200).body["changed"].as_array().unwrap();
    let names: Vec<_> = changed.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2);
    assert!(!names.contains(&"c"));
    let listed = server.get(SCHEDULES).await;
    let versions = listed.body["items"].as_array().unwrap().iter().map(|one| &one["version"]);
    assert!(versions.into_iter().all(|version| *version == 1));
    server.stop().await;
}
