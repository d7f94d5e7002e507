//! The machine as this process may use it: processors, memory, the disk of the data directory.
//!
//! Read from `/proc` and, where one is in force, from the control group (v2) that this process is
//! in: the tightest of `cpu.max` and `memory.max` on the way to the root counts, as the kernel
//! counts it. What cannot be read is left out, never guessed.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

const KIBIBYTE: f64 = 1_024.0;
const MEBIBYTE: f64 = 1_048_576.0;

/// What the machine has and what is left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostSample {
    /// Processors, also parts of one.
    pub cpus: f64,
    /// Load over one minute.
    pub load: f64,
    /// Memory in MiB.
    pub memory_mb: f64,
    /// Memory that can be had without swapping, in MiB.
    pub memory_free_mb: f64,
    /// The disk of the data directory in MiB; 0 when it is not known.
    pub disk_mb: f64,
    /// What is free of it for this process, in MiB.
    pub disk_free_mb: f64,
    /// True when a control group sets the processors or the memory.
    pub is_limited: bool,
}

/// Where a sample is read.
#[derive(Clone, Debug)]
pub struct HostPaths {
    /// `/proc`.
    pub proc: PathBuf,
    /// Where control groups are mounted.
    pub groups: PathBuf,
    /// The data directory.
    pub data: PathBuf,
}

impl HostPaths {
    /// The real ones.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self { proc: "/proc".into(), groups: "/sys/fs/cgroup".into(), data: data.to_owned() }
    }
}

/// Takes a sample. Reads a handful of small files; meant for a few times a second at most.
#[must_use]
pub fn sample(paths: &HostPaths) -> HostSample {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let read = |name: &str| fs::read_to_string(paths.proc.join(name)).unwrap_or_default();
    let (memory_mb, memory_free_mb) = memory_of(&read("meminfo"));
    let mut host = HostSample {
        #[expect(clippy::cast_precision_loss, reason = "a machine has few processors")]
        cpus: processors as f64,
        load: first_number(&read("loadavg")).unwrap_or(0.0),
        memory_mb,
        memory_free_mb,
        ..HostSample::default()
    };
    let own = own_group(&read("self/cgroup"));
    for folder in own.iter().flat_map(|own| groups(&paths.groups, own)) {
        limit_by(&mut host, &folder);
    }
    if let Ok(disk) = rustix::fs::statvfs(&paths.data) {
        #[expect(clippy::cast_precision_loss, reason = "to a MiB is exact enough")]
        let mebibytes = |blocks: u64| blocks as f64 * disk.f_frsize as f64 / MEBIBYTE;
        host.disk_mb = mebibytes(disk.f_blocks);
        host.disk_free_mb = mebibytes(disk.f_bavail);
    }
    host
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// All memory, and what is available of it.
fn memory_of(meminfo: &str) -> (f64, f64) {
    let of = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        first_number(line).map(|kibibytes| kibibytes / KIBIBYTE)
    };
    let all = of("MemTotal:").unwrap_or(0.0);
    (all, of("MemAvailable:").unwrap_or(all))
}

/// The path of this process's group in the one hierarchy of version 2.
fn own_group(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// A group's folder and those above it.
fn groups(mount: &Path, own: &str) -> Vec<PathBuf> {
    let mut folders = vec![mount.to_owned()];
    let mut folder = mount.to_owned();
    for part in own.split('/').filter(|part| !part.is_empty() && *part != "..") {
        folder = folder.join(part);
        folders.push(folder.clone());
    }
    folders
}

fn limit_by(host: &mut HostSample, folder: &Path) {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    if let Some(cpus) = read("cpu.max").as_deref().and_then(cpus_of) {
        host.is_limited = true;
        host.cpus = host.cpus.min(cpus);
    }
    let most = read("memory.max").and_then(|text| first_number(&text));
    let Some(most) = most.map(|bytes| bytes / MEBIBYTE) else { return };
    let used = read("memory.current").and_then(|text| first_number(&text)).unwrap_or(0.0);
    let cached = read("memory.stat").map_or(0.0, |text| inactive_file(&text));
    host.is_limited = true;
    host.memory_mb = host.memory_mb.min(most);
    let free = (most - (used - cached).max(0.0) / MEBIBYTE).max(0.0);
    host.memory_free_mb = host.memory_free_mb.min(free);
}

/// `cpu.max`: quota and period in microseconds; `max` is no limit.
fn cpus_of(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let quota: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next()?.parse().ok()?;
    (period > 0.0).then(|| quota / period)
}

/// What the kernel would give back first: files that were read and are not in use.
fn inactive_file(stat: &str) -> f64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    line.and_then(first_number).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn machine(folder: &Path) -> HostPaths {
        let meminfo = "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\n";
        write(folder, "proc/meminfo", meminfo);
        write(folder, "proc/loadavg", "1.50 1.00 0.50 1/100 7\n");
        write(folder, "proc/self/cgroup", "0::/pod/server\n");
        HostPaths {
            proc: folder.join("proc"),
            groups: folder.join("groups"),
            data: folder.to_owned(),
        }
    }

    #[test]
    fn without_a_control_group_the_machine_is_what_proc_says() {
        let folder = tempfile::tempdir().unwrap();
        let host = sample(&machine(folder.path()));
        assert_eq!((host.memory_mb, host.memory_free_mb, host.load), (8_192.0, 4_096.0, 1.5));
        assert!(host.cpus >= 1.0 && !host.is_limited);
        assert!(host.disk_mb >= host.disk_free_mb && host.disk_mb > 0.0);
    }

    #[test]
    fn the_tightest_group_on_the_way_to_the_root_counts() {
        let folder = tempfile::tempdir().unwrap();
        let paths = machine(folder.path());
        write(&paths.groups, "pod/cpu.max", "50000 100000\n");
        write(&paths.groups, "pod/memory.max", "1073741824\n");
        write(&paths.groups, "pod/memory.current", "838860800\n");
        write(&paths.groups, "pod/memory.stat", "anon 1\ninactive_file 209715200\n");
        write(&paths.groups, "pod/server/cpu.max", "max 100000\n");
        write(&paths.groups, "pod/server/memory.max", "max\n");
        let host = sample(&paths);
        assert!(host.is_limited);
        assert_eq!((host.cpus, host.memory_mb, host.memory_free_mb), (0.5, 1_024.0, 424.0));
    }

    #[test]
    fn what_cannot_be_read_is_not_guessed() {
        let paths =
            HostPaths { proc: "/none".into(), groups: "/none".into(), data: "/none".into() };
        let host = sample(&paths);
        assert_eq!((host.memory_mb, host.disk_mb, host.is_limited), (0.0, 0.0, false));
    }
}
