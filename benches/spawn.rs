//! What a shim costs: `true` through the runtime's shell tasks against a bare spawn.
//!
//! `cargo bench --bench spawn`. Prints medians and 99th percentiles in microseconds, one at a time,
//! and how many a second go through with several at once. Not a test: it promises nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark, for people"
)]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carillon::clock::Clock;
use carillon::domain::task::Task;
use carillon::tasks::function::FunctionRegistry;
use carillon::tasks::{
    LogLine, Outcome, Progress, TaskContext, TaskControl, TaskEnvironment, TaskSettings, TaskSink,
};
use serde_json::json;
use uuid::Uuid;

/// Runs one at a time.
const ROUNDS: usize = 300;
/// Between them, so that a shim waits again.
const REST: Duration = Duration::from_millis(20);
/// Runs with several at once, and how many those are.
const CROWD_ROUNDS: usize = 1_000;
const CROWD: usize = 8;

struct Deaf;

impl TaskSink for Deaf {
    fn log(&self, _: LogLine) {}
    fn progress(&self, _: Progress) {}
}

fn context() -> TaskContext {
    TaskContext {
        execution_id: Uuid::now_v7(),
        chain_id: Uuid::now_v7(),
        attempt: 1,
        schedule_id: None,
        scheduled_at: Clock::system().now(),
        fencing_token: 1,
        traceparent: None,
        event: None,
        timeout: Duration::from_secs(60),
    }
}

async fn run(environment: &TaskEnvironment, task: &Task) {
    let control = TaskControl::new(None);
    let outcome = environment.run(task, context(), control, Arc::new(Deaf)).await;
    assert!(matches!(outcome, Outcome::Completed { .. }), "{outcome:?}");
}

fn tell(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what:<28} p50 {:>6} us   p99 {:>6} us", at(50).as_micros(), at(99).as_micros());
    at(50)
}

#[actix_rt::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let settings = TaskSettings::new(directory.path().to_owned());
    let environment =
        TaskEnvironment::new(settings, FunctionRegistry::with_builtin(), Clock::system()).unwrap();
    let environment = Arc::new(environment);
    let shell = |config| Arc::new(Task::parse("shell_command", &config).unwrap());
    let plain = shell(json!({"command": "/bin/true", "args": []}));
    let limited = shell(json!({"command": "/bin/true", "args": [], "limits": {"openFiles": 64}}));

    let mut bare = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        assert!(Command::new("/bin/true").status().unwrap().success());
        bare.push(start.elapsed());
    }
    let bare = tell("bare spawn", bare);
    for (what, task) in [("shell task", &plain), ("shell task with limits", &limited)] {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            actix_rt::time::sleep(REST).await;
            let start = Instant::now();
            run(&environment, task).await;
            times.push(start.elapsed());
        }
        let median = tell(what, times);
        println!("{:<28} +{} us", "  over a bare spawn", median.saturating_sub(bare).as_micros());
    }
    let start = Instant::now();
    let crowd = (0..CROWD).map(|_| {
        let (environment, task) = (Arc::clone(&environment), Arc::clone(&plain));
        actix_rt::spawn(async move {
            for _ in 0..CROWD_ROUNDS / CROWD {
                run(&environment, &task).await;
            }
        })
    });
    futures_util::future::join_all(crowd).await;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let rate = CROWD_ROUNDS as f64 / start.elapsed().as_secs_f64();
    println!("{:<28} {rate:.0} a second, {CROWD} at once", "shell tasks");
}
