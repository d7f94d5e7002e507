//! What people do to running servers: pause a tree of processes, resume it, look at what needs
//! them.

use std::time::Duration;

use serde_json::{Value, json};

use super::on_both_stores;
use super::processes::{alive, marker};
use super::server::{Backend, Server};

on_both_stores! {
    a_paused_tree_stands_still_goes_on_and_dies_with_its_server,
    what_needs_a_person_is_said_and_cured,
    a_waiting_run_is_skipped_and_a_failed_one_is_retried_with_another_command,
}

fn run(server: &Server, command: &str) -> Value {
    let body = json!({
        "taskType": "shell_command", "taskConfig": {"command": command},
        "retryPolicy": {"maxAttempts": 1},
    });
    server.post("/api/execution/executions", &body)["id"].clone()
}

fn length(server: &Server, name: &str) -> u64 {
    std::fs::metadata(server.path(name)).map_or(0, |file| file.len())
}

/// Waits until the file has not grown for a second.
fn until_still(server: &mut Server, name: &str) {
    server.until("the tree stands still", |server| {
        let before = length(server, name);
        super::pause(Duration::from_secs(1));
        length(server, name) == before
    });
}

fn a_paused_tree_stands_still_goes_on_and_dies_with_its_server(backend: Backend) {
    let mut server = Server::new(backend).with("CARILLON_EXECUTOR__LEASE_MS", "3000").started();
    let (file, mark) = (server.path("lines").display().to_string(), marker());
    let command =
        format!("(while :; do sh -c 'echo a >> {file}'; sleep 0.02; done) & (sleep {mark}) & wait");
    let id = run(&server, &command);
    server.until("the tree runs", |server| length(server, "lines") > 10);
    let path = format!("/api/v2/executions/{id}");
    let paused = server.post(&format!("{path}/pause"), &json!({"reason": "the disk is slow"}));
    assert_eq!(paused["isPaused"], true, "{paused}");
    until_still(&mut server, "lines");
    // Longer than the lease: it is prolonged all the same.
    super::pause(Duration::from_secs(4));
    assert_eq!(server.get(&path)["status"], "running");
    assert_eq!(server.get(&path)["isPaused"], true);
    let kinds: Vec<Value> = attention(&server).iter().map(|item| item["kind"].clone()).collect();
    assert!(kinds.contains(&json!("execution_paused")), "{kinds:?}");
    let still = length(&server, "lines");
    server.post(&format!("{path}/resume"), &json!({}));
    server.until("the tree goes on", |server| length(server, "lines") > still + 10);
    server.post(&format!("{path}/pause"), &json!({}));
    until_still(&mut server, "lines");
    server.kill();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while alive(&mark) > 0 {
        assert!(tokio::time::Instant::now() < deadline, "a paused tree outlived its server");
        super::pause(Duration::from_millis(50));
    }
    server.start();
    let ended = server.ended(&id);
    assert_eq!((&ended["status"], &ended["isPaused"]), (&json!("failed"), &json!(false)));
}

fn attention(server: &Server) -> Vec<Value> {
    server.get("/api/v2/attention")["items"].as_array().unwrap().clone()
}

fn what_needs_a_person_is_said_and_cured(backend: Backend) {
    let mut server = Server::new(backend).started();
    assert_eq!(attention(&server), [] as [Value; 0]);
    let id = run(&server, "exit 3");
    server.ended(&id);
    let items = attention(&server);
    let [item] = items.as_slice() else { panic!("{items:?}") };
    assert_eq!((&item["kind"], &item["severity"]), (&json!("error"), &json!("high")));
    let outcome = json!({"reason": "done by hand", "result": {"rows": 7}});
    let marked = server.post(&format!("/api/v2/executions/{id}/succeed"), &outcome);
    assert_eq!(marked["status"], "failed");
    assert_eq!(marked["outcomeOverride"]["outcome"], "succeeded");
    assert_eq!(attention(&server), [] as [Value; 0]);
    // The first action of an item is a request that can be sent as it stands.
    server.post("/api/scheduler/stop", &json!({"reason": "maintenance"}));
    let items = attention(&server);
    let [item] = items.as_slice() else { panic!("{items:?}") };
    assert_eq!(item["kind"], "scheduler_stopped");
    server.post(item["actions"][0]["path"].as_str().unwrap(), &json!({}));
    assert_eq!(attention(&server), [] as [Value; 0]);
    let rows = server.get("/api/v2/audit");
    let done: Vec<(&str, Option<&str>)> = rows["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["action"].as_str().unwrap(), row["reason"].as_str()))
        .collect();
    assert_eq!(
        done,
        [
            ("scheduler.start", None),
            ("scheduler.stop", Some("maintenance")),
            ("execution.succeed", Some("done by hand")),
        ]
    );
}

fn a_waiting_run_is_skipped_and_a_failed_one_is_retried_with_another_command(backend: Backend) {
    let mut server = Server::new(backend).started();
    let later = json!({
        "taskType": "shell_command", "taskConfig": {"command": "true"},
        "runAt": "2999-01-01T00:00:00Z",
    });
    let waiting = server.post("/api/execution/executions", &later)["id"].clone();
    let path = format!("/api/v2/executions/{waiting}");
    let skipped = server.post(&format!("{path}/skip"), &json!({"reason": "not this year"}));
    assert_eq!(skipped["status"], "skipped", "{skipped}");
    assert_eq!(server.call("POST", &format!("{path}/pause"), &Value::Null).0, 409);
    let failed = run(&server, "exit 3");
    server.ended(&failed);
    let items = attention(&server);
    let [item] = items.as_slice() else { panic!("{items:?}") };
    let cure = item["actions"][0]["path"].as_str().unwrap();
    let edited = json!({"taskConfig": {"command": "echo mended"}, "reason": "a wrong flag"});
    server.post(cure, &edited);
    let newest = |server: &Server| server.get("/api/v2/errors?limit=1")["items"][0].clone();
    server.until("the chain is whole", |server| newest(server)["recoveryStatus"] == "resolved");
    let record = newest(&server);
    assert_eq!(attention(&server), [] as [Value; 0]);
    let rows = server.get("/api/v2/audit?action=error.retry");
    assert_eq!(rows["items"][0]["reason"], "a wrong flag", "{rows}");
    assert_eq!(rows["items"][0]["subject"]["id"], record["id"].to_string());
}
