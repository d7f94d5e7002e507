//! `carillon bench`: what this machine does with this binary and this store.
//!
//! Each scenario starts a system of its own, in this process or as a server beside it, loads it and
//! reports figures. They are measured from what a user sees: rows that ended, tasks that note when
//! they ran, answers and messages that came. The store is durable as in production: nothing is
//! switched off for a better figure.
//!
//! Not here: pass or fail. Figures depend on the machine; tests do not.

mod crash;
mod events;
mod fanout;
mod http;
mod kill;
mod latency;
mod load;
mod machine;
mod report;
mod server;
mod start;
mod throughput;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

pub use report::{Figure, Report};

use crate::config::Settings;

/// What is measured and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Settings of the system, the store among them; its data directory is a fresh one.
    pub settings: Settings,
    /// Where scenarios make their directories.
    pub scratch: PathBuf,
    /// How long a scenario measures.
    pub time: Duration,
    /// Live sessions of the fan-out scenario.
    pub clients: Vec<usize>,
}

type Scenario = for<'a> fn(&'a Plan, &'a mut Report) -> LocalBoxFuture<'a, Result<(), String>>;

/// Every scenario: its name, what it measures, how.
pub const SCENARIOS: [(&str, &str, Scenario); 11] = [
    ("throughput", "no-op functions a second, whole way", |plan, report| {
        Box::pin(throughput::functions(plan, report))
    }),
    ("drain", "a stored backlog of 100,000", |plan, report| {
        Box::pin(throughput::drain(plan, report))
    }),
    ("pick-up", "from an acknowledged creation to running", |plan, report| {
        Box::pin(latency::pick_up(plan, report))
    }),
    ("lateness", "from the instant due to running, 1 to 10,000 schedules", |plan, report| {
        Box::pin(latency::lateness(plan, report))
    }),
    ("events", "from a posted event to its task, and on to the next", |plan, report| {
        Box::pin(events::run(plan, report))
    }),
    ("shell", "shell commands a second", |plan, report| Box::pin(throughput::shell(plan, report))),
    ("crash", "from an actor's crash to work resumed", |plan, report| {
        Box::pin(crash::run(plan, report))
    }),
    ("kill", "from kill -9 of the server to work resumed", |plan, report| {
        Box::pin(kill::run(plan, report))
    }),
    ("start", "start, memory and idle cost, empty and with 100,000 schedules", |plan, report| {
        Box::pin(start::run(plan, report))
    }),
    ("http", "triggers and reads a second over HTTP", |plan, report| {
        Box::pin(http::run(plan, report))
    }),
    ("fan-out", "one event to many live sessions", |plan, report| {
        Box::pin(fanout::run(plan, report))
    }),
];

/// Runs the scenarios that `names` ask for, or all.
///
/// # Errors
/// A sentence for a person: a name that is none, a database that is in use, what failed.
pub async fn run(plan: &Plan, names: &[String]) -> Result<Report, String> {
    for name in names {
        if !SCENARIOS.iter().any(|(known, _, _)| known == name) {
            let known: Vec<&str> = SCENARIOS.iter().map(|(known, _, _)| *known).collect();
            return Err(format!("there is no scenario `{name}`; there are {}", known.join(", ")));
        }
    }
    let mut report = Report::new(plan);
    machine::run(plan, &mut report).map_err(|error| format!("machine: {error}"))?;
    for (name, _, scenario) in SCENARIOS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            tracing::info!(scenario = name, "measuring");
            server::make_room(plan).await?;
            scenario(plan, &mut report).await.map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(report)
}
