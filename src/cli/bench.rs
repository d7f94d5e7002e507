//! `carillon bench`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::output::{complain, say};
use super::{FAILED, ServerFlags};
use crate::bench::{self, Plan};

pub(super) const EXAMPLE: &str = "\
Examples:
  carillon bench
  carillon bench throughput --seconds 10
  carillon bench --database-url postgres://carillon:secret@localhost/bench --json";

/// Measures this binary on this machine.
#[derive(Debug, Args)]
pub(super) struct Bench {
    /// What to measure (throughput, drain, pick-up, lateness, events, shell, crash, kill, start,
    /// http, fan-out); everything when nothing is named.
    scenarios: Vec<String>,
    /// How long each scenario measures.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,
    /// Live sessions of the fan-out scenario, one figure each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000], value_name = "COUNT")]
    clients: Vec<usize>,
    /// Prints the figures as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

pub(super) fn run(command: Bench) -> ExitCode {
    let loaded = match command.server.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let mut settings = loaded.settings;
    settings.log.level = "warn".to_owned();
    let scratch = std::env::temp_dir().join(format!("carillon-bench-{}", std::process::id()));
    let time = Duration::from_secs(command.seconds.max(1));
    let plan = Plan { settings, scratch, time, clients: command.clients };
    let outcome = actix_rt::System::new().block_on(bench::run(&plan, &command.scenarios));
    drop(std::fs::remove_dir_all(&plan.scratch));
    match outcome {
        Ok(report) if command.json => {
            say(&serde_json::to_string_pretty(&report).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Ok(report) => {
            say(&report.table());
            ExitCode::SUCCESS
        }
        Err(reason) => {
            complain(&reason);
            ExitCode::from(FAILED)
        }
    }
}
