//! The `carillon` binary: the shim that runs a shell task, or the command line.

use std::process::ExitCode;

use carillon::tasks::shim;

/// Rows, events and requests are many small allocations that one thread makes and another frees,
/// which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let is_first = |word| arguments.get(1).is_some_and(|first| first == word);
    let (is_shim, is_exec) = (is_first(shim::ARGUMENT), is_first(shim::EXEC_ARGUMENT));
    // Huge pages under each thread's small heap double what an idle server weighs, and a shim
    // would clear two megabytes for a few kilobytes. Tasks inherit the choice, so that whoever
    // starts them takes it back. A kernel without them refuses: nothing is lost.
    let _refused = rustix::thread::disable_transparent_huge_pages(!is_exec);
    // Before anything else: a shim must stay small and start nothing of the server.
    if is_shim {
        return shim::main();
    }
    if is_exec {
        return shim::exec_main();
    }
    carillon::cli::run(arguments)
}
