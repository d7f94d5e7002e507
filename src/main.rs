//! The program: the shim that runs a shell task.

use std::process::ExitCode;

use carillon::tasks::shim;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == shim::ARGUMENT) {
        return shim::main();
    }
    ExitCode::SUCCESS
}
