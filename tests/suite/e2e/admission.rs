//! What starts when, with the real binary: limits hold over nodes, held work says why and starts as
//! soon as it may.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::on_both_stores;
use super::server::{Backend, Server};
use crate::support::postgres::Cluster;

const RUNS: &str = "/api/execution/executions";

on_both_stores! {
    a_paused_queue_holds_its_work_and_says_so,
    what_waits_for_a_key_starts_when_the_one_before_ends,
    an_urgent_run_takes_the_slot_of_one_that_lets_it,
}

fn task(command: &str, rest: Value) -> Value {
    let mut body = json!({"taskType": "shell_command", "taskConfig": {"command": command}});
    let (Value::Object(body_fields), Value::Object(rest)) = (&mut body, rest) else { panic!() };
    body_fields.extend(rest);
    body
}

fn a_paused_queue_holds_its_work_and_says_so(backend: Backend) {
    let mut server = Server::new(backend).started();
    let (status, queue) =
        server.call("POST", "/api/v2/queues/reports/pause", &json!({"reason": "month end"}));
    assert_eq!((status, &queue["paused"]), (200, &json!(true)), "{queue}");
    let run = server.post(RUNS, &task("true", json!({"queue": "reports"})));
    let path = format!("{RUNS}/{}", run["id"]);
    server.until("it says why it waits", |server| {
        server.get(&path)["heldReason"] == "queue \"reports\" is paused"
    });
    let other = server.post(RUNS, &task("true", json!({"queue": "mail"})));
    assert_eq!(server.ended(&other["id"])["status"], "completed");
    assert_eq!(server.get("/api/v2/queues/reports")["held"], 1);
    let resumed = Instant::now();
    server.call("POST", "/api/v2/queues/reports/resume", &json!({}));
    let ended = server.ended(&run["id"]);
    assert_eq!((&ended["status"], &ended["heldReason"]), (&json!("completed"), &Value::Null));
    assert!(resumed.elapsed() < Duration::from_secs(10));
}

fn what_waits_for_a_key_starts_when_the_one_before_ends(backend: Backend) {
    let mut server = Server::new(backend).started();
    let keyed = json!({"concurrencyKey": "one"});
    let runs: Vec<Value> =
        (0..5).map(|_| server.post(RUNS, &task("sleep 0.1", keyed.clone()))).collect();
    let mut last = String::new();
    for run in &runs {
        let ended = server.ended(&run["id"]);
        assert_eq!(ended["status"], "completed");
        let started = ended["startedAt"].as_str().unwrap().to_owned();
        assert!(last <= started, "one after the other: {last} and {started}");
        ended["completedAt"].as_str().unwrap().clone_into(&mut last);
    }
}

fn an_urgent_run_takes_the_slot_of_one_that_lets_it(backend: Backend) {
    let mut server = Server::new(backend).with("CARILLON_EXECUTOR__SLOTS", "1").started();
    let is_running = |server: &Server, run: &Value| {
        server.get(&format!("{RUNS}/{}", run["id"]))["status"] == "running"
    };
    let command = "test $CARILLON_ATTEMPT = 2 || sleep 600";
    let rest = json!({"priority": "low", "preemptible": true, "retryPolicy": {"maxAttempts": 1}});
    let lenient = server.post(RUNS, &task(command, rest));
    server.until("the lenient one runs", |server| is_running(server, &lenient));
    let urgent = server.post(RUNS, &task("true", json!({"priority": "high"})));
    assert_eq!(server.ended(&urgent["id"])["status"], "completed");
    let first = server.ended(&lenient["id"]);
    assert_eq!(
        (&first["status"], &first["error"]["kind"]),
        (&json!("failed"), &json!("preempted"))
    );
    // It is begun anew, at no cost to its attempts.
    let list = format!("{RUNS}?limit=50");
    server.until("its chain completed", |server| {
        let runs = server.get(&list);
        runs["items"].as_array().unwrap().iter().any(|run| {
            run["chainId"] == lenient["chainId"]
                && run["attempt"] == 2
                && run["status"] == "completed"
        })
    });
}

#[test]
fn two_nodes_never_exceed_the_limit_of_a_key() {
    let cluster = Cluster::start(false);
    let first = Server::on(&cluster).started();
    let second = first.neighbour().started();
    let mut nodes = [first, second];
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    // Each run is a folder while it runs; how many there were is a line.
    let command = format!(
        "mkdir {place}/run-$CARILLON_EXECUTION_ID; ls -d {place}/run-* | wc -l >> {place}/seen; \
         sleep 0.15; rmdir {place}/run-$CARILLON_EXECUTION_ID"
    );
    let limit = json!({"concurrencyKey": "tenant-7", "concurrencyLimit": 2});
    let runs: Vec<(usize, Value)> = (0..24)
        .map(|number| {
            let node = number % 2;
            (node, nodes[node].post(RUNS, &task(&command, limit.clone())))
        })
        .collect();
    let mut by_node = std::collections::HashSet::new();
    for (node, run) in runs {
        let ended = nodes[node].ended(&run["id"]);
        assert_eq!(ended["status"], "completed", "{ended}");
        by_node.insert(ended["nodeId"].to_string());
    }
    let seen = fs::read_to_string(folder.path().join("seen")).unwrap();
    let counts: Vec<usize> = seen.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(counts.len(), 24);
    assert!(counts.iter().all(|count| *count <= 2), "{counts:?}");
    assert_eq!(by_node.len(), 2, "both nodes took part");
}
