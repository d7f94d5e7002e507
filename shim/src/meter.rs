//! What the tree of a task uses, and whether that is more than it may.
//!
//! The tree is added up at short intervals, and only where a limit asks for it: anonymous resident
//! memory (what a process has written to; shared files and reserved addresses do not count),
//! processor time, processes. A control group does the same without gaps; its word is taken too.
//! Behind it stand the kernel's own limits of each process, set by `exec.rs`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use rustix::process::getpid;

use crate::MEBIBYTE;
use crate::protocol::{End, Limits, Spec};
use crate::tree;

/// How often a tree with limits is added up.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(40);

/// The meter of one task.
pub(crate) struct Meter {
    limits: Limits,
    cgroup: Option<PathBuf>,
    peak_memory_bytes: u64,
}

impl Meter {
    pub(crate) fn new(spec: &Spec) -> Self {
        Self {
            limits: spec.limits,
            cgroup: spec.cgroup.as_ref().map(PathBuf::from),
            peak_memory_bytes: 0,
        }
    }

    /// Whether there is anything to look at while the task runs.
    pub(crate) const fn is_needed(&self) -> bool {
        let Limits { memory_mb, cpu_ms, processes, .. } = self.limits;
        memory_mb.is_some() || cpu_ms.is_some() || processes.is_some()
    }

    /// Adds the tree up; the limit that it is over, if it is.
    pub(crate) fn look(&mut self) -> Option<End> {
        if !self.is_needed() {
            return None;
        }
        let own = HashSet::from([getpid().as_raw_nonzero().get()]);
        let living: Vec<_> =
            tree::look_below(&own).into_iter().filter(|stat| !stat.zombie).collect();
        let page = rustix::param::page_size() as u64;
        let memory: u64 =
            living.iter().filter_map(|stat| anonymous_pages(stat.process.id())).sum::<u64>() * page;
        self.peak_memory_bytes = self.peak_memory_bytes.max(memory);
        let tick_ms = 1000 / rustix::param::clock_ticks_per_second().max(1);
        let running: u64 = living.iter().map(|stat| stat.cpu_ticks * tick_ms).sum();
        let over = |used: u64, limit: Option<u64>| limit.is_some_and(|limit| used > limit);
        if over(living.len() as u64, self.limits.processes) || self.count("pids.events", "max") > 0
        {
            return Some(End::Processes);
        }
        if over(memory, self.limits.memory_mb.map(|limit| limit * MEBIBYTE)) {
            return Some(End::Memory);
        }
        over(running + ended_cpu_ms(), self.limits.cpu_ms).then_some(End::Cpu)
    }

    /// The limit by which a task that ended by itself was brought down, if it was one.
    pub(crate) fn verdict(&self) -> Option<End> {
        if self.count("memory.events", "oom_kill") > 0 {
            return Some(End::Memory);
        }
        if self.count("pids.events", "max") > 0 {
            return Some(End::Processes);
        }
        let over = self.limits.cpu_ms.is_some_and(|limit| ended_cpu_ms() > limit);
        over.then_some(End::Cpu)
    }

    /// Peak memory in bytes and processor time in milliseconds, once nothing of the task is left.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let largest = getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| usage.max_rss());
        let largest = u64::try_from(largest).unwrap_or_default() * 1024;
        let group = self.read("memory.peak").and_then(|text| text.trim().parse().ok());
        let group_cpu = self.count("cpu.stat", "usage_usec") / 1000;
        let peak = self.peak_memory_bytes.max(group.unwrap_or_default()).max(largest);
        (peak, ended_cpu_ms().max(group_cpu))
    }

    /// Kills all that is in the control group, in one stroke that no fork escapes.
    pub(crate) fn kill_group(&self) {
        if let Some(group) = &self.cgroup {
            drop(fs::write(group.join("cgroup.kill"), "1"));
        }
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.cgroup.as_deref()?.join(file)).ok()
    }

    fn count(&self, file: &str, name: &str) -> u64 {
        let Some(text) = self.read(file) else { return 0 };
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or_default()
    }
}

/// Processor time of the children that have ended and were reaped, theirs included.
fn ended_cpu_ms() -> u64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return 0 };
    let (user, system) = (usage.user_time(), usage.system_time());
    let micros = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
    u64::try_from(micros / 1000).unwrap_or_default()
}

/// Resident pages that are neither a file's nor shared.
fn anonymous_pages(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("statm")).ok()?;
    let mut fields = text.split_ascii_whitespace().skip(1);
    let resident: u64 = fields.next()?.parse().ok()?;
    let shared: u64 = fields.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared))
}
