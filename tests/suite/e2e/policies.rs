//! Overlap, jitter and backfills with real processes: what runs when, and what is left of it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::on_both_stores;
use super::processes::{alive, marker};
use super::server::{Backend, Server};

on_both_stores! {
    queued_runs_start_one_after_the_other_in_order,
    a_newer_instant_leaves_no_process_of_the_older,
    a_backfill_outlives_kill_nine_and_runs_each_instant_once,
    a_pause_with_an_end_is_over_by_itself_after_a_restart,
}

/// Lines of a file that tasks append to; none when there is no file yet.
fn lines(server: &Server) -> Vec<String> {
    let text = std::fs::read_to_string(server.path("ledger")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn schedule(server: &Server, name: &str, command: &str, more: &Value) -> Value {
    let mut body = json!({
        "name": name, "taskType": "shell_command", "taskConfig": {"command": command},
        "scheduleType": "interval", "scheduleConfig": {"intervalMs": 300},
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    server.post("/api/scheduler/schedules", &body)
}

fn queued_runs_start_one_after_the_other_in_order(backend: Backend) {
    let mut server = Server::new(backend).started();
    let file = server.path("ledger");
    let command = format!(
        "echo \"start $CARILLON_SCHEDULED_AT\" >> {0}; sleep 0.5; echo \"end $CARILLON_SCHEDULED_AT\" >> {0}",
        file.display()
    );
    let policy = json!({ "overlapPolicy": "queue", "queueLimit": 3, "maxExecutions": 6 });
    let made = schedule(&server, "queued", &command, &policy);
    let path = format!("/api/execution/executions?scheduleId={}", made["id"]);
    server
        .until("six ends", |server| server.get(&format!("{path}&status=completed"))["total"] == 6);
    let lines = lines(&server);
    assert_eq!(lines.len(), 12);
    let mut instants = Vec::new();
    for pair in lines.chunks(2) {
        let instant = pair[0].strip_prefix("start ").unwrap();
        assert_eq!(pair[1], format!("end {instant}"), "two ran at once: {lines:?}");
        instants.push(instant.to_owned());
    }
    assert!(instants.is_sorted(), "{instants:?}");
}

fn a_newer_instant_leaves_no_process_of_the_older(backend: Backend) {
    let mut server = Server::new(backend).started();
    let seconds = marker();
    let file = server.path("ledger");
    // Each run tells how many of the others are alive when it starts.
    let command =
        format!("pgrep -fc 'sleep {seconds}$' >> {}; sleep {seconds} & wait", file.display());
    let policy = json!({
        "overlapPolicy": "cancel_running", "scheduleConfig": {"intervalMs": 700},
    });
    let made = schedule(&server, "fresh", &command, &policy);
    server.until("four runs", |server| lines(server).len() >= 4);
    server.post(&format!("/api/scheduler/schedules/{}/pause", made["id"]), &Value::Null);
    let lines = lines(&server);
    assert!(lines.iter().all(|count| count == "0"), "an older run was alive: {lines:?}");
    let errors = server.get("/api/errors/errors");
    assert_eq!(errors["total"], 0, "a cancelled run is no error: {errors}");
    let running = format!("/api/execution/executions?scheduleId={}&status=running", made["id"]);
    for row in server.get(&running)["items"].as_array().unwrap().clone() {
        server.post(&format!("/api/execution/executions/{}/cancel", row["id"]), &Value::Null);
    }
    server.until("no process", |_| alive(&format!("sleep {seconds}")) == 0);
}

fn a_backfill_outlives_kill_nine_and_runs_each_instant_once(backend: Backend) {
    let mut server = Server::new(backend)
        .with("CARILLON_EXECUTOR__LEASE_MS", "2000")
        .with("CARILLON_RECOVERY__MAX_CRASH_ATTEMPTS", "1000")
        .started();
    let file = server.path("ledger");
    let command = format!("echo \"$CARILLON_SCHEDULED_AT\" >> {}", file.display());
    let more = json!({
        "scheduleType": "cron", "scheduleConfig": {"cron": "0 * * * *", "timezone": "UTC"},
    });
    let made = schedule(&server, "hourly", &command, &more);
    let range = json!({
        "from": "2026-01-01T00:00:00Z", "to": "2026-01-03T23:30:00Z", "maxConcurrent": 4,
    });
    let backfill = server.post(&format!("/api/v2/schedules/{}/backfills", made["id"]), &range);
    assert_eq!(backfill["planned"], 72);
    let path = format!("/api/v2/backfills/{}", backfill["id"]);
    for round in 0..3_u64 {
        // Not a wait for something: the moment of the crash is the point, and differs each round.
        super::pause(Duration::from_millis(200 + 130 * round));
        server.kill();
        server.start();
    }
    server.until("the end of the backfill", |server| {
        let now = server.get(&path);
        now["status"] == "completed"
            && now["executions"]["running"] == 0
            && now["executions"]["pending"] == 0
    });
    let rows =
        server.get(&format!("/api/execution/executions?scheduleId={}&limit=500", made["id"]));
    let rows = rows["items"].as_array().unwrap();
    let firsts: Vec<&str> = rows
        .iter()
        .filter(|row| row["trigger"] == "backfill")
        .map(|row| row["scheduledAt"].as_str().unwrap())
        .collect();
    let instants: BTreeSet<&str> = firsts.iter().copied().collect();
    assert_eq!((firsts.len(), instants.len()), (72, 72), "holes or doubles");
    let now = server.get(&path);
    assert_eq!((&now["made"], &now["leftOut"]), (&json!(72), &json!(0)));
    // What ran is left out of another one.
    let again = server.post(&format!("/api/v2/schedules/{}/backfills", made["id"]), &range);
    let path = format!("/api/v2/backfills/{}", again["id"]);
    server.until("the second", |server| server.get(&path)["status"] == "completed");
    assert_eq!(server.get(&path)["leftOut"], 72);
}

fn a_pause_with_an_end_is_over_by_itself_after_a_restart(backend: Backend) {
    let mut server = Server::new(backend).started();
    let made = schedule(&server, "resting", "true", &json!({}));
    let path = format!("/api/scheduler/schedules/{}", made["id"]);
    let until =
        (carillon::clock::Clock::system().now() + chrono::TimeDelta::seconds(2)).to_rfc3339();
    let paused = server.post(&format!("{path}/pause"), &json!({ "until": until }));
    assert_eq!(paused["enabled"], false);
    server.kill();
    server.start();
    server.until("the end of the pause", |server| server.get(&path)["enabled"] == true);
    let version = server.get(&path)["lastRunAt"].clone();
    server.until("a run after it", |server| server.get(&path)["lastRunAt"] != version);
}
