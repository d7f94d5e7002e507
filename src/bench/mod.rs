//! `carillon bench`: what this machine does with this binary and this store.
//!
//! Each scenario starts a system of its own, loads it, and reports figures. They are measured from
//! what a user sees (rows that ended, instants in the rows), never from what a part claims of
//! itself. The store is durable as in production: nothing is switched off for a better figure.
//!
//! Not here: pass or fail. Figures depend on the machine; tests do not.

mod load;
mod report;
mod throughput;

use std::path::PathBuf;
use std::time::Duration;

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
}

/// Runs what `names` ask for, or all.
///
/// # Errors
/// A sentence for a person.
pub async fn run(plan: &Plan, _names: &[String]) -> Result<Report, String> {
    let mut report = Report::new(plan);
    throughput::run(plan, &mut report).await?;
    Ok(report)
}
