//! Definitions as files: exported, imported, carried over from crontab and systemd.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::on_both_stores;
use super::server::{Backend, Server};

on_both_stores! {
    an_export_imported_elsewhere_makes_the_same_schedules,
    alert_rules_are_carried_and_their_channels_are_not,
    a_crontab_becomes_schedules_with_a_report,
}

/// Runs the command line against a server; its exit status and what it printed.
fn carillon(server: &Server, line: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_carillon"));
    command.args(line).args(["--url", &server.url(), "--token", server.token()]);
    let output = command.output().unwrap();
    let text =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

fn schedule(name: &str, command: &str) -> Value {
    json!({
        "name": name, "scheduleType": "cron", "scheduleConfig": {"cron": "0 4 * * *"},
        "taskType": "shell_command", "taskConfig": {"command": command, "env": {"A": "1"}},
        "tags": ["x"], "retryPolicy": {"maxAttempts": 2},
    })
}

fn names(server: &Server) -> Vec<String> {
    let list = server.get("/api/scheduler/schedules?limit=500");
    let items = list["items"].as_array().unwrap();
    let mut names: Vec<String> =
        items.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn texts(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut texts: Vec<_> = entries
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    texts.sort();
    texts
}

fn an_export_imported_elsewhere_makes_the_same_schedules(backend: Backend) {
    let mut first = Server::new(backend).started();
    let feast = json!({"kind": "date", "date": "2026-12-24", "yearly": true});
    first.post("/api/v2/calendars", &json!({"name": "holidays", "entries": [feast]}));
    let mut one = schedule("nightly/one", "echo 1");
    one["calendars"] = json!([{"name": "holidays", "mode": "exclude"}]);
    first.post("/api/scheduler/schedules", &one);
    first.post("/api/scheduler/schedules", &schedule("two", "echo 2"));
    let limits = json!({"maxConcurrent": 3});
    assert_eq!(first.call("PUT", "/api/v2/queues/reports%20a", &limits).0, 200);
    let home = tempfile::tempdir().unwrap();
    let files = home.path().join("files");
    let to = files.to_str().unwrap();
    assert_eq!(carillon(&first, &["export", "--to", to]).0, 0);
    let exported = texts(&files.join("schedules"));
    assert_eq!(exported[0].0, "nightly-one.json");
    assert_eq!(exported.len(), 2);

    let second = Server::new(backend).started();
    second.post("/api/scheduler/schedules", &schedule("stray", "echo 3"));
    // Its limits go; a queue that somebody only named is no definition.
    assert_eq!(second.call("PUT", "/api/v2/queues/stray", &limits).0, 200);
    assert_eq!(second.call("POST", "/api/v2/queues/named/pause", &json!({})).0, 200);
    let (status, text) = carillon(&second, &["import", to, "--prune", "--dry-run"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("4 created, 2 deleted (dry run"), "{text}");
    assert_eq!(names(&second), ["stray"]);
    let (status, text) = carillon(&second, &["import", to, "--prune"]);
    assert_eq!(status, 0, "{text}");
    assert_eq!(names(&second), ["nightly/one", "two"]);
    let (_, text) = carillon(&second, &["import", to, "--prune"]);
    assert_eq!(text, "4 unchanged\n");
    assert_eq!(second.get("/api/v2/queues/reports%20a")["maxConcurrent"], 3);
    assert_eq!(second.get("/api/v2/queues/stray")["maxConcurrent"], Value::Null);
    assert_eq!(second.get("/api/v2/queues/named")["paused"], true);
    assert_eq!(carillon(&second, &["export", "--to", to]).0, 0);
    assert_eq!(texts(&files.join("schedules")), exported);

    // An edit of a file is an edit of that schedule alone; one that is refused says why.
    let path = files.join("schedules/two.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("echo 2", "echo two")).unwrap();
    let (_, text) = carillon(&second, &["import", to]);
    assert!(text.contains("3 unchanged, 1 updated"), "{text}");
    let found = second.get("/api/scheduler/schedules?q=two");
    assert_eq!(found["items"][0]["taskConfig"]["command"], "echo two");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("0 4 * * *", "99 4 * * *")).unwrap();
    let (status, text) = carillon(&second, &["import", to]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("refused") && text.contains("scheduleConfig.cron"), "{text}");
    first.kill();
}

fn alert_rules_are_carried_and_their_channels_are_not(backend: Backend) {
    let (first, second) = (Server::new(backend).started(), Server::new(backend).started());
    let chat = json!({"name": "chat", "kind": "slack", "url": "https://hooks.example.org/hidden"});
    first.post("/api/v2/alert-channels", &chat);
    let rule = json!({"name": "night", "on": ["error_recorded"], "channels": ["chat"],
                      "count": {"atLeast": 3, "withinMs": 60_000}});
    first.post("/api/v2/alert-rules", &rule);
    let home = tempfile::tempdir().unwrap();
    let files = home.path().to_str().unwrap();
    assert_eq!(carillon(&first, &["export", "--to", files]).0, 0);
    assert_eq!(texts(&home.path().join("alert-rules"))[0].0, "night.json");
    assert!(!carillon(&first, &["export"]).1.contains("hidden"));
    let (status, text) = carillon(&second, &["import", files]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("there is no channel `chat`"), "{text}");
    second.post("/api/v2/alert-channels", &chat);
    assert_eq!(carillon(&second, &["import", files]).0, 0);
    assert_eq!(carillon(&second, &["import", files]).1, "1 unchanged\n");
    let found = second.get("/api/v2/alert-rules");
    assert_eq!(found["items"][0]["count"], rule["count"]);
}

fn a_crontab_becomes_schedules_with_a_report(backend: Backend) {
    let server = Server::new(backend).started();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("crontab");
    let text =
        "CRON_TZ=Europe/Berlin\n# Sweeps\n*/5 * * * * /opt/sweep --all\n@reboot /opt/start\n";
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let (status, text) =
        carillon(&server, &["schedule", "import-crontab", path, "--prefix", "h-", "--dry-run"]);
    assert_eq!(status, 1, "something is left out: {text}");
    assert!(text.contains("1 would be added, 1 left out"), "{text}");
    assert!(names(&server).is_empty());
    let (_, text) = carillon(&server, &["schedule", "import-crontab", path, "--prefix", "h-"]);
    assert!(text.contains("line 4: left out: @reboot /opt/start"), "{text}");
    let found = server.get("/api/scheduler/schedules?q=h-sweep");
    let found = &found["items"][0];
    assert_eq!(found["name"], "h-sweep-all");
    assert_eq!(found["description"], "Sweeps");
    assert_eq!(found["scheduleConfig"]["timezone"], "Europe/Berlin");
    assert_eq!(
        (&found["overlapPolicy"], &found["misfirePolicy"]),
        (&json!("allow"), &json!("skip"))
    );
}
