//! Logs from outside: live, after a crash, and of tasks that flood.

use std::process::Command;

use serde_json::{Value, json};

use super::on_both_stores;
use super::server::{Backend, Server};

on_both_stores! {
    output_is_readable_while_a_task_runs_and_after_the_server_died,
    tail_prints_every_line_once_while_the_task_writes,
    floods_are_cut_visibly_and_cost_no_memory,
}

fn run(server: &Server, command: &str) -> Value {
    let body = json!({
        "taskType": "shell_command", "taskConfig": {"command": command},
        "retryPolicy": {"maxAttempts": 1},
    });
    server.post("/api/execution/executions", &body)["id"].clone()
}

fn log(server: &Server, id: &Value) -> Vec<Value> {
    let mut lines: Vec<Value> = Vec::new();
    loop {
        let after = lines.last().map_or(0, |line| line["line"].as_i64().unwrap());
        let path = format!("/api/execution/executions/{id}/logs?after={after}&limit=500");
        let page = server.get(&path)["items"].as_array().unwrap().clone();
        if page.is_empty() {
            return lines;
        }
        lines.extend(page);
    }
}

fn output_is_readable_while_a_task_runs_and_after_the_server_died(backend: Backend) {
    let mut server = Server::new(backend).with("CARILLON_EXECUTOR__LEASE_MS", "2000").started();
    let id = run(&server, "echo one; echo two >&2; printf 'no end'; sleep 60");
    let texts = |lines: &[Value]| -> Vec<(String, String)> {
        let field = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        let mut found: Vec<_> =
            lines.iter().map(|line| (field(line, "stream"), field(line, "text"))).collect();
        found.sort();
        found
    };
    let expected = [("stderr", "two"), ("stdout", "one")]
        .map(|(stream, text)| (stream.to_owned(), text.to_owned()));
    server.until("both lines are stored", |server| log(server, &id).len() == 2);
    assert_eq!(texts(&log(&server, &id)), expected);
    let running = server.get(&format!("/api/execution/executions/{id}"));
    assert_eq!(running["status"], "running");
    server.kill();
    server.start();
    assert_eq!(texts(&log(&server, &id)), expected, "what was said before the crash");
}

fn tail_prints_every_line_once_while_the_task_writes(backend: Backend) {
    let server = Server::new(backend).started();
    let command = "for n in $(seq 1 400); do echo line $n; test $((n % 40)) = 0 && sleep 0.1; done";
    let id = run(&server, command);
    let output = Command::new(env!("CARGO_BIN_EXE_carillon"))
        .args(["execution", "tail", &id.to_string(), "--url", &server.url()])
        .args(["--token", server.token()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let expected: Vec<String> = (1..=400).map(|number| format!("line {number}")).collect();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..400.min(lines.len())], expected, "{}", lines.len());
    assert_eq!(lines[400..], [format!("execution {id}: completed")]);
    assert!(output.status.success());
}

fn floods_are_cut_visibly_and_cost_no_memory(backend: Backend) {
    const LINES: i64 = 40_000;
    const FLOOD: &str = "yes 'a line of forty-nine characters, as many a log has' | head -n 40000";
    const TASKS: usize = 9;
    let mut server = Server::new(backend).started();
    // The first ones fill what has a fixed size: the pages that each connection to SQLite keeps.
    let first: Vec<Value> = (0..3).map(|_| run(&server, FLOOD)).collect();
    for id in &first {
        server.ended(id);
        log(&server, id);
    }
    let before = server.resident();
    let ids: Vec<Value> = (0..TASKS).map(|_| run(&server, FLOOD)).collect();
    let mut most = before;
    server.until("all floods ended", |server| {
        most = most.max(server.resident());
        let list = "/api/execution/executions?status=pending,running&limit=1";
        server.get(list)["total"] == 0
    });
    let grown = most.saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "{TASKS} floods cost {grown} bytes");
    for id in ids {
        let execution = server.get(&format!("/api/execution/executions/{id}"));
        assert_eq!(execution["status"], "completed");
        let result = &execution["result"];
        assert_eq!(result["truncated"], true);
        let kept = result["stdout"].as_str().unwrap().len();
        assert!(kept <= 1024 * 1024 + 100, "{kept}");
        let lines = log(&server, &id);
        assert!(lines.len() < 20_000, "{}", lines.len());
        let (mut number, mut gaps) = (1, 0);
        for line in &lines {
            assert_eq!(line["line"], number, "no line is missing without a word");
            let gap = &line["dropped"]["lines"];
            gaps += i64::from(gap.is_i64());
            number += gap.as_i64().unwrap_or(1);
        }
        assert_eq!((number, gaps > 0), (LINES + 1, true));
        let end = lines.last().unwrap()["text"].as_str().unwrap();
        assert_eq!(end, "a line of forty-nine characters, as many a log has", "the end is kept");
    }
}
