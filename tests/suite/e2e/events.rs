//! Chains of tasks that set each other off, payloads, and how soon they run.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::on_both_stores;
use super::server::{Backend, Server};

on_both_stores! {
    a_chain_of_22_tasks_recovers_by_itself,
    a_killed_server_neither_loses_nor_doubles_what_follows,
    a_task_reads_the_event_that_set_it_off,
}

const LINKS: usize = 22;

fn items(answer: &Value) -> Vec<Value> {
    answer["items"].as_array().unwrap().clone()
}

/// A link of a chain; of all (task, round) pairs every tenth fails at its first attempt, the same
/// in each run of the test.
fn link(number: usize, extra: &str) -> Value {
    let config = if number == 0 {
        json!({"on": "event", "name": "chain.start"})
    } else {
        json!({"on": "execution", "schedule": format!("link-{}", number - 1)})
    };
    let fails = (number * 7 + 3).is_multiple_of(10);
    let command = format!(
        "echo {number} >> \"$LEDGER.attempts\"; {extra} \
         if [ {fails} = true ] && [ \"$CARILLON_ATTEMPT\" = 1 ]; then exit 75; fi; \
         echo {number} >> \"$LEDGER\""
    );
    json!({
        "name": format!("link-{number}"), "scheduleType": "event", "scheduleConfig": config,
        "taskType": "shell_command", "taskConfig": {"command": command},
        "overlapPolicy": "allow",
        "retryPolicy": {"maxAttempts": 5, "baseMs": 50, "jitter": 0},
    })
}

fn make_links(server: &Server, extra: &str) -> String {
    let ledger = server.path("ledger").display().to_string();
    for number in 0..LINKS {
        let mut body = link(number, extra);
        body["taskConfig"]["env"] = json!({"LEDGER": ledger});
        server.post("/api/scheduler/schedules", &body);
    }
    ledger
}

fn lines(path: &str) -> Vec<usize> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.trim().parse().unwrap()).collect()
}

fn a_chain_of_22_tasks_recovers_by_itself(backend: Backend) {
    let mut server = Server::new(backend).started();
    let ledger = make_links(&server, "");
    let rounds = 3;
    for _ in 0..rounds {
        server.post("/api/v2/events", &json!({"name": "chain.start"}));
    }
    server.until("every link of every chain completed", |server| {
        let done = server.get("/api/execution/executions?status=completed&limit=500");
        done["total"] == json!(LINKS * rounds)
    });
    let mut ran: HashMap<usize, usize> = HashMap::new();
    for number in lines(&ledger) {
        *ran.entry(number).or_default() += 1;
    }
    assert!((0..LINKS).all(|number| ran.get(&number) == Some(&rounds)), "{ran:?}");
    let failures = lines(&format!("{ledger}.attempts")).len() - LINKS * rounds;
    assert_eq!(failures, 3 * rounds, "a tenth of the links failed once");
    let done = items(&server.get("/api/execution/executions?status=completed&limit=500"));
    let mut by_trace: HashMap<String, usize> = HashMap::new();
    for run in &done {
        *by_trace.entry(run["traceId"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(by_trace.len(), rounds, "a chain is one trace");
    assert!(by_trace.values().all(|count| *count == LINKS));
    let open = items(&server.get("/api/dlq"));
    assert!(open.is_empty(), "{open:?}");
}

fn a_killed_server_neither_loses_nor_doubles_what_follows(backend: Backend) {
    let mut server = Server::new(backend).with("CARILLON_EXECUTOR__LEASE_MS", "2000").started();
    let ledger = make_links(&server, "sleep 0.02;");
    server.post("/api/v2/events", &json!({"name": "chain.start"}));
    for seen in [3, 9, 15] {
        server.until("some links ran", |_| lines(&ledger).len() >= seen);
        server.kill();
        server.start();
    }
    server.until("the whole chain completed", |server| {
        server.get("/api/execution/executions?status=completed&limit=500")["total"] == LINKS
    });
    let done = items(&server.get("/api/execution/executions?status=completed&limit=500"));
    let mut names: Vec<&str> =
        done.iter().map(|run| run["scheduleName"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), LINKS, "each link completed once");
    let first = items(&server.get("/api/execution/executions?limit=500"));
    let chains = first.iter().filter(|run| run["attempt"] == 1).count();
    assert_eq!(chains, LINKS, "each end made one chain, also when the server was killed");
}

fn a_task_reads_the_event_that_set_it_off(backend: Backend) {
    let mut server = Server::new(backend).started();
    let body = json!({
        "name": "reader", "scheduleType": "event",
        "scheduleConfig": {"on": "event", "name": "orders.*"},
        "taskType": "shell_command",
        "taskConfig": {"command":
            "echo $CARILLON_EVENT_NAME; stat -c %a $CARILLON_EVENT_FILE; cat $CARILLON_EVENT_FILE; \
             echo; echo $CARILLON_EVENT_FILE"},
    });
    server.post("/api/scheduler/schedules", &body);
    let posted = server.post(
        "/api/v2/events",
        &json!({"name": "orders.created", "payload": {"id": 7, "text": "ü \"quoted\" $(rm)"}}),
    );
    let run = server.ended(&posted["deliveries"][0]["executionId"]);
    assert_eq!(run["status"], "completed", "{run}");
    let stdout = run["result"]["stdout"].as_str().unwrap().to_owned();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[..2], ["orders.created", "600"]);
    let event: Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(event["payload"], json!({"id": 7, "text": "ü \"quoted\" $(rm)"}));
    assert!(!std::path::Path::new(lines[3]).exists(), "the file is removed");
}
