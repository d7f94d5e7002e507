//! From kill -9 of the server to work resumed: a schedule fires all the time, the server is killed
//! and started again at once, and the first run after it is waited for.
//!
//! What is counted is what an operator waits: the start of the process, the check of the file or
//! the connections, the tree's first pass, and the instants missed meanwhile.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::server::Server;
use super::{Plan, Report};

/// Kills.
const KILLS: usize = 20;
/// Time between two firings of the schedule: the resolution of the figure.
const INTERVAL_MS: u64 = 100;
/// Peace between two kills.
const PEACE: Duration = Duration::from_secs(1);
/// How long tasks of the killed server are given to write their marks; counted as recovery.
const LAST_MARKS: Duration = Duration::from_millis(20);
/// The longest that a resumption is waited for.
const RESUME_MAX: Duration = Duration::from_secs(60);

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let mut server = Server::start(plan, "kill").await?;
    let marks = plan.scratch.join("kill-marks");
    let command = format!("echo >> '{}'", marks.display());
    let schedule = json!({
        "name": "bench-kill", "taskType": "shell_command", "taskConfig": {"command": command},
        "scheduleType": "interval", "scheduleConfig": {"intervalMs": INTERVAL_MS},
        "overlapPolicy": "allow", "misfirePolicy": "coalesce",
    });
    let path = "/api/scheduler/schedules";
    let id = server.connect().await?.create(path, &schedule.to_string()).await?;
    let count = || std::fs::metadata(&marks).map_or(0, |file| file.len());
    let mut resumed = Vec::with_capacity(KILLS);
    for _ in 0..KILLS {
        tokio::time::sleep(PEACE).await;
        server.kill().await?;
        let killed = Instant::now();
        // What was begun before the kill may still write its mark, and is no resumption.
        tokio::time::sleep(LAST_MARKS).await;
        let before = count();
        server = Server::start(plan, "kill").await?;
        while count() == before {
            if killed.elapsed() > RESUME_MAX {
                return Err("nothing ran after the server was killed".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        resumed.push(killed.elapsed().as_secs_f64() * 1_000.0);
    }
    let mut client = server.connect().await?;
    client.call("DELETE", &format!("{path}/{id}"), "").await?;
    let name = format!("kill -9 to the next run (fired each {INTERVAL_MS} ms)");
    report.add_times("kill", &name, &mut resumed, &[0.5, 0.99, 1.0]);
    server.stop().await
}
