//! Schedules over HTTP: made, edited, run, paused, deleted, previewed.

use carillon::domain::key::Role;
use carillon::runtime::handles::Wake;
use serde_json::{Value, json};

use super::server::TestServer;

const PATH: &str = "/api/v1/scheduler/schedules";

fn body(name: &str) -> Value {
    json!({
        "name": name,
        "taskType": "function",
        "taskConfig": { "name": "health:check", "payload": {} },
        "scheduleType": "cron",
        "scheduleConfig": { "cron": "0 2 * * *" },
    })
}

fn shell(name: &str) -> Value {
    let mut body = body(name);
    body["taskType"] = "shell_command".into();
    body["taskConfig"] = json!({ "command": "true" });
    body
}

#[actix_rt::test]
async fn a_schedule_is_made_read_listed_and_deleted() {
    let server = TestServer::start().await;
    let made = server.post(PATH, body("nightly")).await;
    assert_eq!(made.is(201).header("etag"), "\"1\"");
    assert_eq!(made.header("location"), format!("{PATH}/{}", made.id()));
    assert!(made.body["nextRunAt"].as_str().unwrap().ends_with("T02:00:00.000Z"));
    assert_eq!(made.body["retryPolicy"]["maxAttempts"], 4);
    assert!(server.system.wakes.lock().contains(&Wake::Scheduler));
    let path = format!("/api/scheduler/schedules/{}", made.id());
    let read = server.get(&path).await;
    assert_eq!(read.is(200).body["name"], "nightly");
    assert_eq!(read.body["stats"]["total"], 0);
    server.post(PATH, body("nightly")).await.refuses(409, "duplicate");
    let listed =
        server.get("/api/scheduler/schedules?q=NIGHT&enabled=true&taskType=function").await;
    assert_eq!(listed.is(200).body["total"], 1);
    assert_eq!(server.get(&format!("{PATH}?tag=none")).await.body["total"], 0);
    server.call(Role::Operator, "DELETE", &path, Value::Null).await.is(204);
    server.get(&path).await.refuses(404, "not_found");
    server.get("/api/scheduler/schedules/x").await.refuses(404, "not_found");
    server.post(PATH, body("nightly")).await.is(201);
    server.stop().await;
}

#[actix_rt::test]
async fn every_fault_is_named_at_once_and_nothing_is_stored() {
    let server = TestServer::start().await;
    let mut bad = body("x");
    bad["taskConfig"] = json!({ "nmae": "x" });
    bad["scheduleConfig"] = json!({ "cron": "61 * * * *" });
    bad["priority"] = "urgent".into();
    let reply = server.post(PATH, bad).await;
    let errors = reply.refuses(422, "validation_failed").body["errors"].as_array().unwrap().clone();
    for field in ["taskConfig.nmae", "scheduleConfig.cron", "priority"] {
        assert!(errors.iter().any(|fault| fault["field"] == field), "{field} in {errors:?}");
    }
    let mut planned = body("x");
    planned["taskType"] = "workflow".into();
    let reply = server.post(PATH, planned).await;
    assert_eq!(reply.refuses(422, "not_supported_yet").body["errors"][0]["field"], "taskType");
    assert_eq!(server.get(PATH).await.body["total"], 0);
    server.stop().await;
}

#[actix_rt::test]
async fn an_edit_changes_what_it_names_and_no_newer_version() {
    let server = TestServer::start().await;
    let made = server.post(PATH, body("nightly")).await;
    let path = format!("{PATH}/{}", made.id());
    let next = made.body["nextRunAt"].clone();
    let put = async |patch: Value, version: Option<&str>| {
        let request = server.request("PUT", &path).bearer_auth(server.key(Role::Operator));
        let request = match version {
            Some(version) => request.insert_header(("If-Match", version)),
            None => request,
        };
        server.send(request, &patch).await
    };
    let edited = put(json!({ "priority": "high" }), Some("\"1\"")).await;
    assert_eq!(edited.is(200).header("etag"), "\"2\"");
    assert_eq!(edited.body["nextRunAt"], next);
    put(json!({ "priority": "low" }), Some("\"1\"")).await.refuses(409, "version_conflict");
    let moved = put(json!({ "scheduleConfig": { "cron": "30 3 * * *" } }), None).await;
    assert!(moved.is(200).body["nextRunAt"].as_str().unwrap().ends_with("T03:30:00.000Z"));
    assert_eq!(moved.body["priority"], "high");
    put(json!({ "priorty": "low" }), None).await.refuses(422, "validation_failed");
    put(json!({ "version": 3 }), None).await.refuses(422, "validation_failed");
    server.stop().await;
}

#[actix_rt::test]
async fn an_idempotency_key_gives_the_first_answer_again() {
    let server = TestServer::start().await;
    let send = async |role: Role, body: Value| {
        let request = server.request("POST", PATH).bearer_auth(server.key(role));
        server.send(request.insert_header(("Idempotency-Key", "k1")), &body).await
    };
    let first = send(Role::Operator, body("a")).await;
    let again = send(Role::Operator, body("a")).await;
    assert_eq!((again.is(201).id(), again.header("idempotency-replayed")), (first.id(), "true"));
    send(Role::Operator, body("b")).await.refuses(422, "idempotency_key_reused");
    send(Role::Admin, body("b")).await.is(201);
    server.stop().await;
}

#[actix_rt::test]
async fn what_a_shell_runs_is_for_admins_and_running_it_unchanged_for_operators() {
    let server = TestServer::start().await;
    server.post(PATH, shell("backup")).await.refuses(403, "shell_needs_admin");
    let made = server.call(Role::Admin, "POST", PATH, shell("backup")).await;
    let path = format!("{PATH}/{}", made.is(201).id());
    let put = async |patch: Value| server.call(Role::Operator, "PUT", &path, patch).await;
    put(json!({ "taskConfig": { "command": "false" } })).await.refuses(403, "shell_needs_admin");
    put(json!({ "taskConfig": { "command": "true" }, "owner": "ops" })).await.is(200);
    let trigger = format!("{path}/trigger");
    let other = json!({ "taskConfig": { "command": "false" } });
    server.post(&trigger, other).await.refuses(403, "shell_needs_admin");
    server.post(&trigger, Value::Null).await.is(202);
    let plain = server.post(PATH, body("plain")).await;
    let to_shell = json!({ "taskType": "shell_command", "taskConfig": { "command": "id" } });
    let path = format!("{PATH}/{}", plain.id());
    let reply = server.call(Role::Operator, "PUT", &path, to_shell.clone()).await;
    reply.refuses(403, "shell_needs_admin");
    let ad_hoc = server.post("/api/execution/executions", to_shell).await;
    ad_hoc.refuses(403, "shell_needs_admin");
    server.stop().await;
}

#[actix_rt::test]
async fn a_run_now_obeys_the_limit_unless_forced_and_works_while_paused() {
    let server = TestServer::start().await;
    let made = server.post(PATH, body("nightly")).await;
    let path = format!("{PATH}/{}", made.id());
    let paused = server.post(&format!("{path}/pause"), Value::Null).await;
    assert_eq!(paused.is(200).body["enabled"], false);
    let trigger = format!("{path}/trigger");
    let first = server.post(&trigger, Value::Null).await;
    assert!(first.is(202).body["executionId"].is_string());
    server.post(&trigger, json!({})).await.refuses(409, "already_running");
    server.post(&trigger, json!({ "force": true })).await.is(202);
    server.post(&trigger, json!({ "forse": true })).await.refuses(422, "validation_failed");
    let execution = server.get(&format!("/api/execution/executions/{}", first.id())).await;
    assert_eq!(execution.body["trigger"], "manual");
    assert_eq!(execution.body["scheduleName"], "nightly");
    assert_eq!(execution.body["traceId"].as_str().unwrap().len(), 32);
    let resumed = server.post(&format!("{path}/resume"), Value::Null).await;
    assert_eq!(resumed.is(200).body["nextRunAt"], made.body["nextRunAt"]);
    server.stop().await;
}

#[actix_rt::test]
async fn a_preview_tells_and_saves_nothing() {
    let server = TestServer::start().await;
    let path = format!("{PATH}/preview");
    let ask = json!({
        "scheduleType": "cron", "scheduleConfig": { "cron": "0 2 * * *" },
        "from": "2026-11-21T02:00:00Z", "count": 2,
    });
    let reply = server.call(Role::Viewer, "POST", &path, ask.clone()).await;
    let runs = json!(["2026-11-22T02:00:00.000Z", "2026-11-23T02:00:00.000Z"]);
    assert_eq!(reply.is(200).body["nextRuns"], runs);
    assert!(reply.body["description"].as_str().unwrap().contains("02:00"));
    let mut many = ask;
    many["count"] = 101.into();
    let reply = server.call(Role::Viewer, "POST", &path, many).await;
    assert_eq!(reply.refuses(422, "validation_failed").body["errors"][0]["field"], "count");
    assert_eq!(server.get(PATH).await.body["total"], 0);
    server.stop().await;
}

#[actix_rt::test]
async fn the_scheduler_is_switched_for_the_whole_cluster() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/api/scheduler/status").await.is(200).body["running"], true);
    let stopped = server.post("/api/scheduler/stop", Value::Null).await;
    assert_eq!(stopped.is(200).body["running"], false);
    let stored = server.store.state_get("scheduler".to_owned()).await.unwrap().unwrap();
    assert_eq!(stored["running"], false);
    assert!(stored["stoppedAt"].is_string(), "the ledger tells instants missed by the stop");
    assert_eq!(server.post("/api/scheduler/start", Value::Null).await.body["running"], true);
    let made = server.post(PATH, body("nightly")).await;
    let status = server.get("/api/scheduler/status").await;
    assert_eq!(status.body["schedules"], json!({ "enabled": 1, "paused": 0 }));
    assert_eq!(status.body["next"]["scheduleId"], made.id());
    let jobs = server.get("/api/scheduler/jobs").await;
    assert_eq!(jobs.body["items"][0]["nextRuns"].as_array().unwrap().len(), 5);
    let job = server.get(&format!("/api/scheduler/jobs/{}", made.id())).await;
    assert_eq!(job.is(200).body["nextRuns"][0], made.body["nextRunAt"]);
    server.stop().await;
}

#[actix_rt::test]
async fn a_ledger_answers_why_it_did_not_run() {
    let server = TestServer::start().await;
    let body = json!({
        "name": "hourly", "taskType": "function", "taskConfig": {"name": "noop"},
        "scheduleType": "interval", "scheduleConfig": {"intervalMs": 3_600_000},
    });
    let made = server.post("/api/scheduler/schedules", body).await;
    let path = format!("/api/v1/scheduler/schedules/{}/ledger", made.id());
    let empty = server.get(&path).await;
    let body = &empty.is(200).body;
    assert_eq!(
        (&body["total"], &body["items"], &body["open"]),
        (&json!(0), &json!([]), &Value::Null)
    );
    let schedule = server.store.schedule_get(made.id()).await.unwrap();
    let at = |text: &str| text.parse::<carillon::clock::Timestamp>().unwrap();
    let missed = carillon::domain::schedule::LedgerRange {
        from: at("2026-01-01T00:00:00Z"),
        to: at("2026-01-01T05:00:00Z"),
        count: 6,
        reason: carillon::domain::schedule::LedgerReason::Paused,
    };
    let change = carillon::store::ScheduleChange {
        settled_at: None,
        id: schedule.id,
        expected_version: schedule.version,
        expected_next: None,
        definition: schedule.definition,
        next_run_at: None,
        ledger: vec![missed],
    };
    server.store.schedule_update(change).await.unwrap();
    let path_with = |query: &str| format!("{path}?{query}");
    let span = path_with("from=2026-01-01T05:00:00Z&to=2026-01-02T00:00:00Z");
    let found = server.get(&span).await;
    let item = &found.is(200).body["items"][0];
    assert_eq!(
        (&item["outcome"], &item["reason"], &item["count"]),
        (&json!("missed"), &json!("paused"), &json!(6))
    );
    assert!(item["explanation"].as_str().unwrap().contains("paused"), "{item}");
    for wrong in [
        "from=noon",
        "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z",
        "limit=501",
        "offset=10001",
        "form=1",
    ] {
        server.get(&path_with(wrong)).await.is(422);
    }
    server.get("/api/scheduler/schedules/999/ledger").await.is(404);
    let gone = format!("/api/scheduler/schedules/{}", made.id());
    server.call(Role::Operator, "DELETE", &gone, Value::Null).await.is(204);
    server.get(&span).await.is(200);
    server.stop().await;
}
