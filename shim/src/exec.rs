//! `carillon task-exec`: the last step before a command that has limits, a user or a control group
//! of its own.
//!
//! The shim starts it with a socket as standard input; it reads what to run, takes on the limits,
//! the group and the user, and becomes the command. What fails is written back as a
//! [`StartFault`]; silence means that the command runs. A command that has none of these is started
//! by the shim itself, which is faster.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::unistd::{Group, User, getgrouplist};
use rustix::io::FdFlags;
use rustix::process::{Gid, Resource, Rlimit, Uid, geteuid, getrlimit, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::MEBIBYTE;
use crate::protocol::{RunAs, Spec, StartFault};
use crate::start::start_fault;

/// The argument by which the binary knows that it is to become a command.
pub const ARGUMENT: &str = "task-exec";

/// How much more than the memory limit one process may map and write to (`RLIMIT_DATA`): the tree
/// is measured every few milliseconds, and this bounds what one process can do in between.
const DATA_MARGIN: u64 = 1 << 30;

/// Whether `spec` asks for anything that must be set between fork and exec.
pub(crate) fn is_needed(spec: &Spec) -> bool {
    let limits = &spec.limits;
    spec.run_as.is_some()
        || spec.cgroup.is_some()
        || limits.memory_mb.is_some()
        || limits.cpu_ms.is_some()
        || limits.open_files.is_some()
}

/// Starts the command of `spec` by way of this program; the answer comes when the command runs.
pub(crate) fn spawn(spec: &Spec) -> Result<Child, StartFault> {
    let broken = |error: io::Error| StartFault::new("internal", format!("task-exec: {error}"));
    let (mut ours, theirs) = UnixStream::pair().map_err(broken)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("carillon")
        .arg(ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .process_group(0)
        .spawn()
        .map_err(broken)?;
    let mut line = serde_json::to_vec(spec).map_err(|error| broken(error.into()))?;
    line.push(b'\n');
    ours.write_all(&line).map_err(broken)?;
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).map_err(broken)?;
    if answer.is_empty() {
        return Ok(child);
    }
    child.wait().map_err(broken)?;
    Err(serde_json::from_slice(&answer).unwrap_or_else(|error| broken(error.into())))
}

/// Runs the step; comes back only when it failed.
pub(crate) fn main() -> ExitCode {
    // A copy that the command does not inherit: a failed exec has replaced standard input already.
    let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3) else {
        return ExitCode::FAILURE;
    };
    let mut socket = UnixStream::from(socket);
    let fault = match read_spec(&socket) {
        Ok(spec) => become_command(&spec),
        Err(error) => StartFault::new("internal", format!("task-exec: {error}")),
    };
    if let Ok(line) = serde_json::to_vec(&fault) {
        drop(socket.write_all(&line));
    }
    ExitCode::FAILURE
}

fn read_spec(socket: &UnixStream) -> io::Result<Spec> {
    let mut line = Vec::new();
    BufReader::new(socket).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

fn become_command(spec: &Spec) -> StartFault {
    let cwd = spec.cwd.as_deref().unwrap_or("/");
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).stdin(Stdio::null()).env_clear();
    if let Err(fault) = prepare(spec, &mut command) {
        return fault;
    }
    // As the user that it runs as: another may not see the folder.
    if !Path::new(cwd).is_dir() {
        return StartFault::new("invalid_config", format!("`cwd` is not a directory: {cwd}"));
    }
    let error = command.current_dir(cwd).exec();
    start_fault(&spec.program, &error)
}

fn prepare(spec: &Spec, command: &mut Command) -> Result<(), StartFault> {
    let broken = |what: &str, error: io::Error| {
        StartFault::new("internal", format!("the command's {what} could not be set: {error}"))
    };
    if let Some(group) = &spec.cgroup {
        let file = Path::new(group).join("cgroup.procs");
        std::fs::write(file, "0").map_err(|error| broken("control group", error))?;
    }
    let account = spec.run_as.as_ref().map(Account::find).transpose()?;
    set_limits(spec).map_err(|error| broken("limits", error))?;
    let declared = spec.declared_from.min(spec.env.len());
    let (base, own) = spec.env.split_at(declared);
    command.envs(base.iter().map(|(name, value)| (name, value)));
    if let Some(account) = &account {
        let name = account.user.name.as_str();
        command.env("HOME", &account.user.dir).env("USER", name).env("LOGNAME", name);
    }
    command.envs(own.iter().map(|(name, value)| (name, value)));
    if let Some(account) = &account {
        if let Some(file) = &spec.progress_file {
            let path = account.hand_over(file).map_err(|error| broken("progress file", error))?;
            command.env("CARILLON_PROGRESS_FILE", path);
        }
        if let Some(file) = &spec.event_file {
            let path = account.hand_over(file).map_err(|error| broken("event file", error))?;
            command.env("CARILLON_EVENT_FILE", path);
        }
        account.take_on().map_err(|error| broken("user", error))?;
    }
    Ok(())
}

fn set_limits(spec: &Spec) -> io::Result<()> {
    let set = |resource: Resource, most: u64| {
        // Never more than we have ourselves: that would need privileges.
        let most = getrlimit(resource).maximum.map_or(most, |ours| ours.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    if let Some(most) = spec.limits.memory_mb {
        set(Resource::Data, most.saturating_mul(MEBIBYTE).saturating_add(DATA_MARGIN))?;
    }
    if let Some(most) = spec.limits.cpu_ms {
        // Whole seconds, and one more: the shim, which counts the tree, is to be first.
        set(Resource::Cpu, most.div_ceil(1000).saturating_add(1))?;
    }
    if let Some(most) = spec.limits.open_files {
        set(Resource::Nofile, most)?;
    }
    Ok(())
}

/// The user and the groups that a command takes on.
struct Account {
    user: User,
    group: nix::unistd::Gid,
    groups: Vec<Gid>,
}

impl Account {
    fn find(run_as: &RunAs) -> Result<Self, StartFault> {
        let refused = |message: String| StartFault::new("invalid_config", message);
        let RunAs { user: name, group } = run_as;
        if !geteuid().is_root() {
            return Err(refused(format!(
                "`runAs` needs a server that runs as root; run it so, or leave `runAs` ({name}) out"
            )));
        }
        let user = User::from_name(name)
            .ok()
            .flatten()
            .ok_or_else(|| refused(format!("`runAs`: there is no user `{name}` on this host")))?;
        let group = match group {
            None => user.gid,
            Some(group) => {
                Group::from_name(group)
                    .ok()
                    .flatten()
                    .ok_or_else(|| {
                        refused(format!("`runAs`: there is no group `{group}` on this host"))
                    })?
                    .gid
            }
        };
        let c_name = std::ffi::CString::new(name.as_str()).unwrap_or_default();
        let groups = getgrouplist(&c_name, group).unwrap_or_else(|_| vec![group]);
        let groups = groups.into_iter().map(|gid| Gid::from_raw(gid.as_raw())).collect();
        Ok(Self { user, group, groups })
    }

    /// Opens the progress file for the user, whom its folder may be closed to; the path by which
    /// the command and its children, which inherit it, can open it again.
    fn hand_over(&self, path: &str) -> io::Result<String> {
        let file = OpenOptions::new().append(true).open(path)?;
        let owner = Uid::from_raw(self.user.uid.as_raw());
        rustix::fs::fchown(&file, Some(owner), Some(Gid::from_raw(self.group.as_raw())))?;
        rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
        // Left open on purpose, for the command.
        Ok(format!("/proc/self/fd/{}", file.into_raw_fd()))
    }

    /// Gives up root for good. This process has one thread, so its thread's ids are its own.
    fn take_on(&self) -> io::Result<()> {
        let (uid, gid) =
            (Uid::from_raw(self.user.uid.as_raw()), Gid::from_raw(self.group.as_raw()));
        set_thread_groups(&self.groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }
}
