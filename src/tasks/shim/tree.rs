//! The process tree as `/proc` shows it, and signals that hit only whom they mean.
//!
//! A process is named by its id *and* its start time, since the kernel gives ids again. A signal
//! goes through a pidfd whose process was looked at after it was opened, so a process that took
//! over the id meanwhile is never hit.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// How often [`kill_all`] looks for processes that were born while it froze the others.
const FREEZE_ROUNDS: usize = 64;

/// One process, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) pid: Pid,
    /// In clock ticks since the machine started.
    start: u64,
}

/// What `/proc/PID/stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) process: Process,
    pub(super) parent: i32,
    pub(super) session: i32,
    pub(super) zombie: bool,
}

/// Reads the line of `/proc/PID/stat`; the command's name may contain anything, `)` too.
fn parse_stat(pid: Pid, line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let state = *fields.first()?;
    Some(Stat {
        process: Process { pid, start: fields.get(19)?.parse().ok()? },
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        zombie: state == "Z" || state == "X",
    })
}

/// Looks at one process; `None` when it is gone.
pub(super) fn look(pid: Pid) -> Option<Stat> {
    let line = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    parse_stat(pid, &String::from_utf8_lossy(&line))
}

/// Looks at every process of the machine.
pub(super) fn look_at_all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|raw| look(Pid::from_raw(raw)?))
        .collect()
}

/// The processes of `all` that descend from one of `roots`, the roots not included.
pub(super) fn descendants(all: &[Stat], roots: &HashSet<i32>) -> Vec<Stat> {
    let mut children: HashMap<i32, Vec<&Stat>> = HashMap::new();
    for stat in all {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut found = Vec::new();
    let mut seen = roots.clone();
    let mut next: Vec<i32> = roots.iter().copied().collect();
    while let Some(parent) = next.pop() {
        for stat in children.get(&parent).into_iter().flatten() {
            let raw = stat.process.pid.as_raw_nonzero().get();
            if seen.insert(raw) {
                found.push(**stat);
                next.push(raw);
            }
        }
    }
    found
}

/// Sends `signal` to `process` if it still is that process.
pub(super) fn send(process: Process, signal: Signal) {
    let still_there = || look(process.pid).is_some_and(|stat| stat.process == process);
    match pidfd_open(process.pid, PidfdFlags::empty()) {
        Ok(pidfd) if still_there() => drop(pidfd_send_signal(pidfd, signal)),
        // A kernel without pidfds: the window between look and kill is a few microseconds.
        Err(Errno::NOSYS) if still_there() => drop(kill_process(process.pid, signal)),
        _ => {}
    }
}

/// Ends every living process that `find` finds, at once: freezes them first, until no new ones
/// turn up, so that a storm of forks cannot outrun the killing. Returns those that were hit.
pub(super) fn kill_all(find: impl Fn() -> Vec<Stat>) -> HashSet<Process> {
    let mut hit = HashSet::new();
    for _ in 0..FREEZE_ROUNDS {
        let fresh: Vec<Process> = find()
            .into_iter()
            .filter(|stat| !stat.zombie)
            .map(|stat| stat.process)
            .filter(|process| !hit.contains(process))
            .collect();
        if fresh.is_empty() {
            break;
        }
        for process in fresh {
            send(process, Signal::STOP);
            hit.insert(process);
        }
    }
    for process in &hit {
        send(*process, Signal::KILL);
    }
    hit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(raw: i32) -> Pid {
        Pid::from_raw(raw).unwrap()
    }

    fn stat(raw: i32, parent: i32) -> Stat {
        let process = Process { pid: pid(raw), start: 7 };
        Stat { process, parent, session: 1, zombie: false }
    }

    #[test]
    fn a_command_named_like_a_stat_line_does_not_confuse_the_reader() {
        let line = "42 (a) Z 1 1 (x) S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2";
        let read = parse_stat(pid(42), line).unwrap();
        assert_eq!((read.parent, read.session, read.zombie), (7, 9, false));
        assert_eq!(read.process.start, 12345);
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_in_any_order() {
        let all = [stat(9, 5), stat(5, 3), stat(3, 2), stat(4, 1), stat(2, 1)];
        let mut found: Vec<i32> = descendants(&all, &HashSet::from([2]))
            .iter()
            .map(|stat| stat.process.pid.as_raw_nonzero().get())
            .collect();
        found.sort_unstable();
        assert_eq!(found, [3, 5, 9]);
    }

    #[test]
    fn this_process_sees_itself() {
        let own = rustix::process::getpid();
        assert_eq!(look(own).unwrap().process.pid, own);
        assert!(look_at_all().iter().any(|stat| stat.process.pid == own));
    }
}
