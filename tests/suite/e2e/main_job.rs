//! The main job: schedules fire, tasks run, fail, recover, end as dead letters.

use serde_json::{Value, json};

use super::on_both_stores;
use super::processes::{alive, marker};
use super::server::{Backend, Server};

on_both_stores! {
    every_kind_of_schedule_fires_and_runs,
    a_failing_task_is_retried_and_ends_as_a_dead_letter,
    a_dead_letter_leaves_the_queue_when_its_new_chain_succeeds,
    an_operators_retry_with_other_parameters_resolves_the_error,
    cancel_ends_the_whole_process_tree,
    a_timeout_ends_the_task,
    an_unknown_or_wrong_field_is_named,
    what_is_not_built_yet_is_refused,
}

fn soon() -> String {
    let at = carillon::clock::Clock::system().now() + chrono::Duration::milliseconds(300);
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn items(answer: &Value) -> Vec<Value> {
    answer["items"].as_array().unwrap().clone()
}

fn every_kind_of_schedule_fires_and_runs(backend: Backend) {
    let mut server = Server::new(backend).started();
    for (name, kind, config) in [
        ("cron", "cron", json!({"cron": "* * * * * *"})),
        ("interval", "interval", json!({"intervalMs": 300})),
        ("once", "one_time", json!({"runAt": soon()})),
    ] {
        let body = json!({
            "name": name, "scheduleType": kind, "scheduleConfig": config,
            "taskType": "shell_command", "taskConfig": {"command": "echo \"$CARILLON_ATTEMPT\""},
        });
        let schedule = server.post("/api/scheduler/schedules", &body);
        let list =
            format!("/api/execution/executions?scheduleId={}&status=completed", schedule["id"]);
        server.until("a run completed", |server| !items(&server.get(&list)).is_empty());
        let run = items(&server.get(&list)).pop().unwrap();
        assert_eq!(run["trigger"], "schedule");
        assert_eq!(run["attempt"], 1);
        assert_eq!(run["result"]["stdout"], "1\n");
        assert!(run["latenessMs"].as_i64().unwrap() >= 0);
    }
    let once = items(&server.get("/api/scheduler/schedules?q=once")).pop().unwrap();
    assert_eq!(once["enabled"], false);
    assert_eq!(once["nextRunAt"], Value::Null);
}

fn failing() -> Value {
    json!({
        "taskType": "shell_command",
        "taskConfig": {"command": "echo broken >&2; exit 3"},
        "retryPolicy": {"maxAttempts": 3, "baseMs": 50, "jitter": 0},
    })
}

/// Runs the failing task until its letter is in the queue; gives the letter.
fn die(server: &mut Server) -> Value {
    server.post("/api/execution/executions", &failing());
    server.until("a dead letter", |server| !items(&server.get("/api/dlq")).is_empty());
    items(&server.get("/api/dlq")).pop().unwrap()
}

fn a_failing_task_is_retried_and_ends_as_a_dead_letter(backend: Backend) {
    let mut server = Server::new(backend).started();
    let letter = die(&mut server);
    assert_eq!(letter["cause"], "attempts_spent");
    assert_eq!(letter["attempts"].as_array().unwrap().len(), 3);
    let rows = items(&server.get("/api/execution/executions?status=failed"));
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["chainId"] == letter["chainId"]));
    let errors = items(&server.get("/api/errors/errors"));
    assert_eq!(errors.len(), 1, "one record a chain");
    assert_eq!(errors[0]["recoveryStatus"], "escalated");
    assert_eq!(errors[0]["recoveryAttempts"], 2);
    assert_eq!(errors[0]["maxRetryAttempts"], 2);
    assert_eq!(server.get("/api/dlq/stats")["pending"], 1);
}

fn a_dead_letter_leaves_the_queue_when_its_new_chain_succeeds(backend: Backend) {
    let mut server = Server::new(backend).started();
    let flag = server.path("mended");
    let command = format!("test -e {}", flag.display());
    server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": command},
                "retryPolicy": {"maxAttempts": 1}}),
    );
    server.until("a dead letter", |server| !items(&server.get("/api/dlq")).is_empty());
    let letter = items(&server.get("/api/dlq")).pop().unwrap();
    std::fs::write(&flag, "").unwrap();
    server.post(&format!("/api/dlq/{}/resubmit", letter["id"]), &Value::Null);
    server.until("an empty queue", |server| items(&server.get("/api/dlq")).is_empty());
    let error = items(&server.get("/api/errors/errors")).pop().unwrap();
    assert_eq!(error["recoveryStatus"], "resolved");
}

fn an_operators_retry_with_other_parameters_resolves_the_error(backend: Backend) {
    let mut server = Server::new(backend).started();
    die(&mut server);
    let error = items(&server.get("/api/errors/errors")).pop().unwrap();
    let path = format!("/api/errors/errors/{}", error["id"]);
    server.post(&format!("{path}/retry"), &json!({"taskConfig": {"command": "true"}}));
    server.until("resolved", |server| server.get(&path)["recoveryStatus"] == "resolved");
    let (status, refused) = server.call("POST", &format!("{path}/retry"), &Value::Null);
    assert_eq!(status, 409, "{refused}");
}

fn cancel_ends_the_whole_process_tree(backend: Backend) {
    let mut server = Server::new(backend).started();
    let seconds = marker();
    let command = format!("setsid sleep {seconds} & (setsid sleep {seconds} &) ; sleep {seconds}");
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": command}}),
    );
    server.until("the shell and three others", |_| alive(&seconds) == 4);
    server.post(&format!("/api/execution/executions/{}/cancel", run["id"]), &Value::Null);
    let ended = server.ended(&run["id"]);
    assert_eq!(alive(&seconds), 0, "a terminal status comes after the last process");
    assert_eq!(ended["status"], "cancelled");
    assert_eq!(server.get("/api/errors/errors")["total"], 0);
}

fn a_timeout_ends_the_task(backend: Backend) {
    let mut server = Server::new(backend).started();
    let seconds = marker();
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command",
                "taskConfig": {"command": format!("sleep {seconds}"), "timeoutMs": 200},
                "retryPolicy": {"maxAttempts": 1}}),
    );
    let ended = server.ended(&run["id"]);
    assert_eq!(ended["status"], "timeout");
    assert_eq!(ended["error"]["kind"], "timeout");
    assert_eq!(alive(&seconds), 0);
}

fn an_unknown_or_wrong_field_is_named(backend: Backend) {
    let server = Server::new(backend).started();
    let body = json!({
        "name": "x", "taskType": "shell_command", "taskConfig": {"comand": "true"},
        "scheduleType": "cron", "scheduleConfig": {"cron": "61 * * * *"}, "priorty": "high",
    });
    let (status, problem) = server.call("POST", "/api/scheduler/schedules", &body);
    assert_eq!(status, 422, "{problem}");
    let fields: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["field"].as_str().unwrap())
        .collect();
    for field in ["taskConfig.comand", "taskConfig.command", "scheduleConfig.cron", "priorty"] {
        assert!(fields.contains(&field), "{field} is not named in {problem}");
    }
}

fn what_is_not_built_yet_is_refused(backend: Backend) {
    let server = Server::new(backend).started();
    let base = json!({
        "name": "x", "taskType": "shell_command", "taskConfig": {"command": "true"},
        "scheduleType": "interval", "scheduleConfig": {"intervalMs": 1000},
    });
    for (field, value) in [("taskType", json!("workflow")), ("taskType", json!("worker_task"))] {
        let mut body = base.clone();
        body[field] = value;
        let (status, problem) = server.call("POST", "/api/scheduler/schedules", &body);
        assert_eq!(status, 422, "{field}: {problem}");
        assert!(problem.to_string().contains("not_supported_yet"), "{field}: {problem}");
    }
}
