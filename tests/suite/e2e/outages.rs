//! The database goes away and comes back.

use serde_json::{Value, json};

use super::server::{Backend, Server};
use crate::support::postgres::Cluster;

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
