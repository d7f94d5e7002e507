//! The shim as a program of its own. The server carries it within its binary and starts it for each
//! command.

use std::process::ExitCode;

fn main() -> ExitCode {
    let argument = std::env::args_os().nth(1);
    // Whoever starts it by hand learns nothing by it: it speaks to the server alone.
    argument.and_then(|word| carillon_shim::main(&word)).unwrap_or(ExitCode::FAILURE)
}
