//! The `carillon` binary: the shim that runs a shell task, or the command line.

use std::process::ExitCode;

use carillon::tasks::shim;

/// Rows, events and requests are many small allocations that one thread makes and another frees,
/// which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // Before anything else: a shim must stay small and start nothing of the server. It is a program
    // of its own, except on machines that allow none that lies in no file.
    if let Some(code) = arguments.get(1).and_then(|first| shim::main(first)) {
        return code;
    }
    // Huge pages under each thread's small heap double what an idle server weighs. Tasks inherit
    // the choice, so that their shim takes it back. A kernel without them refuses: nothing is lost.
    let _refused = rustix::thread::disable_transparent_huge_pages(true);
    carillon::cli::run(arguments)
}
