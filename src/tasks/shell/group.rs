//! A control group (cgroup v2) for each command, where the administrator names a place for them.
//!
//! What it adds to the shim: memory and processes are limited by the kernel for the whole tree and
//! without gaps, usage is exact, and `cgroup.kill` ends all of it in one stroke, also when both the
//! server and a shim are gone (the next start clears what is left). The shim's own last look stays:
//! a group is help, not proof, for root can leave it.
//!
//! Not here: finding a delegated group by itself, and moving the server into one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::domain::task::TaskLimits;

/// What the folders of commands are named by.
const PREFIX: &str = "carillon-task-";
const MEBIBYTE: u64 = 1024 * 1024;

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
    /// Uses the group at `path`, which must exist, and clears what an earlier server left in it.
    ///
    /// # Errors
    /// When it is not a cgroup v2 that can be written to.
    pub(in crate::tasks) fn open(path: &Path) -> io::Result<Self> {
        let controllers = fs::read_to_string(path.join("cgroup.controllers"))?;
        let wanted = ["memory", "pids"];
        for controller in controllers.split_ascii_whitespace().filter(|name| wanted.contains(name))
        {
            fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"))?;
        }
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
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
        let group = TaskGroup { path: self.path.join(format!("{PREFIX}{name}")) };
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
