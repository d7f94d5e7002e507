//! `carillon doctor`: what is in force, where it comes from, and whether it will work here.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::output::{grid, say};
use super::{FAILED, ServerFlags, hooks};
use crate::config::{Loaded, Settings, Source, variable_of};
use crate::tasks::ControlGroups;

pub(super) const EXAMPLE: &str = "\
Examples:
  carillon doctor
  carillon doctor --config carillon.toml --json";

/// The settings in force and the state of this machine.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    flags: ServerFlags,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// One thing looked at.
struct Check {
    name: &'static str,
    outcome: Result<String, String>,
}

pub(super) fn run(command: Doctor) -> ExitCode {
    let loaded = match command.flags.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let settings = &loaded.settings;
    let checks = [
        Check { name: "data directory", outcome: check_directory(&settings.server.data_dir) },
        Check { name: "listen address", outcome: check_listen(settings.server.listen) },
        Check { name: "database", outcome: check_database(settings) },
        Check {
            name: "control groups",
            outcome: ControlGroups::of_setting(&settings.limits.cgroup).describe(),
        },
    ];
    let is_well = checks.iter().all(|check| check.outcome.is_ok());
    say(&if command.json { as_json(&loaded, &checks) } else { as_text(&loaded, &checks) });
    if is_well { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn check_database(settings: &Settings) -> Result<String, String> {
    hooks::check_database(settings)
}

/// Whether files can be made there; a missing directory is made at start, so its parent counts.
fn check_directory(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let fault = |error: io::Error| format!("{shown}: {error}; choose another with --data-dir");
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(format!("{shown} is not a directory")),
        Ok(_) => {
            let probe = path.join(format!(".carillon-doctor-{}", std::process::id()));
            std::fs::File::create_new(&probe).map_err(fault)?;
            std::fs::remove_file(&probe).map_err(fault)?;
            Ok(format!("{shown} is writable"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or_else(|| Path::new("."));
            match parent == path {
                true => Err(fault(error)),
                false => check_directory(parent).map(|_| format!("{shown} will be made")),
            }
        }
        Err(error) => Err(fault(error)),
    }
}

fn check_listen(address: SocketAddr) -> Result<String, String> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Err(format!("{address} is in use, perhaps by a running server; choose with --listen"))
        }
        Err(error) => Err(format!("{address}: {error}; choose another with --listen")),
    }
}

fn as_text(loaded: &Loaded, checks: &[Check]) -> String {
    let settings: Vec<Vec<String>> = loaded
        .origins
        .iter()
        .map(|origin| vec![origin.key.clone(), origin.value.clone(), describe(&origin.source)])
        .collect();
    let checks: Vec<Vec<String>> = checks
        .iter()
        .map(|check| match &check.outcome {
            Ok(text) => vec!["ok".to_owned(), check.name.to_owned(), text.clone()],
            Err(text) => vec!["FAILED".to_owned(), check.name.to_owned(), text.clone()],
        })
        .collect();
    let settings = grid(&["SETTING", "VALUE", "FROM"], &settings);
    let checks = grid(&["CHECK", "OF", "FOUND"], &checks);
    format!("{settings}\n\n{checks}")
}

fn describe(source: &Source) -> String {
    match source {
        Source::Default => String::new(),
        source => source.to_string(),
    }
}

fn as_json(loaded: &Loaded, checks: &[Check]) -> String {
    let settings: Vec<Value> = loaded
        .origins
        .iter()
        .map(|origin| {
            json!({
                "key": origin.key,
                "value": origin.value,
                "source": origin.source.to_string(),
                "variable": variable_of(&origin.key),
            })
        })
        .collect();
    let checks: Vec<Value> = checks
        .iter()
        .map(|check| {
            let (Ok(text) | Err(text)) = &check.outcome;
            json!({ "name": check.name, "ok": check.outcome.is_ok(), "message": text })
        })
        .collect();
    format!("{:#}", json!({ "settings": settings, "checks": checks }))
}
