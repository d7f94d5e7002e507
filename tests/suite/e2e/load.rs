//! More is due than can be done: the server starts, keeps its lease and hears people all the same.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::Server;
use crate::support::postgres::Cluster;
use crate::support::proxy::Mood;

const SCHEDULES: &str = "/api/scheduler/schedules";
/// Together they are due far more often than transactions are made over a slow network.
const COUNT: usize = 60;
/// What each packet is late by: a firing takes a dozen.
const LATE: Duration = Duration::from_millis(10);

fn schedule(name: &str) -> Value {
    json!({
        "name": name, "scheduleType": "interval", "scheduleConfig": {"intervalMs": 100},
        "taskType": "function", "taskConfig": {"name": "health:check", "payload": {}},
        "overlapPolicy": "skip", "maxConcurrent": 1,
    })
}

#[test]
fn a_scheduler_that_never_catches_up_is_ready_and_hears_of_changes() {
    let cluster = Cluster::start(false);
    let (network, url) = cluster.through_proxy("postgres");
    let mut server = Server::at(url).with("CARILLON_EXECUTOR__LEASE_MS", "5000").started();
    server.post("/api/scheduler/stop", &Value::Null);
    // A request takes a while: each has its own instants.
    for number in 0..COUNT {
        server.post(SCHEDULES, &schedule(&format!("busy {number}")));
    }
    server.post("/api/scheduler/start", &Value::Null);
    server.terminate();
    network.set(Mood::Slow(LATE));
    server.start();
    let boots = "SELECT count(*) FROM nodes WHERE stopped_at IS NULL";
    assert_eq!(cluster.query(boots), "1");
    let late = server.post(SCHEDULES, &schedule("late comer"));
    let fired =
        format!("SELECT count(*) > 0 FROM task_executions WHERE schedule_id = {}", late["id"]);
    server.until("the late comer fires", |_| cluster.query(&fired) == "t");
    // Three leases on, it is the same boot, and a stop is heard.
    let beats = "SELECT count(*) FROM nodes WHERE stopped_at IS NULL AND lease_until > now() \
                 AND now() > started_at + interval '15 s'";
    server.until("its lease is kept", |_| cluster.query(beats) == "1");
    assert_eq!(cluster.query(boots), "1");
    server.post("/api/scheduler/stop", &Value::Null);
    let rows = "SELECT coalesce(max(id), 0) FROM task_executions WHERE created_at > now() - interval '1 s'";
    server.until("the stop is heard", |_| cluster.query(rows) == "0");
}
