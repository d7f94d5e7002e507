//! The shim's life: start the task, wait, end whatever is left of it, report.
//!
//! One thread, no runtime. Everything that can happen wakes one `poll`: a line or the end of the
//! server's side, a child's end (through a signal handler that writes a byte), a deadline.
//! The task is over when the shim has no child left: as a subreaper it inherits every orphan of
//! the tree, so "no child" means "no descendant".

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, wait};

use crate::LOST_GRACE;
use crate::meter::{self, Meter};
use crate::protocol::{Command, End, Report, Spec, since_boot};
use crate::tree::{self, Process, Stat};

/// How long the processes that a finished task left behind may take to end after TERM.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);
/// The first wait before the tree is looked at again while it is being ended; it doubles, for a
/// look reads all of `/proc`.
const LOOK_FIRST: Duration = Duration::from_millis(10);
/// The longest wait before the tree is looked at again while it is being ended.
const LOOK_LIMIT: Duration = Duration::from_millis(100);
/// The longest wait without a look at the clock: a machine that slept is noticed within it.
const CLOCK_SLICE: Duration = Duration::from_secs(1);
/// How often a tree that stands still is looked at: a process that was missed, or that somebody
/// let go on, is stopped again.
const FREEZE_EVERY: Duration = Duration::from_millis(100);
/// The longest line that the server may send.
const LINE_LIMIT: usize = 16 * 1024 * 1024;

/// The server's side of the socket, cut into lines.
pub(crate) struct Control {
    socket: UnixStream,
    buffer: Vec<u8>,
    closed: bool,
}

impl Control {
    pub(crate) const fn new(socket: UnixStream) -> Self {
        Self { socket, buffer: Vec::new(), closed: false }
    }

    /// Waits for the first line; `None` when the server went away before it was whole.
    pub(crate) fn first_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take_line() {
                self.socket.set_nonblocking(true)?;
                return Ok(Some(line));
            }
            self.fill();
            if self.closed || self.buffer.len() > LINE_LIMIT {
                return Ok(None);
            }
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
        line.pop();
        Some(line)
    }

    /// Reads once; notes the end of the server's side.
    fn fill(&mut self) {
        let mut chunk = [0; 16 * 1024];
        match self.socket.read(&mut chunk) {
            Ok(0) => self.closed = true,
            Ok(count) => self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.closed = true,
        }
    }

    pub(crate) fn socket(&self) -> &UnixStream {
        &self.socket
    }
}

/// A task that runs, and what can end it.
pub(crate) struct Watch {
    control: Control,
    /// Readable when a child has ended.
    wake: UnixStream,
    main: Pid,
    main_status: Option<WaitStatus>,
    timeout: Option<Instant>,
    /// On the clock of [`since_boot`].
    lease: Option<Duration>,
    grace: Duration,
    /// The wait between TERM and KILL when the server is gone or the lease has run out.
    lost_grace: Duration,
    meter: Meter,
    pause: Option<Pause>,
    is_ending: bool,
}

/// A task that stands still.
struct Pause {
    since: Instant,
    until: Instant,
    /// The processes that were stopped for it.
    frozen: HashSet<Process>,
}

impl Watch {
    pub(crate) fn new(control: Control, wake: UnixStream, main: Pid, spec: &Spec) -> Self {
        Self {
            control,
            wake,
            main,
            main_status: None,
            timeout: spec
                .timeout_ms
                .and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms))),
            lease: spec.lease_until_ms.map(Duration::from_millis),
            grace: Duration::from_millis(spec.grace_ms),
            lost_grace: spec
                .lost_grace_ms
                .map_or(LOST_GRACE, Duration::from_millis)
                .min(LOST_GRACE),
            meter: Meter::new(spec),
            pause: None,
            is_ending: false,
        }
    }

    /// Waits for the end of the task, ends what is left of it, and tells how it went.
    pub(crate) fn run(mut self) -> (Control, Report) {
        let mut end = self.wait_for_end();
        let grace = match end {
            End::Exited | End::NotStarted => LEFTOVER_GRACE.min(self.grace),
            // A frozen node wakes up when its lease is long over: no time is left then.
            End::Lease => self.lost_grace.saturating_sub(self.lease_past()).min(self.grace),
            End::ServerLost => self.lost_grace.min(self.grace),
            End::Timeout | End::Cancel | End::Interrupt => self.grace,
            // What takes more than it may takes more still while it is asked politely.
            End::Memory | End::Processes => Duration::ZERO,
            End::Cpu | End::Output => LEFTOVER_GRACE.min(self.grace),
        };
        let killed = self.end_tree(grace);
        let is_clean = self.main_status.and_then(WaitStatus::exit_status) == Some(0);
        if end == End::Exited && !is_clean {
            end = self.meter.verdict().unwrap_or(end);
        }
        let (peak_memory_bytes, cpu_ms) = self.meter.totals();
        let report = Report {
            end,
            exit_code: self.main_status.and_then(WaitStatus::exit_status),
            signal: self.main_status.and_then(WaitStatus::terminating_signal),
            killed,
            peak_memory_bytes,
            cpu_ms,
            fault: None,
        };
        (self.control, report)
    }

    fn wait_for_end(&mut self) -> End {
        loop {
            self.reap();
            // A task that has ended has ended, whatever was asked meanwhile.
            if self.main_status.is_some() {
                return End::Exited;
            }
            if let Some(end) = self.obey() {
                return end;
            }
            let lease_left = self.lease_left();
            if lease_left.is_zero() {
                return End::Lease;
            }
            self.hold_still();
            let timeout_left = self.timeout_left();
            if timeout_left.is_zero() {
                return End::Timeout;
            }
            if let Some(end) = self.meter.look() {
                return end;
            }
            let slice = if self.meter.is_needed() { meter::LOOK_EVERY } else { CLOCK_SLICE };
            let slice = if self.pause.is_some() { slice.min(FREEZE_EVERY) } else { slice };
            self.sleep(lease_left.min(timeout_left).min(slice));
        }
    }

    /// What is left until the timeout, whose clock stands still with the task.
    fn timeout_left(&self) -> Duration {
        let now = self.pause.as_ref().map_or_else(Instant::now, |pause| pause.since);
        self.timeout.map_or(Duration::MAX, |timeout| timeout.saturating_duration_since(now))
    }

    fn pause(&mut self, limit: Duration) {
        let since = Instant::now();
        if self.pause.is_some() || self.is_ending {
            return;
        }
        let until = since.checked_add(limit).unwrap_or(since);
        self.pause = Some(Pause { since, until, frozen: HashSet::new() });
        self.hold_still();
    }

    /// Keeps a paused task from moving; lets it go on when its pause has lasted long enough.
    fn hold_still(&mut self) {
        let Some(pause) = self.pause.as_mut() else { return };
        if Instant::now() >= pause.until {
            return self.resume();
        }
        tree::freeze(living_descendants, &mut pause.frozen);
    }

    fn resume(&mut self) {
        let Some(pause) = self.pause.take() else { return };
        let paused = pause.since.elapsed();
        self.timeout = self.timeout.and_then(|timeout| timeout.checked_add(paused));
        tree::thaw(living_descendants, &pause.frozen);
    }

    /// How long the lease has been over.
    fn lease_past(&self) -> Duration {
        self.lease.map_or(Duration::ZERO, |lease| since_boot().saturating_sub(lease))
    }

    /// What is left of the lease; very much without one.
    fn lease_left(&self) -> Duration {
        self.lease.map_or(Duration::MAX, |lease| lease.saturating_sub(since_boot()))
    }

    /// Takes the server's lines; answers with the end that they, or their end, demand.
    fn obey(&mut self) -> Option<End> {
        while let Some(line) = self.control.take_line() {
            match serde_json::from_slice(&line) {
                Ok(Command::Cancel) => return Some(End::Cancel),
                Ok(Command::Interrupt) => return Some(End::Interrupt),
                Ok(Command::Output) => return Some(End::Output),
                Ok(Command::Pause { limit_ms }) => self.pause(Duration::from_millis(limit_ms)),
                Ok(Command::Resume) => self.resume(),
                Ok(Command::Lease { until_ms }) => {
                    self.lease = Some(Duration::from_millis(until_ms));
                }
                // Only a server of another build could say what we do not know.
                Err(_) => return Some(End::ServerLost),
            }
        }
        self.control.closed.then_some(End::ServerLost)
    }

    /// TERM (and CONT, for those that are stopped) to every descendant, then KILL until none is
    /// left. Returns how many had to be told.
    fn end_tree(&mut self, grace: Duration) -> u32 {
        // What is being ended is not stopped any more, whatever is asked.
        self.is_ending = true;
        self.pause = None;
        let mut kill_at = Instant::now() + grace;
        let mut told: HashSet<Process> = HashSet::new();
        let mut pause = LOOK_FIRST;
        while self.reap() {
            let now = Instant::now();
            if now >= kill_at {
                self.meter.kill_group();
                self.reap();
                tree::stop_children(|_| true);
                // Reaped on the way: a storm of forks leaves thousands of ended processes, and
                // each of them would make the next look slower.
                told.extend(tree::kill_all(|| {
                    self.reap();
                    living_descendants()
                }));
            } else {
                for stat in living_descendants() {
                    if told.insert(stat.process) {
                        tree::send(&stat, Signal::TERM);
                        tree::send(&stat, Signal::CONT);
                    }
                }
            }
            let until_kill = kill_at.saturating_duration_since(now);
            self.sleep(if until_kill.is_zero() { LOOK_FIRST } else { pause.min(until_kill) });
            pause = (pause * 2).min(LOOK_LIMIT);
            if self.obey() == Some(End::ServerLost) || self.lease_left().is_zero() {
                kill_at = kill_at.min(now + self.lost_grace);
            }
        }
        u32::try_from(told.len()).unwrap_or(u32::MAX)
    }

    /// Takes the status of every child that has ended; says whether any child is left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main => self.main_status = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Waits for `limit`, less if a child ends or the server speaks.
    fn sleep(&mut self, limit: Duration) {
        let timeout = Timespec::try_from(limit).ok();
        let watch_control = !self.control.closed;
        let mut both = [
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(self.control.socket(), PollFlags::IN),
        ];
        let count = if watch_control { 2 } else { 1 };
        let polled = both.get_mut(..count).map(|fds| poll(fds, timeout.as_ref()));
        let [wake, control] = both;
        let (woken, spoken) = (!wake.revents().is_empty(), !control.revents().is_empty());
        if matches!(polled, Some(Ok(_))) {
            if woken {
                let mut bytes = [0; 64];
                while matches!(self.wake.read(&mut bytes), Ok(count) if count == bytes.len()) {}
            }
            if watch_control && spoken {
                self.control.fill();
            }
        }
    }
}

fn living_descendants() -> Vec<Stat> {
    let own = HashSet::from([getpid().as_raw_nonzero().get()]);
    tree::look_below(&own).into_iter().filter(|stat| !stat.zombie).collect()
}
