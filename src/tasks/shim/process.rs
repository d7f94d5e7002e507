//! The server's side of a shim: start it, speak to it, and never leave it or its tree behind.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command as StdCommand, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::program::Program;
use super::protocol::{Command, Report, Spec};
use super::reserve::Reserve;
use super::stray::{self, LostShim};

/// A started shim whose task runs, and the pipes of the task.
///
/// Dropping it ends the task: the shim sees the end of its socket, and a thread of its own waits
/// for it and for what it may have left.
pub(crate) struct Shimmed {
    link: Option<Link>,
    reaper: Reaper,
}

struct Link {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// The read ends of the task's standard output and standard error.
pub(crate) struct Pipes {
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

/// Waits for the shim's process, on a thread that may block.
struct Reaper {
    child: Option<Child>,
    ticket: u64,
    mark: Option<String>,
}

/// A shim that waits for what it is to run. Dropping it ends it.
pub(super) struct Started {
    reaper: Reaper,
    socket: StdUnixStream,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Shimmed {
    /// Has one of `shims` run `spec`. The processes of the task can later be known by `mark`, an
    /// entry of their environment.
    ///
    /// # Errors
    /// When the machine gives no process, pipe or socket.
    pub(crate) async fn start(
        shims: &Reserve,
        spec: &Spec,
        mark: Option<String>,
    ) -> io::Result<(Self, Pipes)> {
        let started = shims.take().await?;
        let mut reaper = started.reaper;
        reaper.mark = mark;
        started.socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(started.socket)?.into_split();
        let link = Link { reader: BufReader::new(reader), writer };
        let mut shimmed = Self { link: Some(link), reaper };
        let pipes = Pipes {
            stdout: pipe::Receiver::from_owned_fd(started.stdout)?,
            stderr: pipe::Receiver::from_owned_fd(started.stderr)?,
        };
        shimmed.send(&serde_json::to_vec(spec)?).await?;
        Ok((shimmed, pipes))
    }

    /// Tells the shim something; a shim that is gone is noticed by [`Shimmed::report`].
    pub(crate) async fn tell(&mut self, command: Command) {
        if let Ok(line) = serde_json::to_vec(&command) {
            drop(self.send(&line).await);
        }
    }

    async fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(link) = self.link.as_mut() else { return Ok(()) };
        let mut line = line.to_vec();
        line.push(b'\n');
        link.writer.write_all(&line).await
    }

    /// Waits for the shim's report; `None` when it went away without one. May be dropped and
    /// called again: `line` keeps what was read.
    pub(crate) async fn report(&mut self, line: &mut Vec<u8>) -> Option<Report> {
        let link = self.link.as_mut()?;
        drop(link.reader.read_until(b'\n', line).await);
        serde_json::from_slice(line).ok()
    }

    /// Lets a shim go on that the task has stopped.
    pub(crate) fn wake_shim(&self) {
        if let Some(shim) = self.reaper.pid() {
            let _gone = kill_process(shim, Signal::CONT);
        }
    }

    /// Ends the tree of a shim that does not do as it was told, then the shim. In this order: while
    /// the shim is there, no process of the tree can leave it. Returns how many were killed.
    pub(crate) async fn end_from_outside(&mut self) -> u32 {
        let Some(shim) = self.reaper.pid() else { return 0 };
        let raw = shim.as_raw_nonzero().get();
        let killed = tokio::task::spawn_blocking(move || stray::end_below(raw)).await;
        if let Some(child) = self.reaper.child.as_mut() {
            drop(child.kill());
        }
        killed.unwrap_or_default()
    }

    /// Waits until the shim's process is gone and, when it went without a report, until what it
    /// left is gone too. Returns how many processes had to be killed here.
    pub(crate) async fn finish(mut self, reported: bool) -> u32 {
        self.link = None;
        let mut reaper = self.reaper.take();
        tokio::task::spawn_blocking(move || reaper.reap(reported)).await.unwrap_or_default()
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let (ticket, mark) = (self.ticket, self.mark.take());
            let name = "carillon-reaper".to_owned();
            let reap = move || Self { child: Some(child), ticket, mark }.reap(false);
            let spawned = std::thread::Builder::new().name(name).spawn(reap);
            if let Err(error) = spawned {
                tracing::error!(%error, "an abandoned task is not waited for");
            }
        }
    }
}

impl Reaper {
    /// Moves the duty to wait to the answer.
    fn take(&mut self) -> Self {
        Self { child: self.child.take(), ticket: self.ticket, mark: self.mark.take() }
    }

    /// The shim's process, which has its id until it is reaped here.
    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.as_ref()?.id()).ok()?)
    }

    /// Blocks until the shim is gone; sweeps after it if it may have left something.
    fn reap(&mut self, reported: bool) -> u32 {
        let Some(mut child) = self.child.take() else { return 0 };
        let raw = i32::try_from(child.id()).unwrap_or_default();
        let status = child.wait();
        stray::forget_shim(raw, self.ticket);
        // A shim that exits by itself has seen its tree end.
        if reported || status.is_ok_and(|status| status.success()) {
            return 0;
        }
        LostShim { pid: raw, mark: self.mark.as_deref() }.sweep()
    }
}

impl Started {
    /// Starts `program` as a shim.
    pub(super) fn start(program: &Program) -> io::Result<Self> {
        let (socket, theirs) = StdUnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let _filed = stray::STARTING.read();
        let mut child = program.start_with(|path| {
            StdCommand::new(path)
                .arg0("carillon")
                .arg(carillon_shim::ARGUMENT)
                .env_clear()
                .stdin(theirs.try_clone()?)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        })?;
        let ticket = stray::file_shim(i32::try_from(child.id()).unwrap_or_default());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let reaper = Reaper { child: Some(child), ticket, mark: None };
        match (stdout, stderr) {
            (Some(stdout), Some(stderr)) => {
                Ok(Self { reaper, socket, stdout: stdout.into(), stderr: stderr.into() })
            }
            _ => Err(io::Error::other("the shim has no pipes")),
        }
    }

    /// Whether its process has not ended.
    pub(super) fn lives(&mut self) -> bool {
        self.reaper.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}
