//! A task's output on its way from its pipes: masked, kept for the result, cut into lines for those
//! who watch.
//!
//! A pipe is drained as fast as the task writes, whatever happens to its output later: a task is
//! never blocked by its log. Everything is bounded: memory a stream, the file of its result, the
//! length of a line.

mod budget;
mod kept;
mod lines;
mod mask;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

pub(in crate::tasks) use self::budget::OutputBudget;
pub(in crate::tasks) use self::kept::HeadAndTail;
use self::lines::LineCutter;
pub use self::lines::{LogBlock, RawLine};
use self::mask::Masker;
pub(in crate::tasks) use self::mask::Secrets;
use super::outcome::{LogStream, TaskSink};
use crate::clock::Clock;

/// How long output may keep coming after the last process is gone: a pipe's end may have been
/// handed to a process outside of the tree.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// How much is read from a pipe at once: little from one that says little.
const CHUNK_MIN: usize = 4 * 1024;
/// ... and at most.
const CHUNK_MAX: usize = 64 * 1024;

/// What becomes of one stream.
pub(in crate::tasks) struct Capture<'a> {
    pub(in crate::tasks) stream: LogStream,
    pub(in crate::tasks) sink: &'a dyn TaskSink,
    pub(in crate::tasks) clock: &'a Clock,
    pub(in crate::tasks) secrets: Arc<Secrets>,
    /// The longest line, in bytes.
    pub(in crate::tasks) line_limit: usize,
    /// Bytes kept for the result.
    pub(in crate::tasks) keep: usize,
    /// Where a file for them may be made.
    pub(in crate::tasks) spool: Option<&'a Path>,
    /// What the task may still write, if that is limited.
    pub(in crate::tasks) budget: Option<&'a OutputBudget>,
}

impl Capture<'_> {
    /// Drains a pipe to its end, or until a while after the task is over. Lines have the instant
    /// at which they were read from the pipe.
    pub(in crate::tasks) async fn drain(
        self,
        mut pipe: impl AsyncRead + Unpin,
        mut is_over: watch::Receiver<bool>,
    ) -> HeadAndTail {
        let mut kept = HeadAndTail::new(self.keep, self.spool);
        let mut cutter = LineCutter::new(self.line_limit);
        let mut masker = Masker::new(Arc::clone(&self.secrets));
        let closing = async {
            drop(is_over.wait_for(|over| *over).await);
            tokio::time::sleep(DRAIN_LIMIT).await;
        };
        tokio::pin!(closing);
        let mut chunk = Vec::new();
        let mut size = CHUNK_MIN;
        loop {
            chunk.clear();
            chunk.reserve(size);
            let read = tokio::select! {
                read = pipe.read_buf(&mut chunk) => read,
                () = &mut closing => break,
            };
            match read {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    if length >= size {
                        size = (size * 4).min(CHUNK_MAX);
                    }
                    if let Some(budget) = self.budget {
                        budget.spend(length);
                    }
                    let shown = masker.push(&chunk);
                    kept.push(&shown);
                    cutter.push(&shown, &mut |bytes, limit| self.tell(bytes, limit, false));
                    // A pipe that is never empty must not keep the thread from other tasks.
                    tokio::task::yield_now().await;
                }
            }
        }
        let rest = masker.finish();
        kept.push(&rest);
        cutter.push(&rest, &mut |bytes, limit| self.tell(bytes, limit, false));
        cutter.finish(&mut |bytes, limit| self.tell(bytes, limit, true));
        kept
    }

    fn tell(&self, bytes: &[u8], line_limit: usize, is_last: bool) {
        let at = self.clock.now();
        self.sink.output(LogBlock { stream: self.stream, at, bytes, line_limit, is_last });
    }
}
