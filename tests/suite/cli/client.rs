//! Commands that speak to a server.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::carillon;
use super::server::Server;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// An execution that runs at the first look and has ended as `end` at the second.
fn server_of_an_execution(end: Value) -> Server {
    let mut looks = 0;
    Server::start(move |line| match line {
        "GET /api/v1/execution/executions/7" => {
            looks += 1;
            (200, if looks == 1 { json!({ "id": 7, "status": "running" }) } else { end.clone() })
        }
        "GET /api/v1/execution/executions/7/logs?after=0&limit=500" => {
            let lines = json!([
                { "line": 1, "stream": "stdout", "text": "one" },
                { "line": 2, "stream": "stderr", "text": "two\u{1b}[2J" },
            ]);
            (200, json!({ "items": lines }))
        }
        "GET /api/v1/execution/executions/7/logs?after=2&limit=500" if looks > 1 => {
            (200, json!({ "items": [{ "line": 3, "stream": "stdout", "text": "three" }] }))
        }
        _ => (200, json!({ "items": [] })),
    })
}

#[test]
fn tail_prints_the_log_once_and_ends_with_the_outcome() {
    let error = json!({ "kind": "exit_code", "message": "exit status 3" });
    let ends = [
        (json!({ "id": 7, "status": "completed" }), 0, "execution 7: completed"),
        (
            json!({ "id": 7, "status": "failed", "error": error }),
            1,
            "execution 7: failed: exit status 3",
        ),
    ];
    for (end, status, last) in ends {
        let server = server_of_an_execution(end);
        let line = ["execution", "tail", "7", "--url", &server.url, "--token", "k"];
        let ended = carillon(directory().path(), &line, &[]);
        assert_eq!(ended.stdout, format!("one\n[stderr] two\\u001b[2J\nthree\n{last}\n"));
        assert_eq!((ended.status, ended.stderr.as_str()), (status, ""));
    }
}

#[test]
fn the_key_that_the_server_left_is_used_when_none_is_given() {
    let server = Server::start(|_| (200, json!({ "items": [] })));
    let directory = directory();
    fs::create_dir(directory.path().join("data")).expect("made");
    fs::write(directory.path().join("data/admin.token"), "car_left\n").expect("written");
    let url = [("CARILLON_URL", server.url.as_str())];
    carillon(directory.path(), &["schedule", "list"], &url);
    carillon(directory.path(), &["schedule", "list", "--token", "car_given"], &url);
    let environment = [url[0], ("CARILLON_TOKEN", "car_variable")];
    carillon(directory.path(), &["schedule", "list"], &environment);
    let keys: Vec<_> =
        server.seen().into_iter().filter_map(|request| request.authorization).collect();
    assert_eq!(keys, ["Bearer car_left", "Bearer car_given", "Bearer car_variable"]);
}

#[test]
fn a_refusal_ends_with_1_and_names_each_fault() {
    let problem = json!({
        "status": 422, "title": "Invalid", "detail": "1 field is wrong",
        "errors": [{ "field": "scheduleConfig.cron", "code": "invalid_cron", "message": "no" }],
    });
    let server = Server::start(move |_| (422, problem.clone()));
    let line = ["schedule", "add", "x", "--cron", "61 * * * *", "--url", &server.url, "--", "true"];
    let ended = carillon(directory().path(), &line, &[]);
    assert_eq!((ended.status, ended.stdout.as_str()), (1, ""));
    assert!(
        ended.stderr.ends_with("1 field is wrong\n  scheduleConfig.cron: no\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn without_a_server_the_status_is_3_and_wrong_usage_is_2() {
    let directory = directory();
    let nobody = ["execution", "list", "--url", "http://127.0.0.1:1"];
    let ended = carillon(directory.path(), &nobody, &[]);
    assert_eq!(ended.status, 3);
    assert!(ended.stderr.contains("carillon serve"), "{}", ended.stderr);
    for wrong in [&["execution", "tail"][..], &["schedule", "list", "--url", "ftp://x"]] {
        assert_eq!(carillon(directory.path(), wrong, &[]).status, 2, "{wrong:?}");
    }
    assert_eq!(carillon(directory.path(), &["--help"], &[]).status, 0);
}

#[test]
fn a_schedule_can_be_named_by_its_name() {
    let server = Server::start(|line| match line {
        "GET /api/v1/scheduler/schedules?q=back%20up&limit=500" => (
            200,
            json!({ "items": [{ "id": 4, "name": "back up all" }, { "id": 5, "name": "back up" }] }),
        ),
        "POST /api/v1/scheduler/schedules/5/trigger" => (202, json!({ "id": 9 })),
        _ => (200, json!({ "items": [] })),
    });
    let line = ["schedule", "trigger", "back up", "--url", &server.url];
    let ended = carillon(directory().path(), &line, &[]);
    assert_eq!(ended.stdout, "back up runs as execution 9\n");
    let line = ["schedule", "pause", "gone", "--url", &server.url];
    let ended = carillon(directory().path(), &line, &[]);
    assert_eq!(ended.status, 1);
    assert!(ended.stderr.contains("no schedule is named 'gone'"), "{}", ended.stderr);
}

#[test]
fn a_new_key_is_printed_alone_so_that_scripts_can_take_it() {
    let server = Server::start(|_| (201, json!({ "id": 2, "token": "car_x" })));
    let line = ["token", "new", "bot", "--role", "operator", "--url", &server.url];
    let ended = carillon(directory().path(), &line, &[]);
    assert_eq!(ended.stdout, "car_x\n");
    let request = server.seen().remove(0);
    assert_eq!(request.line, "POST /api/admin/keys");
    assert_eq!(request.body, json!({ "name": "bot", "role": "operator" }));
    let json = carillon(directory().path(), &[&line[..], &["--json"]].concat(), &[]);
    let answer: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(answer["id"], 2);
}

#[test]
fn the_supervision_tree_is_drawn_as_one() {
    let tree = json!({
        "path": "root", "state": "running", "restarts": 0,
        "children": [{
            "path": "time", "state": "running", "restarts": 0,
            "children": [{
                "path": "time.scheduler", "state": "backoff", "restarts": 2, "mailboxDepth": 3,
                "lastCrash": { "kind": "panic", "reason": "boom" },
            }],
        }],
    });
    let server = Server::start(move |_| (200, tree.clone()));
    let ended = carillon(directory().path(), &["admin", "actors", "--url", &server.url], &[]);
    assert_eq!(
        ended.stdout,
        "ACTOR          STATE    RESTARTS  MAILBOX  LAST CRASH\n\
         root           running  0         -        -\n\
         \u{20} time         running  0         -        -\n\
         \u{20}   scheduler  backoff  2         3        panic: boom\n"
    );
}
