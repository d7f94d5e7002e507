//! What a lost shim leaves behind, and the end of a tree whose shim does not do its part.
//!
//! A task can end its own shim, for it runs as the same user. Its processes then go to the nearest
//! subreaper above, which is the server once it has called [`adopt_orphans`]. They are known by
//! three marks, any of which will do: they are children of the server that it did not start, in a
//! session that is not its own; or they are in the shim's session; or their environment names the
//! execution. Whoever descends from one of them belongs to them.
//!
//! The server has other children, so `wait` cannot prove to it that none of these is left. Instead
//! it looks until several looks in a row have found nothing, not even an ended process: a child of
//! the server stays in the kernel's list until the server reaps it, so a chain of processes that
//! fork and die always shows one of its links.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use carillon_shim::tree::{self, Stat};
use parking_lot::{Mutex, RwLock};
use rustix::process::{WaitOptions, getpid, set_child_subreaper, waitpid};

/// How long a sweep may take; what then still lives cannot be killed (it hangs in the kernel).
const SWEEP_LIMIT: Duration = Duration::from_secs(10);
/// How many looks in a row must find nothing.
const QUIET_LOOKS: u32 = 4;
/// How often a sweep looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

static ADOPTS: AtomicBool = AtomicBool::new(false);
/// The shims that this process started and has not yet reaped, each with its ticket.
static SHIMS: Mutex<Option<HashMap<i32, u64>>> = Mutex::new(None);
static TICKETS: AtomicU64 = AtomicU64::new(0);
/// Held for reading while a shim is started and filed, for writing while strays are told apart
/// from shims: a shim that is not filed yet would look like a stray.
pub(super) static STARTING: RwLock<()> = RwLock::new(());
/// Held while strays are hit and reaped: whoever reaps one frees its id, which another sweep might
/// be about to hit.
static SWEEPING: Mutex<()> = Mutex::new(());

/// Makes this process inherit the processes of shims that are killed, so that it can end them.
/// For the server's start, once; without it strays are found by the other marks only.
///
/// # Errors
/// When the kernel refuses.
pub fn adopt_orphans() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    ADOPTS.store(true, Ordering::Relaxed);
    Ok(())
}

/// Files a shim; the answer is the ticket by which it is forgotten.
pub(super) fn file_shim(pid: i32) -> u64 {
    let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
    SHIMS.lock().get_or_insert_default().insert(pid, ticket);
    ticket
}

/// Forgets a shim that was reaped, unless a younger one has its id by now.
pub(super) fn forget_shim(pid: i32, ticket: u64) {
    if let Some(shims) = SHIMS.lock().as_mut()
        && shims.get(&pid) == Some(&ticket)
    {
        shims.remove(&pid);
    }
}

/// The lost shim, by what its processes can be known.
pub(super) struct LostShim<'a> {
    pub(super) pid: i32,
    /// `CARILLON_EXECUTION_ID=...`, if its processes carry one.
    pub(super) mark: Option<&'a str>,
}

/// Kills everything below a shim that lives and does not do it itself (it is stopped, or starved),
/// blocking until nothing of it lives or [`SWEEP_LIMIT`] has passed. The shim stays: for as long as
/// it is there its orphans come back to it. Returns how many processes were hit.
pub(super) fn end_below(shim: i32) -> u32 {
    let deadline = Instant::now() + SWEEP_LIMIT;
    let roots = HashSet::from([shim]);
    let living =
        || tree::look_below(&roots).into_iter().filter(|stat| !stat.zombie).collect::<Vec<_>>();
    let mut hit = HashSet::new();
    let mut quiet = 0;
    while quiet < QUIET_LOOKS && Instant::now() < deadline {
        let fresh = tree::kill_all(living);
        quiet = if fresh.is_empty() { quiet + 1 } else { 0 };
        hit.extend(fresh);
        pause();
    }
    u32::try_from(hit.len()).unwrap_or(u32::MAX)
}

impl LostShim<'_> {
    /// Kills what the shim left, blocking until it is gone or [`SWEEP_LIMIT`] has passed. Returns
    /// how many processes were hit.
    pub(super) fn sweep(&self) -> u32 {
        let deadline = Instant::now() + SWEEP_LIMIT;
        let mut hit = HashSet::new();
        let mut quiet = 0;
        while quiet < QUIET_LOOKS && Instant::now() < deadline {
            let _alone = SWEEPING.lock();
            let mut ended = stop_inherited();
            // The adopted first and fast, then the marked, for which all processes are read.
            let adopted = tree::kill_all(|| adopted(&mut ended));
            let marked = tree::kill_all(|| self.marked());
            quiet = if ended || !adopted.is_empty() || !marked.is_empty() { 0 } else { quiet + 1 };
            hit.extend(adopted.into_iter().chain(marked));
            pause();
        }
        if quiet < QUIET_LOOKS {
            tracing::error!(shim = self.pid, "processes of a lost shim could not be ended");
        }
        u32::try_from(hit.len()).unwrap_or(u32::MAX)
    }

    fn marked(&self) -> Vec<Stat> {
        let all = tree::look_at_all();
        let own = getpid().as_raw_nonzero().get();
        let shims = SHIMS.lock().clone().unwrap_or_default();
        let raw = |stat: &Stat| stat.process.pid.as_raw_nonzero().get();
        let roots: HashSet<i32> = all
            .iter()
            .filter(|stat| {
                let pid = raw(stat);
                pid != own && pid != self.pid && !shims.contains_key(&pid)
            })
            .filter(|stat| stat.session == self.pid || self.is_marked(raw(stat)))
            .map(raw)
            .collect();
        let below = tree::descendants(&all, &roots);
        let mut marked: Vec<Stat> =
            all.into_iter().filter(|stat| roots.contains(&raw(stat))).collect();
        marked.extend(below);
        marked
    }

    fn is_marked(&self, pid: i32) -> bool {
        let Some(mark) = self.mark else { return false };
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
            environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        })
    }
}

/// Stops the children that this process inherited from lost shims and reaps those that have ended;
/// true if there were any. The first thing to do, for it is faster than any storm of forks.
fn stop_inherited() -> bool {
    if !ADOPTS.load(Ordering::Relaxed) {
        return false;
    }
    let _nobody_starts = STARTING.write();
    let own_session = tree::session(getpid());
    let shims = SHIMS.lock().clone().unwrap_or_default();
    let mut ended = false;
    tree::stop_children(|child| {
        if shims.contains_key(&child.as_raw_nonzero().get()) || tree::session(child) == own_session
        {
            return false;
        }
        let has_ended = !matches!(waitpid(Some(child), WaitOptions::NOHANG), Ok(None));
        ended |= has_ended;
        !has_ended
    });
    ended
}

/// The children that this process inherited from lost shims and that live. Those that have ended
/// are reaped; `ended` is set if there were any.
fn inherited(ended: &mut bool) -> Vec<Stat> {
    if !ADOPTS.load(Ordering::Relaxed) {
        return Vec::new();
    }
    let _nobody_starts = STARTING.write();
    let own = getpid();
    let own_session = tree::session(own);
    let shims = SHIMS.lock().clone().unwrap_or_default();
    let is_ours = |stat: &Stat| {
        Some(stat.session) != own_session
            && !shims.contains_key(&stat.process.pid.as_raw_nonzero().get())
    };
    let mut found = tree::look_at_children(own.as_raw_nonzero().get());
    found.retain(is_ours);
    for stat in found.extract_if(.., |stat| stat.zombie) {
        *ended = true;
        let _gone = waitpid(Some(stat.process.pid), WaitOptions::NOHANG);
    }
    found
}

/// The inherited children that live and everything below them.
fn adopted(ended: &mut bool) -> Vec<Stat> {
    let mut found = inherited(ended);
    let roots: HashSet<i32> =
        found.iter().map(|stat| stat.process.pid.as_raw_nonzero().get()).collect();
    if !roots.is_empty() {
        found.extend(tree::look_below(&roots));
    }
    found
}

/// Sleeps on a thread that may block.
fn pause() {
    let timeout = rustix::event::Timespec::try_from(LOOK_EVERY).ok();
    let _ = rustix::event::poll(&mut [], timeout.as_ref());
}
