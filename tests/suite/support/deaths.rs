//! When processes ended, as the kernel tells it: a thread of its own waits on their pidfds, so that
//! a busy test does not take its own lateness for theirs.

use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Processes that are waited for.
pub(crate) struct Deaths {
    waiting: JoinHandle<Instant>,
}

impl Deaths {
    /// Watches processes that are alive.
    pub(crate) fn of(pids: &[i32]) -> Self {
        let open = |pid: &i32| pidfd_open(Pid::from_raw(*pid).unwrap(), PidfdFlags::empty());
        let watched: Vec<OwnedFd> = pids.iter().filter_map(|pid| open(pid).ok()).collect();
        let waiting = std::thread::spawn(move || {
            for pidfd in &watched {
                // Readable once the process has ended.
                let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
                while poll(&mut fds, None).is_err() {}
            }
            Instant::now()
        });
        Self { waiting }
    }

    /// Blocks until all have ended; when the last one did.
    pub(crate) fn last(self) -> Instant {
        self.waiting.join().unwrap()
    }
}
