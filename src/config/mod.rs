//! The settings of a server.
//!
//! Defaults (`config/default.toml`, compiled in), then the file of `--config`, then variables
//! `CARILLON_SECTION__KEY`, then flags. A wrong key or value is refused with one line that names
//! the key, where it stands and the cure; nothing is accepted and ignored. Where each value came
//! from is kept for `carillon doctor`, secrets masked.
//!
//! [`Settings::load`] is pure; [`load_from_process`] is the only function of the crate that reads
//! the environment. To add a key: `settings.rs`, its range in `checks.rs`, and its lines in
//! `config/default.toml`; tests compare the three.

mod checks;
mod error;
mod layers;
mod section;
mod settings;

#[cfg(test)]
mod config_tests;

use std::path::PathBuf;

pub use checks::{RANGES, parse_log_level};
pub use error::{ConfigError, Source};
pub use layers::{DEFAULT_TOML, FlagValue, Inputs, Loaded, Origin, PREFIX, mask_url, variable_of};
pub use section::{Millis, Secret};
pub use settings::{
    Admin, Auth, Conductor, Database, Egress, EgressMode, Events, Executor, Log, LogFormat,
    Recovery, Retention, Scheduler, Server, Settings, WebSocket,
};

/// Loads the settings of this process: its environment, and the file named by `--config`.
///
/// # Errors
/// As [`Settings::load`].
pub fn load_from_process(
    file: Option<PathBuf>,
    flags: Vec<FlagValue>,
) -> Result<Loaded, ConfigError> {
    let environment = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
        .collect();
    Settings::load(Inputs { file, environment, flags }, |path| std::fs::read_to_string(path))
}
