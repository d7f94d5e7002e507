//! Starts the command, and says why one could not be started.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{Access, access};
use rustix::process::Pid;

use crate::exec;
use crate::protocol::{End, Report, Spec, StartFault};

/// Starts what `spec` names, in a process group of its own.
pub(crate) fn start(spec: &Spec) -> Result<Pid, StartFault> {
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
pub(crate) fn start_fault(program: &str, error: &io::Error) -> StartFault {
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

/// The report of a command that could not be started.
pub(crate) const fn not_started(fault: StartFault) -> Report {
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
