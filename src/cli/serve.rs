//! `carillon serve`.

use std::process::ExitCode;

use super::{ServerFlags, hooks};

pub(super) const EXAMPLE: &str = "\
Examples:
  carillon serve
  carillon serve --listen 127.0.0.1:8080 --data-dir /var/lib/carillon
  carillon serve --database-url postgres://carillon:secret@localhost/carillon
  CARILLON_EXECUTOR__SLOTS=16 carillon serve --config carillon.toml";

pub(super) fn run(flags: ServerFlags) -> ExitCode {
    match flags.load() {
        Ok(loaded) => hooks::serve(loaded.settings),
        Err(status) => status,
    }
}
