//! The database goes away and comes back.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::server::{Backend, Server};
use crate::support::postgres::Cluster;
use crate::support::proxy::Mood;

/// Reads and writes are refused with 503 and `Retry-After`, the fastest within a second: a machine
/// that does other things may delay some, but none for as long as the outage.
fn is_refused_at_once(server: &Server) {
    let list = "/api/execution/executions";
    let run = json!({"taskType": "shell_command", "taskConfig": {"command": "true"}});
    let mut fastest = Duration::MAX;
    for turn in 0..6 {
        let (method, body) = if turn % 2 == 0 { ("GET", &Value::Null) } else { ("POST", &run) };
        let asked = Instant::now();
        let (head, body) = server.exchange(method, list, body).unwrap();
        let took = asked.elapsed();
        assert!(head.starts_with("http/1.1 503"), "{method}: {head}");
        assert!(head.contains("\r\nretry-after: "), "{head}");
        assert!(body.contains("\"database_unavailable\""), "{body}");
        assert!(took < Duration::from_secs(4), "{method} took {took:?}");
        fastest = fastest.min(took);
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    assert_eq!(server.call("GET", "/livez", &Value::Null).0, 200);
}

#[test]
fn a_stopped_database_is_refused_within_a_second() {
    let cluster = Cluster::start(true);
    let mut server = Server::on(&cluster).started();
    cluster.crash();
    is_refused_at_once(&server);
    cluster.resume();
    let back = Instant::now();
    server.ready();
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
}

#[test]
fn a_database_that_falls_silent_is_refused_within_a_second() {
    let cluster = Cluster::start(true);
    let (proxy, url) = cluster.through_proxy("postgres");
    let mut server = Server::at(url).started();
    let gate = server.path("gate");
    let command = format!("until test -e {}; do sleep 0.02; done", gate.display());
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": command}}),
    );
    let path = format!("/api/execution/executions/{}", run["id"]);
    server.until("it runs", |server| server.get(&path)["status"] == "running");
    proxy.set(Mood::Silent);
    is_refused_at_once(&server);
    server.until("it knows", |server| server.call("GET", "/readyz", &Value::Null).0 == 503);
    std::fs::write(&gate, "").unwrap();
    proxy.set(Mood::Open);
    let back = Instant::now();
    server.ready();
    let ended = server.ended(&run["id"]);
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("completed"), &json!(1)));
}

#[test]
fn a_database_with_a_certificate_is_reached_when_it_can_be_trusted() {
    let cluster = Cluster::encrypted();
    let url = cluster.encrypted_url("postgres", "verify-full");
    let root = cluster.root_certificate();
    let server = Server::at(url).with("SSL_CERT_FILE", root.to_str().unwrap()).started();
    let open_ones = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'carillon'";
    assert_eq!(cluster.query(open_ones), "t");
    assert_eq!(server.call("GET", "/readyz", &Value::Null).0, 200);
}

#[test]
fn a_cancel_reaches_a_task_on_another_node() {
    let mut here = Server::new(Backend::Postgres).started();
    let run = here.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": "sleep 60"}}),
    );
    let path = format!("/api/execution/executions/{}", run["id"]);
    here.until("it runs", |server| server.get(&path)["status"] == "running");
    let there = here.neighbour().started();
    there.post(&format!("{path}/cancel"), &Value::Null);
    let asked = Instant::now();
    assert_eq!(here.ended(&run["id"])["status"], "cancelled");
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "sooner than the beat: {:?}",
        asked.elapsed()
    );
}

#[test]
fn a_postgres_that_is_not_there_yet_is_waited_for() {
    let cluster = Cluster::start(true);
    cluster.crash();
    let mut server = Server::on(&cluster);
    server.spawn();
    server.until("it is alive", |server| server.call("GET", "/livez", &Value::Null).0 == 200);
    assert_eq!(server.call("GET", "/readyz", &Value::Null).0, 503);
    cluster.resume();
    server.ready();
}

#[test]
fn an_outage_loses_nothing_and_answers_503() {
    let cluster = Cluster::start(true);
    let mut server = Server::on(&cluster).started();
    let gate = server.path("gate");
    let command = format!("until test -e {}; do sleep 0.02; done", gate.display());
    let run = server.post(
        "/api/execution/executions",
        &json!({"taskType": "shell_command", "taskConfig": {"command": command}}),
    );
    let path = format!("/api/execution/executions/{}", run["id"]);
    server.until("it runs", |server| server.get(&path)["status"] == "running");
    cluster.crash();
    server.until("reads are refused", |server| server.call("GET", &path, &Value::Null).0 == 503);
    assert_eq!(server.call("GET", "/livez", &Value::Null).0, 200);
    // The task ends while the database is away; its end waits for it.
    std::fs::write(&gate, "").unwrap();
    cluster.resume();
    server.until("the end is stored", |server| {
        server.call("GET", &path, &Value::Null).1["status"] == "completed"
    });
    assert_eq!(server.get(&path)["attempt"], 1);
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let server = Server::new(Backend::Sqlite).started();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_carillon"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.path("."))
        .output()
        .unwrap();
    assert!(!status.status.success());
    let said = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(said.contains("lock") || said.contains("another process"), "{said}");
}
