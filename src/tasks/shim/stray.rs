//! What a lost shim leaves behind.
//!
//! A task can end its own shim, for it runs as the same user. Its processes then go to the nearest
//! subreaper above, which is the server once it has called [`adopt_orphans`]. They are known by
//! three marks, any of which will do: they are children of the server that it did not start, in a
//! session that is not its own; or they are in the shim's session; or their environment names the
//! execution. Whoever descends from one of them belongs to them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

use super::tree::{self, Stat};

/// How long a sweep may take; what then still lives cannot be killed (it hangs in the kernel).
const SWEEP_LIMIT: Duration = Duration::from_secs(10);
/// How often a sweep looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

static ADOPTS: AtomicBool = AtomicBool::new(false);
/// The shims that this process started and has not yet reaped, each with its ticket.
static SHIMS: Mutex<Option<HashMap<i32, u64>>> = Mutex::new(None);
static TICKETS: AtomicU64 = AtomicU64::new(0);
/// Held for reading while a shim is started and filed, for writing while strays are told apart
/// from shims: a shim that is not filed yet would look like a stray.
pub(super) static STARTING: RwLock<()> = RwLock::new(());

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

impl LostShim<'_> {
    /// Kills what the shim left, blocking until it is gone or [`SWEEP_LIMIT`] has passed. Returns
    /// how many processes were hit.
    pub(super) fn sweep(&self) -> u32 {
        let deadline = Instant::now() + SWEEP_LIMIT;
        let mut hit = HashSet::new();
        loop {
            let fresh = tree::kill_all(|| self.strays());
            let done = fresh.is_empty();
            hit.extend(fresh);
            let mut adopted: HashSet<Pid> = hit.iter().map(|process| process.pid).collect();
            // Some may have ended by themselves since the shim was lost.
            let zombies = self.strays().into_iter().filter(|stat| stat.zombie);
            adopted.extend(zombies.map(|stat| stat.process.pid));
            let mut left = false;
            for pid in adopted {
                // Only our own children can be reaped; for all others this fails at once.
                left |= matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None));
            }
            if (done && !left) || Instant::now() >= deadline {
                return u32::try_from(hit.len()).unwrap_or(u32::MAX);
            }
            pause();
        }
    }

    fn strays(&self) -> Vec<Stat> {
        let _nobody_starts = STARTING.write();
        let all = tree::look_at_all();
        let own = getpid();
        let own_raw = own.as_raw_nonzero().get();
        let own_session = tree::look(own).map_or(0, |stat| stat.session);
        let shims = SHIMS.lock().clone().unwrap_or_default();
        let adopts = ADOPTS.load(Ordering::Relaxed);
        let raw = |stat: &Stat| stat.process.pid.as_raw_nonzero().get();
        let is_stray = |stat: &Stat| {
            let adopted = adopts && stat.parent == own_raw && stat.session != own_session;
            adopted || stat.session == self.pid || self.is_marked(raw(stat))
        };
        let roots: HashSet<i32> = all
            .iter()
            .filter(|stat| {
                let pid = raw(stat);
                pid != own_raw && pid != self.pid && !shims.contains_key(&pid)
            })
            .filter(|stat| is_stray(stat))
            .map(raw)
            .collect();
        let below = tree::descendants(&all, &roots);
        let mut strays: Vec<Stat> =
            all.into_iter().filter(|stat| roots.contains(&raw(stat))).collect();
        strays.extend(below);
        strays
    }

    fn is_marked(&self, pid: i32) -> bool {
        let Some(mark) = self.mark else { return false };
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
            environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        })
    }
}

/// Sleeps on a thread that may block.
fn pause() {
    let timeout = rustix::event::Timespec::try_from(LOOK_EVERY).ok();
    let _ = rustix::event::poll(&mut [], timeout.as_ref());
}
