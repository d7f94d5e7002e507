//! A control group (cgroup v2) for each command, where the administrator names a place for them.
//!
//! What it adds to the shim: memory and processes are limited by the kernel for the whole tree and
//! without gaps, usage is exact, and `cgroup.kill` ends all of it in one stroke, also when both the
//! server and a shim are gone (the next start clears what is left). The shim's own last look stays:
//! a group is help, not proof, for root can leave it.
//!
//! Not here: finding the group that was delegated to the server ([`delegated`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::delegated;
use crate::domain::task::TaskLimits;

/// What the folders of commands are named by, before the server's process id.
const PREFIX: &str = "carillon-task-";
const MEBIBYTE: u64 = 1024 * 1024;

/// Where commands get control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ControlGroups {
    /// Nowhere: the shim alone measures.
    #[default]
    None,
    /// In the group that was delegated to the server, if there is one.
    Auto,
    /// In this folder.
    At(PathBuf),
}

impl ControlGroups {
    /// Reads the setting `limits.cgroup`.
    #[must_use]
    pub fn of_setting(text: &str) -> Self {
        match text {
            "" => Self::None,
            "auto" => Self::Auto,
            path => Self::At(path.into()),
        }
    }

    /// What would come of it for this very process, changing nothing. A service may have another
    /// group than whoever asks.
    ///
    /// # Errors
    /// A sentence when the server could not start with it.
    pub fn describe(&self) -> Result<String, String> {
        match self {
            Self::None => Ok("none; the shim measures".to_owned()),
            Self::Auto => Ok(match delegated::find() {
                Ok(path) => format!("auto: {}", path.display()),
                Err(reason) => format!("auto: none from here, for {reason}; the shim measures"),
            }),
            Self::At(path) => {
                let shown = path.display();
                let controllers = fs::read_to_string(path.join("cgroup.controllers"))
                    .map_err(|error| format!("{shown} is no cgroup v2 folder: {error}"))?;
                rustix::fs::access(path, rustix::fs::Access::WRITE_OK)
                    .map_err(|error| format!("{shown} cannot be written to: {error}"))?;
                Ok(format!("{shown} with the controllers {}", controllers.trim()))
            }
        }
    }
}

/// The place under which commands get their groups.
#[derive(Clone, Debug)]
pub(in crate::tasks) struct GroupParent {
    path: PathBuf,
}

/// The group of one command; dropping it ends what is in it and removes it.
pub(super) struct TaskGroup {
    path: PathBuf,
}

impl GroupParent {
    /// Takes the group that was delegated to this server; `None`, with a line in the log, when
    /// there is none.
    pub(in crate::tasks) fn find() -> Option<Self> {
        let opened = delegated::find().and_then(|path| {
            delegated::settle(&path)?;
            Self::open(&path).map_err(|error| format!("{}: {error}", path.display()))
        });
        match opened {
            Ok(parent) => {
                tracing::info!(path = %parent.path.display(), "tasks get control groups");
                Some(parent)
            }
            Err(reason) => {
                tracing::info!(reason, "tasks get no control groups; the shim measures them");
                None
            }
        }
    }

    /// Uses the group at `path`, which must exist, and clears what an earlier server left in it.
    ///
    /// # Errors
    /// When it is not a cgroup v2 that can be written to.
    pub(in crate::tasks) fn open(path: &Path) -> io::Result<Self> {
        let controllers = fs::read_to_string(path.join("cgroup.controllers"))?;
        let wanted = ["memory", "pids"];
        let controllers: Vec<_> =
            controllers.split_ascii_whitespace().filter(|name| wanted.contains(name)).collect();
        delegated::offer(path, &controllers)?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if is_left_over(&entry.file_name().to_string_lossy()) {
                drop(TaskGroup { path: entry.path() });
            }
        }
        let parent = Self { path: path.to_owned() };
        // What cannot be made now could not be made later.
        drop(parent.make("probe", TaskLimits::default())?);
        Ok(parent)
    }

    /// Makes the group of the command `name`. A limit for which the kernel offers no controller
    /// here is left to the shim.
    pub(super) fn make(&self, name: &str, limits: TaskLimits) -> io::Result<TaskGroup> {
        let group =
            TaskGroup { path: self.path.join(format!("{PREFIX}{}-{name}", std::process::id())) };
        fs::create_dir(&group.path)?;
        let memory = limits.memory_mb.map(|limit| limit.saturating_mul(MEBIBYTE));
        for (file, limit) in [("memory.max", memory), ("pids.max", limits.processes)] {
            let file = group.path.join(file);
            if let Some(limit) = limit.filter(|_| file.exists()) {
                fs::write(file, limit.to_string())?;
            }
        }
        Ok(group)
    }
}

/// Whether a group was made by a server that is gone: one that lives may share the folder. What has
/// our own process id is older than we are.
fn is_left_over(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let maker = rest.split('-').next().and_then(|id| id.parse::<u32>().ok());
    let lives = |id: u32| Path::new("/proc").join(id.to_string()).exists();
    maker.is_none_or(|id| id == std::process::id() || !lives(id))
}

impl TaskGroup {
    pub(super) fn path(&self) -> String {
        self.path.display().to_string()
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        // Nothing is in it any more unless a shim was lost.
        if fs::remove_dir(&self.path).is_err() {
            drop(fs::write(self.path.join("cgroup.kill"), "1"));
            drop(fs::remove_dir(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_groups_of_servers_that_are_gone_are_cleared() {
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let of = |id: u32| format!("{PREFIX}{id}-0190-7");
        assert!(!is_left_over(&of(other.id())));
        assert!(is_left_over(&of(std::process::id())));
        assert!(!is_left_over("carillon-server"));
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(is_left_over(&of(other.id())));
    }
}
