//! The process tree as `/proc` shows it, and signals that hit only whom they mean.
//!
//! A process is named by its id *and* its start time, since the kernel gives ids again. A signal
//! to a child of our own goes straight to its id, which stays taken until we reap it; any other
//! goes through a pidfd whose process was looked at after it was opened. So a process that took
//! over an id meanwhile is never hit.
//!
//! The kernel's own list of a process's children is read where there is one: a look at a tree then
//! costs microseconds a process, whatever else runs on the machine, so that it is faster than
//! processes that for ever start others and die. Without that list all of `/proc` is read.
//!
//! Not here: the proof that nothing is left. No look at `/proc` can give it; `wait` can.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal,
};

/// How often [`kill_all`] looks for processes that were born while it froze the others.
const FREEZE_ROUNDS: usize = 256;

/// One process, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// In clock ticks since the machine started.
    start: u64,
}

impl Process {
    /// Its id as a number.
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }
}

/// What `/proc/PID/stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Which process.
    pub process: Process,
    /// The id of its parent.
    pub parent: i32,
    /// The id of its session.
    pub session: i32,
    /// It has ended and nobody has reaped it.
    pub zombie: bool,
    /// It stands still by a signal.
    pub stopped: bool,
    /// Processor time, that of its reaped children included.
    pub cpu_ticks: u64,
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
        stopped: state == "T",
        cpu_ticks: fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum(),
    })
}

/// Looks at one process; `None` when it is gone.
pub fn look(pid: Pid) -> Option<Stat> {
    let line = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    parse_stat(pid, &String::from_utf8_lossy(&line))
}

/// The session of a process, asked of the kernel, which is far faster than to read `/proc`; `None`
/// when it is gone. It is 0 where the session was begun outside this PID namespace, as that of a
/// server started by `docker exec` or `unshare`, which is why `rustix` cannot be asked: its ids are
/// never 0.
pub fn session(pid: Pid) -> Option<i32> {
    let pid = nix::unistd::Pid::from_raw(pid.as_raw_nonzero().get());
    nix::unistd::getsid(Some(pid)).ok().map(nix::unistd::Pid::as_raw)
}

/// Looks at every process of the machine.
pub fn look_at_all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|raw| look(Pid::from_raw(raw)?))
        .collect()
}

/// The processes of `all` that descend from one of `roots`, the roots not included.
pub fn descendants(all: &[Stat], roots: &HashSet<i32>) -> Vec<Stat> {
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

/// The children of `parent` by the kernel's own list, ended ones that are not reaped included;
/// `None` when the kernel keeps none or the process is gone.
fn children(parent: i32) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{parent}/task")).ok()? {
        let Ok(thread) = thread else { continue };
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(parse_id)),
            // A thread that ended meanwhile has handed its children to another one.
            Err(_) if thread.path().exists() => return None,
            Err(_) => {}
        }
    }
    Some(found)
}

fn parse_id(text: &str) -> Option<i32> {
    text.parse().ok()
}

/// Looks at the children of `parent`, ended ones that are not reaped included.
pub fn look_at_children(parent: i32) -> Vec<Stat> {
    children(parent).map_or_else(
        || look_at_all().into_iter().filter(|stat| stat.parent == parent).collect(),
        |ids| ids.into_iter().filter_map(|raw| look(Pid::from_raw(raw)?)).collect(),
    )
}

/// Looks at everything that descends from `roots`, the roots not included.
pub fn look_below(roots: &HashSet<i32>) -> Vec<Stat> {
    let mut found = Vec::new();
    let mut seen = roots.clone();
    let mut next: Vec<i32> = roots.iter().copied().collect();
    while let Some(parent) = next.pop() {
        let Some(ids) = children(parent) else {
            // The process is gone, or the kernel keeps no lists.
            if roots.contains(&parent) {
                return descendants(&look_at_all(), roots);
            }
            continue;
        };
        let fresh = ids.into_iter().filter(|raw| seen.insert(*raw)).collect::<Vec<_>>();
        for stat in fresh.into_iter().filter_map(|raw| look(Pid::from_raw(raw)?)) {
            next.push(stat.process.pid.as_raw_nonzero().get());
            found.push(stat);
        }
    }
    found
}

/// Sends `signal` to the process that `stat` shows if it still is that process.
pub fn send(stat: &Stat, signal: Signal) {
    let process = stat.process;
    // Its id cannot be given again before we reap it, and nobody reaps while this runs.
    if stat.parent == getpid().as_raw_nonzero().get() {
        let _gone = kill_process(process.pid, signal);
        return;
    }
    let still_there = || look(process.pid).is_some_and(|stat| stat.process == process);
    match pidfd_open(process.pid, PidfdFlags::empty()) {
        Ok(pidfd) if still_there() => drop(pidfd_send_signal(pidfd, signal)),
        // A kernel without pidfds: the window between look and kill is a few microseconds.
        Err(Errno::NOSYS) if still_there() => drop(kill_process(process.pid, signal)),
        _ => {}
    }
}

/// Stops every running process that `find` finds, until a whole look finds none that runs, so that
/// children born meanwhile stand still too. Those that it stopped are added to `frozen`; those that
/// stood still by themselves are left alone, and are not among them.
///
/// A process with a stop signal pending forks no more, so that one look without a new process is
/// the end of it; whoever wants the tree to stay still calls this again and again, as others may
/// let processes go on.
pub fn freeze(mut find: impl FnMut() -> Vec<Stat>, frozen: &mut HashSet<Process>) {
    let mut told = HashSet::new();
    for _ in 0..FREEZE_ROUNDS {
        let mut is_new = false;
        for stat in find().into_iter().filter(|stat| !stat.zombie && !stat.stopped) {
            if told.insert(stat.process) {
                frozen.insert(stat.process);
                send(&stat, Signal::STOP);
                is_new = true;
            }
        }
        if !is_new {
            return;
        }
    }
}

/// Stops the children of this process that `is_meant` picks, until a whole look finds none that is
/// new. It asks the kernel for their ids alone: a child's id stays taken until it is reaped, and
/// `is_meant` may reap one that has ended, which it then does not pick.
///
/// For storms of forks in which each process is soon orphaned and thereby a child of ours. Reading
/// what `/proc` tells of each takes longer than they live when hundreds of them want the processor;
/// this takes a few microseconds for each. What is not a direct child is left to [`kill_all`].
pub fn stop_children(mut is_meant: impl FnMut(Pid) -> bool) {
    let own = getpid().as_raw_nonzero().get();
    let mut told = HashSet::new();
    for _ in 0..FREEZE_ROUNDS {
        let mut is_new = false;
        for pid in children(own).into_iter().flatten().filter_map(Pid::from_raw) {
            if !told.contains(&pid) && is_meant(pid) {
                let _gone = kill_process(pid, Signal::STOP);
                is_new = told.insert(pid);
            }
        }
        if !is_new {
            return;
        }
    }
}

/// Lets those of `frozen` go on that still live.
pub fn thaw(find: impl Fn() -> Vec<Stat>, frozen: &HashSet<Process>) {
    for stat in find().iter().filter(|stat| frozen.contains(&stat.process)) {
        send(stat, Signal::CONT);
    }
}

/// Ends every living process that `find` finds, at once: freezes them first, until a whole look
/// finds no new one, so that a storm of forks cannot outrun the killing. Returns those that were
/// hit. `find` may reap what has ended, before it looks at what lives.
///
/// A process whose parent died between two looks may be missed by one of them; whoever calls this
/// calls it again until it has a proof that nothing is left.
pub fn kill_all(mut find: impl FnMut() -> Vec<Stat>) -> HashSet<Process> {
    let mut hit = HashSet::new();
    let mut last = Vec::new();
    for _ in 0..FREEZE_ROUNDS {
        last = find();
        last.retain(|stat| !stat.zombie);
        let mut is_new = false;
        for stat in &last {
            if hit.insert(stat.process) {
                send(stat, Signal::STOP);
                is_new = true;
            }
        }
        if !is_new {
            break;
        }
    }
    // Of those of earlier looks that are not in the last one the ids may be taken again.
    for stat in &last {
        send(stat, Signal::KILL);
    }
    hit
}

#[cfg(test)]
mod tests {
    use rustix::process::WaitOptions;

    use super::*;

    fn pid(raw: i32) -> Pid {
        Pid::from_raw(raw).unwrap()
    }

    fn stat(raw: i32, parent: i32) -> Stat {
        let process = Process { pid: pid(raw), start: 7 };
        Stat { process, parent, session: 1, zombie: false, stopped: false, cpu_ticks: 0 }
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
    fn a_child_is_seen_by_every_way_of_looking() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let raw = i32::try_from(child.id()).unwrap();
        let own = getpid().as_raw_nonzero().get();
        let is_child = |stat: &Stat| stat.process.pid == pid(raw) && stat.parent == own;
        assert!(look_at_children(own).iter().any(is_child));
        assert!(look_below(&HashSet::from([own])).iter().any(is_child));
        assert!(look_at_all().iter().any(is_child));
        child.kill().unwrap();
        // Ended and not reaped: still ours.
        assert!(look_at_children(own).iter().any(is_child));
        child.wait().unwrap();
        assert!(!look_at_children(own).iter().any(is_child));
    }

    #[test]
    fn only_the_children_that_are_meant_are_stopped() {
        let start = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (mut meant, mut other) = (start(), start());
        let id = |child: &std::process::Child| pid(i32::try_from(child.id()).unwrap());
        let mut asked = Vec::new();
        stop_children(|child| {
            asked.push(child);
            child == id(&meant)
        });
        // A stop is carried out when the process is next looked at by the kernel.
        let stopped = WaitOptions::UNTRACED;
        let (_, status) = rustix::process::waitpid(Some(id(&meant)), stopped).unwrap().unwrap();
        assert!(status.stopped());
        assert!(!look(id(&other)).unwrap().stopped);
        assert!(asked.contains(&id(&other)));
        for child in [&mut meant, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn this_process_sees_itself() {
        let own = rustix::process::getpid();
        let stat = look(own).unwrap();
        assert_eq!(stat.process.pid, own);
        assert_eq!(session(own), Some(stat.session), "0 too, when it was begun elsewhere");
        assert!(look_at_all().iter().any(|stat| stat.process.pid == own));
    }
}
