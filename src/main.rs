//! The `carillon` binary: the shim that runs a shell task, or the command line.

use std::process::ExitCode;

use carillon::tasks::shim;

/// Rows, events and requests are many small allocations that one thread makes and another frees,
/// which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // Before anything else: a shim must stay small and start nothing of the server.
    if arguments.get(1).is_some_and(|first| first == shim::ARGUMENT) {
        return shim::main();
    }
    if arguments.get(1).is_some_and(|first| first == shim::EXEC_ARGUMENT) {
        return shim::exec_main();
    }
    carillon::cli::run(arguments)
}
