//! `carillon task-shim`: the process between the server and one command.
//!
//! The same binary, started anew for each command. It leads a session of its own, inherits every
//! orphan of the command's tree (child subreaper), and therefore knows when nothing of it is
//! alive. It ends the whole tree when the command's timeout passes, on a cancel, when the lease
//! runs out, and when the server goes away, which it sees by the end of its socket. So no
//! descendant outlives the server by two seconds, whatever it does: `setsid`, double forks,
//! ignored TERM, stopped processes, fork storms.
//!
//! [`main`] runs it and must be reached before anything else of the program starts. [`Shimmed`] is
//! the server's side. [`adopt_orphans`] and [`hide_from_tasks`] are for the server's start.
//!
//! It also measures what the tree uses ([`meter`]) and ends one that is over a limit. A command
//! with limits or a user of its own goes through one more step between fork and exec ([`exec`]).
//!
//! Not here: isolation. A task runs as the server's user unless `runAs` says otherwise, and can end
//! its own shim; then the server hunts down what the shim left ([`stray`]).

mod exec;
mod meter;
mod process;
pub(crate) mod protocol;
mod reserve;
mod stray;
mod tree;
mod watch;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, getpid, getrlimit, set_child_subreaper,
    set_dumpable_behavior, setpriority_process, setrlimit, setsid, umask,
};
use rustix::thread::disable_transparent_huge_pages;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

pub use self::exec::{ARGUMENT as EXEC_ARGUMENT, main as exec_main};
pub(crate) use self::process::{Pipes, Shimmed};
use self::protocol::{End, Report, Spec, StartFault};
pub(crate) use self::reserve::Reserve;
pub use self::stray::adopt_orphans;
use self::watch::{Control, Watch};

/// The argument by which the binary knows that it is to be a shim.
pub const ARGUMENT: &str = "task-shim";

/// The longest wait between TERM and KILL when the server is gone or the lease has run out. With
/// the time to notice and to kill, nothing is alive two seconds after: on `SQLite`, leases of
/// earlier boots are void two seconds after start, and the next attempt may then begin.
pub const LOST_GRACE: Duration = Duration::from_millis(1_000);

/// The nice value of a shim that may choose.
const SHIM_PRIORITY: i32 = -10;

/// Runs the shim: reads what to run from standard input, runs it, reports, and exits.
///
/// Must be called before any thread, runtime or subscriber exists; it changes the whole process
/// (session, umask, limits, signal handlers).
#[must_use]
pub fn main() -> ExitCode {
    // Nobody reads our standard error, and the server takes silence for "the shim was lost".
    run().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Keeps tasks from reading this process's memory and environment, those of other users also from
/// reading the files that it makes from now on.
///
/// # Errors
/// When the kernel refuses.
pub fn hide_from_tasks() -> io::Result<()> {
    umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
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
    // Tasks are to have what the server does without, and this process too (see `main`).
    let _refused = disable_transparent_huge_pages(false);
    let started = start(&spec);
    let _refused = disable_transparent_huge_pages(true);
    // After the start, so that the task does not inherit it: among hundreds of processes that want
    // the processor the one that ends them must get it. Only root may; others do without.
    let _refused = setpriority_process(None, SHIM_PRIORITY);
    let (control, report) = match started {
        Ok(main) => Watch::new(control, wake, main, &spec).run(),
        Err(fault) => (control, not_started(fault)),
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

fn start(spec: &Spec) -> Result<Pid, StartFault> {
    let child = if exec::is_needed(spec) { exec::spawn(spec)? } else { spawn(spec)? };
    // The handle is dropped on purpose: its status is taken with those of all other children.
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| StartFault::new("internal", "the new process has no usable id"))
}

fn spawn(spec: &Spec) -> Result<Child, StartFault> {
    let cwd = spec.cwd.as_deref().unwrap_or("/");
    if !Path::new(cwd).is_dir() {
        return Err(StartFault::new("invalid_config", format!("`cwd` is not a directory: {cwd}")));
    }
    Command::new(find_program(spec))
        .arg0(&spec.program)
        .args(&spec.args)
        .current_dir(cwd)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        // Its own group, so that `kill 0` in a script does not mean us.
        .process_group(0)
        .spawn()
        .map_err(|error| start_fault(&spec.program, &error))
}

/// The program's file, if it is named without one. Found here, the command is started without a
/// copy of this process's memory; with a search of its own the library has to make one.
fn find_program(spec: &Spec) -> PathBuf {
    let program = Path::new(&spec.program);
    let path = spec.env.iter().rfind(|(name, _)| name == "PATH").map(|(_, value)| value);
    let is_program = |file: &PathBuf| {
        file.is_absolute() && file.is_file() && access(file, Access::EXEC_OK).is_ok()
    };
    path.filter(|_| !spec.program.is_empty() && !spec.program.contains('/'))
        .and_then(|path| {
            path.split(':').map(|folder| Path::new(folder).join(program)).find(is_program)
        })
        // What is not found fails in the library's words.
        .unwrap_or_else(|| program.to_owned())
}

/// Why `program` could not be started.
fn start_fault(program: &str, error: &io::Error) -> StartFault {
    match error.kind() {
        io::ErrorKind::NotFound => {
            StartFault::new("command_not_found", format!("there is no program `{program}`"))
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ExecutableFileBusy => {
            StartFault::new("not_executable", format!("`{program}` cannot be run: {error}"))
        }
        io::ErrorKind::ArgumentListTooLong | io::ErrorKind::InvalidInput => {
            StartFault::new("invalid_config", format!("`{program}` cannot be run: {error}"))
        }
        // ENOEXEC has no kind of its own.
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            StartFault::new("not_executable", format!("`{program}` is not a program: {error}"))
        }
        _ => StartFault::new("internal", format!("`{program}` could not be started: {error}")),
    }
}

const fn not_started(fault: StartFault) -> Report {
    Report {
        end: End::NotStarted,
        exit_code: None,
        signal: None,
        killed: 0,
        peak_memory_bytes: 0,
        cpu_ms: 0,
        fault: Some(fault),
    }
}
