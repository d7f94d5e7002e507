//! How soon a server is ready, what it weighs and what it costs when it has nothing to do: empty,
//! and with 100,000 schedules of which none is due.

use std::time::Duration;

use chrono::Duration as Span;

use super::load;
use super::server::Server;
use super::{Plan, Report};
use crate::app::Embedded;

/// Schedules of the large case.
const MANY: usize = 100_000;
/// How long a started server is left alone before it is looked at.
const SETTLE: Duration = Duration::from_secs(2);
/// Starts of which the median is taken.
const STARTS: usize = 5;

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    measure(plan, report, "empty").await?;
    let embedded = Embedded::start(load::settings(plan, "start", 16)).await?;
    let first = embedded.system().parts().clock.now() + Span::days(30);
    let definitions =
        (0..MANY).map(|number| (load::marking_schedule(number, 3_600_000, first), first));
    let started = tokio::time::Instant::now();
    load::make_schedules(&embedded, definitions).await?;
    let rate = load::float(MANY) / started.elapsed().as_secs_f64();
    report.add("start", "schedules made", rate, "schedules/s");
    embedded.stop().await;
    measure(plan, report, "100,000 schedules").await
}

async fn measure(plan: &Plan, report: &mut Report, what: &str) -> Result<(), String> {
    let mut ready = Vec::with_capacity(STARTS);
    for _ in 1..STARTS {
        let server = Server::start(plan, "start").await?;
        ready.push(server.ready_after.as_secs_f64() * 1_000.0);
        server.stop().await?;
    }
    let server = Server::start(plan, "start").await?;
    ready.push(server.ready_after.as_secs_f64() * 1_000.0);
    ready.sort_unstable_by(f64::total_cmp);
    tokio::time::sleep(SETTLE).await;
    let process = server.process();
    let used = load::processor_seconds(&process);
    tokio::time::sleep(plan.time).await;
    let used = load::processor_seconds(&process) - used;
    let share = used / plan.time.as_secs_f64() * 100.0;
    report.add(
        "start",
        format!("{what}: start to ready, median"),
        load::percentile(&ready, 0.5),
        "ms",
    );
    report.add("start", format!("{what}: resident, idle"), load::resident_mib(&process), "MiB");
    report.add("start", format!("{what}: processor, idle"), share, "% of a core");
    server.stop().await
}
