//! `carillon migrate`.

use std::process::ExitCode;

use super::output::{complain, say};
use super::{FAILED, ServerFlags, hooks};

pub(super) const EXAMPLE: &str = "\
Examples:
  carillon migrate
  carillon migrate --database-url postgres://carillon:secret@localhost/carillon";

pub(super) fn run(flags: ServerFlags) -> ExitCode {
    let loaded = match flags.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    match hooks::migrate(&loaded.settings) {
        Ok(done) => {
            say(&done);
            ExitCode::SUCCESS
        }
        Err(reason) => {
            complain(&reason);
            ExitCode::from(FAILED)
        }
    }
}
