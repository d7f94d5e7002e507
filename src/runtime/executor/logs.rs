//! Task output on its way to the store and to those who watch.
//!
//! Lines go live to sessions at once and to the store in batches. The queue between is bounded:
//! when the store is slower than the tasks, lines are dropped and the gap is stated where it is,
//! never hidden. A task is never blocked by its log.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::clock::{Clock, Timestamp};
use crate::domain::event::instant_text;
use crate::runtime::events::TransientEvent;
use crate::runtime::sessions::LiveState;
use crate::store::{LogRow, Store};
use crate::tasks::{LogLine, Progress, TaskSink};

/// Lines that may wait for the store.
const QUEUE_LINES: usize = 20_000;
/// Lines a batch.
const BATCH_LINES: usize = 2_000;
/// How long a batch waits for more lines, so that a chatty task does not make a commit a line.
const GATHER: Duration = Duration::from_millis(50);
/// How long the writer waits after the store refused a batch.
const RETRY: Duration = Duration::from_millis(500);
/// How often a batch is tried before it is given up (the store was away for long).
const TRIES: u32 = 20;

enum Entry {
    Line(LogRow),
    /// Everything before it is in the store when the sender is answered.
    Flush(oneshot::Sender<()>),
}

/// The way to the store; clones share it.
#[derive(Clone)]
pub struct LogWriter {
    sender: mpsc::Sender<Entry>,
}

impl LogWriter {
    /// A writer and the future that does its work; the future ends when every writer is gone.
    pub fn new(store: Store) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = mpsc::channel(QUEUE_LINES);
        (Self { sender }, write(store, receiver))
    }

    /// Waits until what was logged before is stored, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        let (done, flushed) = oneshot::channel();
        let wait = async {
            if self.sender.send(Entry::Flush(done)).await.is_ok() {
                drop(flushed.await);
            }
        };
        if tokio::time::timeout(limit, wait).await.is_err() {
            tracing::warn!("log lines of an ended task are not stored yet");
        }
    }
}

async fn write(store: Store, mut receiver: mpsc::Receiver<Entry>) {
    let mut entries = Vec::with_capacity(BATCH_LINES);
    while receiver.recv_many(&mut entries, BATCH_LINES).await > 0 {
        let gathered = gather(&mut receiver, &mut entries);
        // Past the limit, what was gathered goes.
        drop(tokio::time::timeout(GATHER, gathered).await);
        let mut rows = Vec::with_capacity(entries.len());
        let mut waiting = Vec::new();
        for entry in entries.drain(..) {
            match entry {
                Entry::Line(row) => rows.push(row),
                Entry::Flush(done) => waiting.push(done),
            }
        }
        append(&store, rows).await;
        for done in waiting {
            let _gone = done.send(());
        }
    }
}

/// Waits for more lines until the batch is full or somebody waits for it.
async fn gather(receiver: &mut mpsc::Receiver<Entry>, entries: &mut Vec<Entry>) {
    while entries.len() < BATCH_LINES && !matches!(entries.last(), Some(Entry::Flush(_))) {
        let Some(entry) = receiver.recv().await else { return };
        entries.push(entry);
    }
}

async fn append(store: &Store, rows: Vec<LogRow>) {
    if rows.is_empty() {
        return;
    }
    for _ in 0..TRIES {
        match store.log_append(rows.clone()).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%error, "log lines could not be stored, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    tracing::error!(lines = rows.len(), "log lines were given up");
}

/// One execution's sink.
pub struct ExecutionLog {
    row_id: i64,
    execution_id: Uuid,
    clock: Clock,
    writer: LogWriter,
    live: Arc<LiveState>,
    lines_max: i64,
    next_line: AtomicI64,
    dropped: AtomicU64,
}

impl ExecutionLog {
    /// A sink for the execution (row id, public id) that keeps `lines_max` lines; what comes after
    /// is counted and stated.
    #[must_use]
    pub fn new(
        (row_id, execution_id): (i64, Uuid),
        clock: Clock,
        writer: LogWriter,
        live: Arc<LiveState>,
        lines_max: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            row_id,
            execution_id,
            clock,
            writer,
            live,
            lines_max: i64::try_from(lines_max).unwrap_or(i64::MAX),
            next_line: AtomicI64::new(1),
            dropped: AtomicU64::new(0),
        })
    }

    /// States what was dropped and waits until every line is stored, at most `limit`.
    pub async fn close(&self, limit: Duration) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.push("system", self.clock.now(), format!("{dropped} more lines were not kept"));
        }
        if self.next_line.load(Ordering::Relaxed) > 1 {
            self.writer.flush(limit).await;
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

    fn push(&self, stream: &str, at: Timestamp, text: String) {
        let line = self.next_line.fetch_add(1, Ordering::Relaxed);
        if self.is_watched() {
            let payload = json!({
                "line": line,
                "at": instant_text(at),
                "stream": stream,
                "text": text,
            });
            self.publish("execution_log", at, payload);
        }
        let row = LogRow { execution_id: self.row_id, line, at, stream: stream.to_owned(), text };
        if self.writer.sender.try_send(Entry::Line(row)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl TaskSink for ExecutionLog {
    fn log(&self, line: LogLine) {
        if self.next_line.load(Ordering::Relaxed) > self.lines_max {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.push(line.stream.name(), line.at, line.text);
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
