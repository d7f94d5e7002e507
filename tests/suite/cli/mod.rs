//! The program as a user calls it: exit status, output, and what it asks of a server.

mod client;
mod server;
mod settings;

use std::path::Path;
use std::process::Command;

/// What a call ended with.
pub(super) struct Ended {
    pub(super) status: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Calls the program in `directory` with nothing of our environment.
pub(super) fn carillon(directory: &Path, line: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_carillon"));
    command.args(line).env_clear().envs(environment.iter().copied()).current_dir(directory);
    let output = command.output().expect("the program starts");
    Ended {
        status: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}
