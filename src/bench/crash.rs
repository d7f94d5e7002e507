//! From an actor's crash to work resumed: a schedule fires all the time, an actor is made to panic,
//! and the next run after it is waited for.

use std::time::Duration;

use chrono::Duration as Span;
use tokio::time::Instant;

use super::load::{self, Marks};
use super::{Plan, Report};
use crate::runtime::handles::{ActorCommand, CrashMode, Handles};

/// The actors without which nothing runs.
const ACTORS: [&str; 4] = ["time.scheduler", "work.executor", "work.recovery", "ground.events"];
/// Crashes of each: few, as the back-off grows with each crash within a minute.
const CRASHES: usize = 3;
/// Time between two firings of the schedule: the resolution of the figure.
const INTERVAL_MS: i64 = 100;
/// Peace between two crashes, so that the restart limit (ten in a minute a supervisor) is not what
/// is measured.
const PEACE: Duration = Duration::from_secs(4);
/// The longest that a resumption is waited for.
const RESUME_MAX: Duration = Duration::from_secs(20);

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let (embedded, marks) = Marks::system(load::settings(plan, "crash", 64)).await?;
    let system = embedded.system();
    let clock = &system.parts().clock;
    let first = clock.now() + Span::milliseconds(INTERVAL_MS);
    let schedule = load::marking_schedule(0, INTERVAL_MS, first);
    load::make_schedules(&embedded, std::iter::once((schedule, first))).await?;
    let mut resumed = Vec::new();
    for _ in 0..CRASHES {
        for actor in ACTORS {
            tokio::time::sleep(PEACE).await;
            let started = Instant::now();
            system
                .actor_command(actor, ActorCommand::Crash(CrashMode::Panic))
                .await
                .map_err(|error| error.to_string())?;
            drop(marks.take());
            while marks.count() == 0 {
                if started.elapsed() > RESUME_MAX {
                    return Err(format!("nothing ran after a crash of {actor}"));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            resumed.push(started.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    let name = format!("panic to the next run (fired each {INTERVAL_MS} ms)");
    report.add_times("crash", &name, &mut resumed, &[0.5, 0.99, 1.0]);
    embedded.stop().await;
    Ok(())
}
