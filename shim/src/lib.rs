//! The process between Carillon and one command.
//!
//! A small program, started anew for each command: most of what a command costs that does little
//! is this start, and that of the server's own binary takes four times as long. The server carries
//! it within its binary; its own arguments [`ARGUMENT`] and [`EXEC_ARGUMENT`] do the same, for
//! machines that allow no program that lies in no file.
//!
//! It leads a session of its own, inherits every orphan of the command's tree (child subreaper),
//! and therefore knows when nothing of it is alive. It ends the whole tree when the command's
//! timeout passes, on a cancel, when the lease runs out, and when the server goes away, which it
//! sees by the end of its socket. So no descendant outlives the server by two seconds, whatever it
//! does: `setsid`, double forks, ignored TERM, stopped processes, fork storms.
//!
//! It also measures what the tree uses (`meter`) and ends one that is over a limit. A command with
//! limits or a user of its own goes through one more step between fork and exec (`exec`).
//!
//! [`main`] runs it and must be reached before anything else of a program starts. [`protocol`] is
//! what the server says to it and [`tree`] how both look at processes.
//!
//! Not here: isolation. A task runs as the server's user unless `runAs` says otherwise, and can end
//! its own shim; what that leaves, the server hunts down.

mod exec;
mod meter;
pub mod protocol;
mod start;
pub mod tree;
mod watch;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getpid, getrlimit, set_child_subreaper,
    set_dumpable_behavior, setpriority_process, setrlimit, setsid, umask,
};
use rustix::thread::disable_transparent_huge_pages;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

pub use self::exec::ARGUMENT as EXEC_ARGUMENT;
use self::protocol::Spec;
use self::watch::{Control, Watch};

/// The argument by which a program knows that it is to be a shim.
pub const ARGUMENT: &str = "task-shim";

/// The longest wait between TERM and KILL when the server is gone or the lease has run out. With
/// the time to notice and to kill, nothing is alive two seconds after: on `SQLite`, leases of
/// earlier boots are void two seconds after start, and the next attempt may then begin.
pub const LOST_GRACE: Duration = Duration::from_millis(1_000);

/// What limits of memory are counted in.
const MEBIBYTE: u64 = 1 << 20;
/// The nice value of a shim that may choose.
const SHIM_PRIORITY: i32 = -10;

/// Is the shim, or its last step before a command, when `argument` says so: reads what to run from
/// standard input, runs it, reports. `None` when the argument means neither.
///
/// Must be called before any thread, runtime or subscriber exists; it changes the whole process
/// (session, umask, limits, signal handlers).
#[must_use]
pub fn main(argument: &OsStr) -> Option<ExitCode> {
    if argument == ARGUMENT {
        // Nobody reads our standard error, and the server takes silence for "the shim was lost".
        return Some(run().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS));
    }
    (argument == EXEC_ARGUMENT).then(exec::main)
}

fn run() -> io::Result<()> {
    let wake = install_signals()?;
    become_reaper()?;
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    let mut control = Control::new(UnixStream::from(socket));
    let Some(line) = control.first_line()? else { return Ok(()) };
    let spec: Spec = serde_json::from_slice(&line)?;
    if let Some(limit) = spec.process_limit {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(Resource::Nproc, limit)?;
    }
    if let Some(soft) = spec.open_files {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let soft = maximum.map_or(soft, |most| most.min(soft));
        setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum })?;
    }
    // Tasks are to have what the server does without, and hands that down to this process.
    let _refused = disable_transparent_huge_pages(false);
    let started = start::start(&spec);
    let _refused = disable_transparent_huge_pages(true);
    // After the start, so that the task does not inherit it: among hundreds of processes that want
    // the processor the one that ends them must get it. Only root may; others do without.
    let _refused = setpriority_process(None, SHIM_PRIORITY);
    let (control, report) = match started {
        Ok(main) => Watch::new(control, wake, main, &spec).run(),
        Err(fault) => (control, start::not_started(fault)),
    };
    let mut line = serde_json::to_vec(&report)?;
    line.push(b'\n');
    control.socket().set_nonblocking(false)?;
    control.socket().write_all(&line)
}

/// Outlives the signals that end a whole group of processes (systemd's stop, a terminal): the
/// server decides, and if it ends, its socket does too. Answers with a socket that is readable
/// when a child has ended.
fn install_signals() -> io::Result<UnixStream> {
    let (wake, writer) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGCHLD, writer)?;
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(wake)
}

fn become_reaper() -> io::Result<()> {
    // Fails only for a process that already leads its group, such as one started by hand.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))?;
    // A set-uid descendant could not be signalled by us.
    rustix::thread::set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    // The name is for people who look at `ps`.
    let _ = rustix::thread::set_name(c"carillon-shim");
    Ok(())
}
