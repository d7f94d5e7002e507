//! Task output on its way to the store and to those who watch.
//!
//! A task hands over its lines and goes on: nothing here ever makes it wait. Lines wait in the log
//! of their execution, within bounds, and one writer stores those of all executions in batches, by
//! time and by size. What the bounds dropped is stated where it was dropped (see `log_plan`). While
//! the store is away the writer keeps its batch and tries again; what a task says meanwhile waits
//! within the same bounds.
//!
//! Sessions that name the execution hear of lines once they are stored, so whoever sees line N live
//! can read every kept line up to N. Live messages are not numbered and may be left out (a session
//! that is slow, a task that floods): a jump in the line numbers means that the rest is to be read.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock::{Clock, Timestamp};
use crate::domain::event::instant_text;
use crate::runtime::events::TransientEvent;
use crate::runtime::executor::log_plan::{
    Drained, KeepLimits, StreamLog, TAIL_COST_A_SECOND, Turn,
};
use crate::runtime::sessions::LiveState;
use crate::store::{LogRow, LogTrim, Store, StoreError};
use crate::tasks::{LogBlock, LogLine, LogStream, Progress, TaskSink};

/// How long a batch waits for more lines, so that a chatty task does not make a commit a line.
const GATHER: Duration = Duration::from_millis(100);
/// Bytes of one stream that do not wait for more.
const HURRY_BYTES: usize = 64 * 1024;
/// What one stream may add to a batch, by cost.
const STREAM_BATCH_COST: usize = 128 * 1024;
/// Lines past the heads of all streams together that are stored a second, by cost.
const TAILS_COST_A_SECOND: f64 = 256.0 * 1024.0;
/// What a batch may hold, by cost.
const BATCH_COST: usize = 512 * 1024;
/// Bytes of all streams that may wait before each keeps only a few.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long the writer waits after the store refused a batch.
const RETRY: Duration = Duration::from_millis(500);
/// How often a batch is tried that the store refuses though it is there.
const TRIES: u32 = 5;
/// Lines of one execution that are told live in one go; of more, the newest.
const LIVE_LINES_MAX: usize = 200;

/// The way to the store; clones share it.
#[derive(Clone)]
pub struct LogWriter {
    shared: Arc<Shared>,
    /// The writer ends when the last of these is gone.
    _alive: mpsc::Sender<()>,
}

struct Shared {
    /// Logs that have something to store, each once.
    dirty: Mutex<Vec<Arc<ExecutionLog>>>,
    /// Something is dirty.
    filled: Notify,
    /// ... and should not wait for more.
    hurry: Notify,
    waiting_bytes: AtomicUsize,
    cost_max: usize,
    started: Instant,
}

impl LogWriter {
    /// A writer that keeps lines of `cost_max` bytes of each stream, and the future that does its
    /// work; the future ends when every writer is gone.
    pub fn new(store: Store, cost_max: usize) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (alive, gone) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            dirty: Mutex::default(),
            filled: Notify::new(),
            hurry: Notify::new(),
            waiting_bytes: AtomicUsize::new(0),
            cost_max,
            started: Instant::now(),
        });
        (Self { shared: Arc::clone(&shared), _alive: alive }, write(store, shared, gone))
    }
}

async fn write(store: Store, shared: Arc<Shared>, mut gone: mpsc::Receiver<()>) {
    loop {
        tokio::select! {
            () = shared.filled.notified() => {}
            _ = gone.recv() => return,
        }
        // Whoever hurries, or the time, ends the wait for more.
        drop(tokio::time::timeout(GATHER, shared.hurry.notified()).await);
        let logs = std::mem::take(&mut *shared.dirty.lock());
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let share = TAILS_COST_A_SECOND / logs.len().max(1) as f64;
        let rate = share.min(TAIL_COST_A_SECOND);
        let mut logs = logs.into_iter();
        let mut batch = Batch::default();
        for log in logs.by_ref() {
            log.is_dirty.store(false, Ordering::Release);
            batch.add(log, &shared, rate);
            if batch.cost >= BATCH_COST {
                break;
            }
        }
        for log in logs {
            // It is still marked, so nobody else enters it.
            shared.dirty.lock().push(log);
            shared.filled.notify_one();
            shared.hurry.notify_one();
        }
        batch.store(&store).await;
        batch.tell();
    }
}

/// What is stored in one transaction.
#[derive(Default)]
struct Batch {
    logs: Vec<(Arc<ExecutionLog>, std::ops::Range<usize>)>,
    rows: Vec<LogRow>,
    trims: Vec<LogTrim>,
    cost: usize,
}

impl Batch {
    fn add(&mut self, log: Arc<ExecutionLog>, shared: &Shared, rate: f64) {
        let drained = log.drain(shared, rate);
        let begin = self.rows.len();
        self.rows.extend(drained.rows);
        self.trims.extend(drained.trims);
        self.cost += drained.cost;
        self.logs.push((log, begin..self.rows.len()));
    }

    /// Stores everything; returns only then, or when the store refuses it for good.
    async fn store(&self, store: &Store) {
        if self.rows.is_empty() && self.trims.is_empty() {
            return;
        }
        let mut tries = 0;
        while tries < TRIES {
            match store.log_roll(self.rows.clone(), self.trims.clone()).await {
                Ok(()) => return,
                Err(StoreError::Unavailable(reason) | StoreError::Unwritable(reason)) => {
                    tracing::warn!(reason, "log lines wait for the store");
                }
                Err(error) => {
                    tracing::warn!(%error, "log lines could not be stored, trying again");
                    tries += 1;
                }
            }
            tokio::time::sleep(RETRY).await;
        }
        tracing::error!(lines = self.rows.len(), "log lines were given up");
    }

    /// Tells those who watch and those who wait.
    fn tell(self) {
        for (log, place) in self.logs {
            log.tell_live(self.rows.get(place).unwrap_or_default());
            let is_waiting = log.state.lock().is_waiting();
            if is_waiting {
                log.enter(log.is_over.load(Ordering::Acquire));
            } else if log.is_over.load(Ordering::Acquire) {
                log.is_stored.store(true, Ordering::Release);
                log.stored.notify_one();
            }
        }
    }
}

/// One execution's sink.
pub struct ExecutionLog {
    /// Itself, for the writer's list.
    me: Weak<Self>,
    row_id: i64,
    execution_id: Uuid,
    clock: Clock,
    writer: LogWriter,
    live: Arc<LiveState>,
    state: Mutex<State>,
    /// It stands in the writer's list.
    is_dirty: AtomicBool,
    /// No line comes any more.
    is_over: AtomicBool,
    /// Every line is stored that was there when it was over.
    is_stored: AtomicBool,
    stored: Notify,
}

struct State {
    next_line: i64,
    streams: [StreamLog; 3],
}

impl State {
    fn is_waiting(&self) -> bool {
        self.streams.iter().any(StreamLog::is_waiting)
    }

    fn waiting_bytes(&self) -> usize {
        self.streams.iter().map(StreamLog::waiting_bytes).sum()
    }
}

impl ExecutionLog {
    /// A sink for the execution (row id, public id) that keeps `lines_max` lines of each stream.
    #[must_use]
    pub fn new(
        (row_id, execution_id): (i64, Uuid),
        clock: Clock,
        writer: LogWriter,
        live: Arc<LiveState>,
        lines_max: usize,
    ) -> Arc<Self> {
        let limits = KeepLimits { cost: writer.shared.cost_max, lines: lines_max };
        let streams = [LogStream::Stdout, LogStream::Stderr, LogStream::System]
            .map(|stream| StreamLog::new(stream, limits));
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            row_id,
            execution_id,
            clock,
            writer,
            live,
            state: Mutex::new(State { next_line: 1, streams }),
            is_dirty: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_stored: AtomicBool::new(false),
            stored: Notify::new(),
        })
    }

    /// Waits until every line is stored, at most `limit`; the writer goes on after it.
    pub async fn close(&self, limit: Duration) {
        self.is_over.store(true, Ordering::Release);
        if self.state.lock().next_line == 1 {
            return;
        }
        self.enter(true);
        let stored = async {
            while !self.is_stored.load(Ordering::Acquire) {
                self.stored.notified().await;
            }
        };
        if tokio::time::timeout(limit, stored).await.is_err() {
            tracing::warn!(
                execution.id = self.row_id,
                "log lines of an ended task are not stored yet"
            );
        }
    }

    /// Enters it into the writer's list, once.
    fn enter(&self, is_urgent: bool) {
        let shared = &self.writer.shared;
        if !self.is_dirty.swap(true, Ordering::AcqRel)
            && let Some(me) = self.me.upgrade()
        {
            shared.dirty.lock().push(me);
            shared.filled.notify_one();
        }
        if is_urgent {
            shared.hurry.notify_one();
        }
    }

    fn drain(&self, shared: &Shared, rate: f64) -> Drained {
        let turn = Turn {
            execution_id: self.row_id,
            most: STREAM_BATCH_COST,
            now: shared.started.elapsed(),
            rate,
            is_over: self.is_over.load(Ordering::Acquire),
        };
        let mut all = Drained::default();
        let mut state = self.state.lock();
        let before = state.waiting_bytes();
        for stream in &mut state.streams {
            let drained = stream.drain(turn);
            all.rows.extend(drained.rows);
            all.trims.extend(drained.trims);
            all.cost += drained.cost;
        }
        let after = state.waiting_bytes();
        drop(state);
        shared.waiting_bytes.fetch_sub(before.saturating_sub(after), Ordering::Relaxed);
        all.rows.sort_unstable_by_key(|row| row.line);
        all
    }

    /// Tells sessions that named the execution of lines that are stored now.
    fn tell_live(&self, rows: &[LogRow]) {
        if rows.is_empty() || !self.is_watched() {
            return;
        }
        for row in rows.get(rows.len().saturating_sub(LIVE_LINES_MAX)..).unwrap_or_default() {
            let payload = json!({
                "line": row.line,
                "at": instant_text(row.at),
                "stream": row.stream,
                "text": row.text,
                "continues": row.continues,
                "dropped": row.dropped.map(|gap| json!({"lines": gap.lines, "bytes": gap.bytes})),
            });
            self.publish("execution_log", row.at, payload);
        }
    }

    fn is_watched(&self) -> bool {
        self.live.feed.transient().is_wanted(self.row_id, self.execution_id)
    }

    fn publish(&self, event_type: &'static str, at: Timestamp, payload: Value) {
        self.live.feed.transient().publish(TransientEvent {
            event_type,
            execution_id: self.row_id,
            execution_uuid: self.execution_id,
            at,
            payload,
        });
    }

    fn take(&self, block: LogBlock<'_>) -> bool {
        let shared = &self.writer.shared;
        let is_tight = shared.waiting_bytes.load(Ordering::Relaxed) > WAITING_BYTES_MAX;
        let place = match block.stream {
            LogStream::Stdout => 0,
            LogStream::Stderr => 1,
            LogStream::System => 2,
        };
        let mut state = self.state.lock();
        let before = state.waiting_bytes();
        let first = state.next_line;
        let Some(stream) = state.streams.get_mut(place) else { return false };
        let lines = stream.push(first, block, is_tight);
        let is_urgent = stream.waiting_bytes() >= HURRY_BYTES;
        state.next_line += lines;
        let after = state.waiting_bytes();
        drop(state);
        if after >= before {
            shared.waiting_bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            shared.waiting_bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
        is_urgent
    }
}

impl Drop for ExecutionLog {
    fn drop(&mut self) {
        // What was never stored (the writer is gone) waits no more.
        let left = self.state.get_mut().waiting_bytes();
        self.writer.shared.waiting_bytes.fetch_sub(left, Ordering::Relaxed);
    }
}

impl TaskSink for ExecutionLog {
    fn log(&self, line: LogLine) {
        let bytes = line.text.as_bytes();
        self.output(LogBlock {
            stream: line.stream,
            at: line.at,
            bytes: if bytes.is_empty() { b"\n" } else { bytes },
            line_limit: usize::MAX,
            is_last: true,
        });
    }

    fn output(&self, block: LogBlock<'_>) {
        let is_urgent = self.take(block);
        self.enter(is_urgent);
    }

    fn progress(&self, progress: Progress) {
        if self.is_watched() {
            let payload = json!({
                "percent": progress.percent,
                "etaMs": progress.eta_ms,
                "message": progress.message,
            });
            self.publish("execution_progress", self.clock.now(), payload);
        }
    }
}
