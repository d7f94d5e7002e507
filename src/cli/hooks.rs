//! What the command line asks of the rest of the program, in one place.

use std::process::ExitCode;

use crate::app;
use crate::config::Settings;

/// Runs the server until it is told to stop.
pub(super) fn serve(settings: Settings) -> ExitCode {
    match app::serve(settings, super::output::say) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            super::output::complain(&reason);
            ExitCode::FAILURE
        }
    }
}

/// Brings the database to this version; a sentence for people either way.
pub(super) fn migrate(settings: &Settings) -> Result<String, String> {
    app::migrate(settings)
}

/// Reaches the database without changing it; a sentence for people either way.
pub(super) fn check_database(settings: &Settings) -> Result<String, String> {
    app::check_database(settings)
}
