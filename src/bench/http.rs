//! Requests a second over HTTP: triggers of a schedule and reads of an execution, on kept
//! connections, each client waiting for its answer.

use std::time::Duration;

use tokio::time::Instant;

use super::load::float;
use super::server::Server;
use super::{Plan, Report};

/// Connections at the same time.
const CLIENTS: usize = 32;

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let server = Server::start(plan, "http").await?;
    let mut client = server.connect().await?;
    let schedule = r#"{"name":"bench-http","taskType":"function","taskConfig":{"name":"noop"},
        "scheduleType":"interval","scheduleConfig":{"intervalMs":86400000},"overlapPolicy":"allow"}"#;
    let id = client.create("/api/scheduler/schedules", schedule).await?;
    let trigger = format!("/api/scheduler/schedules/{id}/trigger");
    let read = format!("/api/execution/executions/{}", client.create(&trigger, "").await?);
    for (name, method, path) in [("trigger", "POST", &trigger), ("read an execution", "GET", &read)]
    {
        let clients = (0..CLIENTS).map(|_| one(&server, plan.time, method, path));
        let waits = futures_util::future::try_join_all(clients).await?;
        let mut waits: Vec<f64> = waits.into_iter().flatten().collect();
        let rate = float(waits.len()) / plan.time.as_secs_f64();
        report.add("http", format!("{name}: rate with {CLIENTS} clients"), rate, "requests/s");
        report.add_times("http", name, &mut waits, &[0.5, 0.99]);
    }
    server.stop().await
}

async fn one(
    server: &Server,
    time: Duration,
    method: &str,
    path: &str,
) -> Result<Vec<f64>, String> {
    let mut client = server.connect().await?;
    let until = Instant::now() + time;
    let mut waits = Vec::new();
    while Instant::now() < until {
        let sent = Instant::now();
        let (status, body) = client.call(method, path, "").await?;
        if status >= 300 {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        waits.push(sent.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(waits)
}
