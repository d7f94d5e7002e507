//! Every actor can be panicked, hung and stopped, and the server goes on.

use serde_json::{Value, json};

use super::history::{Outside, Ticker, settled};
use super::on_both_stores;
use super::server::{Backend, Server};
use crate::support::checker::expect_sound;

on_both_stores! {
    every_actor_comes_back_from_every_fault,
    a_panic_at_any_message_of_any_actor_loses_nothing,
    a_stopped_executor_claims_nothing_until_it_is_started,
    a_crash_of_the_executor_ends_no_task,
}

fn leaves(node: &Value, found: &mut Vec<String>) {
    let children = node["children"].as_array().unwrap();
    if children.is_empty() {
        found.push(node["path"].as_str().unwrap().to_owned());
    }
    for child in children {
        leaves(child, found);
    }
}

fn every_actor_comes_back_from_every_fault(backend: Backend) {
    let mut server = Server::new(backend).started();
    let mut paths = Vec::new();
    leaves(&server.get("/api/admin/actors"), &mut paths);
    assert!(paths.len() >= 8, "{paths:?}");
    for path in &paths {
        for mode in ["panic", "stop", "hang"] {
            let node = format!("/api/admin/actors/{path}");
            let before = server.get(&node)["restarts"].as_u64().unwrap();
            server.post(&format!("{node}/crash"), &json!({"mode": mode}));
            server.until(&format!("{path} is back after {mode}"), |server| {
                let now = server.get(&node);
                now["state"] == "running" && now["restarts"].as_u64().unwrap() > before
            });
            let run = server.post(
                "/api/execution/executions",
                &json!({"taskType": "function", "taskConfig": {"name": "noop", "payload": {}}}),
            );
            assert_eq!(server.ended(&run["id"])["status"], "completed", "after {path} {mode}");
        }
    }
}

/// What makes the server send that message to that actor; a new one needs its line here.
fn provoke(server: &Server, path: &str, message: &str, ticker: &Ticker) {
    match (path, message) {
        ("time.scheduler", "Wake") => {
            server.post("/api/scheduler/start", &Value::Null);
        }
        ("work.executor", "Wake") => {
            server.post(&format!("{}/trigger", ticker.path()), &Value::Null);
        }
        ("work.recovery", "Wake") => {
            let run = json!({"taskType": "shell_command", "taskConfig": {"command": "false"},
                             "retryPolicy": {"maxAttempts": 1}});
            server.post("/api/execution/executions", &run);
            let open = server.get("/api/errors/errors?recoveryStatus=escalated,unresolved");
            if let Some(error) = open["items"].as_array().and_then(|items| items.first()) {
                let verdict = format!("/api/errors/errors/{}/resolve", error["id"]);
                server.post(&verdict, &Value::Null);
            }
        }
        other => panic!("nothing is known to send {other:?}: say what does"),
    }
}

fn a_panic_at_any_message_of_any_actor_loses_nothing(backend: Backend) {
    let mut server = Server::new(backend).started();
    let outside = Outside::new();
    let ticker = Ticker::make(&server, "ticker", 250, &outside.task("true"));
    let mut paths = Vec::new();
    leaves(&server.get("/api/admin/actors"), &mut paths);
    let mut panicked = 0;
    for path in &paths {
        let node = format!("/api/admin/actors/{path}");
        // The list is the one that a message must be in to be sent at all.
        let report = server.get(&node);
        for message in report["messages"].as_array().unwrap() {
            let message = message.as_str().unwrap();
            let before = server.get(&node)["restarts"].as_u64().unwrap();
            server.post(&format!("{node}/crash"), &json!({"mode": "panic", "message": message}));
            server.until(&format!("{path} is back after {message}"), |server| {
                let now = server.get(&node);
                if now["restarts"] == before {
                    provoke(server, path, message, &ticker);
                }
                now["state"] == "running" && now["restarts"].as_u64().unwrap() > before
            });
            let crash = &server.get(&node)["lastCrash"]["reason"];
            assert_eq!(crash, &json!(format!("injected panic at a message {message}")));
            panicked += 1;
        }
    }
    assert!(panicked >= 3, "no actor takes messages any more?");
    let node = "/api/admin/actors/work.executor/crash";
    let unknown = server.call("POST", node, &json!({"mode": "panic", "message": "Nonsense"}));
    assert_eq!(unknown.0, 409, "{unknown:?}");
    let mut history = settled(&mut server, &[ticker], &outside);
    history.rows.retain(|row| outside.judges(&row.command));
    expect_sound(&history);
}

fn a_stopped_executor_claims_nothing_until_it_is_started(backend: Backend) {
    let mut server = Server::new(backend).started();
    server.post("/api/admin/actors/work.executor/stop", &Value::Null);
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "function", "taskConfig": {"name": "noop", "payload": {}}}),
    );
    assert_eq!(
        server.get(&format!("/api/execution/executions/{}", run["id"]))["status"],
        "pending"
    );
    server.post("/api/admin/actors/work.executor/start", &Value::Null);
    assert_eq!(server.ended(&run["id"])["status"], "completed");
}

fn a_crash_of_the_executor_ends_no_task(backend: Backend) {
    let mut server = Server::new(backend).started();
    let gate = server.path("gate");
    let command = format!("until test -e {}; do sleep 0.02; done", gate.display());
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": command}}),
    );
    let path = format!("/api/execution/executions/{}", run["id"]);
    server.until("it runs", |server| server.get(&path)["status"] == "running");
    server.post("/api/admin/actors/work.executor/crash", &json!({"mode": "panic"}));
    server.until("the executor is back", |server| {
        let node = server.get("/api/admin/actors/work.executor");
        node["state"] == "running" && node["restarts"].as_u64().unwrap() > 0
    });
    std::fs::write(&gate, "").unwrap();
    let ended = server.ended(&run["id"]);
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("completed"), &json!(1)));
}
